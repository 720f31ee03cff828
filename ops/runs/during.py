"""A run goes through a phase: an interrupt is heard before it, the hooks stand around it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ops.runs.hooks import run_hooks
from ops.runs.phases import Phase
from ops.runs.run import Run

__all__ = ["during", "enter"]


def enter(run: Run, phase: Phase) -> None:
    """Mark a phase without hooks: those of ops.toml are for deploys and the stack. An interrupt is raised here."""
    run.interruption.cancellation.check()
    run.phase = phase
    run.reporter.phase(phase)
    run.log.write(f"phase {phase}")


@contextmanager
def during(run: Run, phase: Phase) -> Iterator[None]:
    """Mark a phase: its hooks before, its body, its hooks after; an interrupt before it is raised here."""
    enter(run, phase)
    run_hooks(run, "before", phase)
    yield
    run_hooks(run, "after", phase)

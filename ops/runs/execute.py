"""Carries out the steps of a plan on one server."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from ops.engines.facts import containers_query, parse_containers
from ops.errors import OpsError
from ops.gates.health import soak, wait_healthy
from ops.hosts import Cancellation, Host
from ops.runs.log import RunLog
from ops.runs.reporting import Reporter
from ops.strategies.steps import Act, Drain, Gate, Pause, Soak, Step, View

__all__ = ["Workbench", "execute"]

DRAIN_LOOK = 0.2


@dataclass(frozen=True)
class Workbench:
    """What executing needs beside the host: where to tell, where to warn, and the flag that ends the waiting."""

    project: str
    reporter: Reporter
    log: RunLog
    cancellation: Cancellation
    warn: Callable[[str], None]


def execute(steps: Sequence[Step], host: Host, view: View, bench: Workbench) -> View:
    """Run steps in order and return what is then known of the server.

    Raises OpsError with the step's name at the first that fails; the steps behind it are not begun.
    """
    restarts = {container.id: container.restarts for container in view.containers}
    for step in steps:
        bench.cancellation.check()
        bench.reporter.step(host.name, step.title)
        bench.log.write(step.title, host.name)
        view = _one(step, host, view, bench, restarts)
    return view


def _one(step: Step, host: Host, view: View, bench: Workbench, restarts: Mapping[str, int]) -> View:
    if isinstance(step, Act):
        return _act(step, host, view, bench)
    if isinstance(step, Gate):
        containers = wait_healthy(
            host, bench.project, step.spec, view.containers, bench.cancellation, step.leaving, restarts
        )
        return replace(view, containers=containers)
    if isinstance(step, Soak):
        containers = soak(host, bench.project, step.spec, view.containers, bench.cancellation, step.leaving)
        return replace(view, containers=containers)
    if isinstance(step, Drain):
        _drain(step, host, view, bench)
        return view
    assert isinstance(step, Pause)
    bench.cancellation.wait(step.seconds)
    return view


def _act(step: Act, host: Host, view: View, bench: Workbench) -> View:
    commands = step.commands(view)
    question = (containers_query(bench.project),) if step.refresh else ()
    results = host.run_all((*commands, *question))
    for command, result in zip(commands, results, strict=False):
        bench.log.write(f"$ {command.shown}\n{result.stdout}{result.stderr}".rstrip(), host.name)
        if not result.ok:
            raise OpsError(
                f"{step.title}: {result.last_lines or f'status {result.status}'}", target=host.name
            )
    if step.note:
        view = replace(view, notes={**view.notes, step.note: results[len(commands) - 1].stdout})
    if step.refresh:
        answer = results[-1]
        if not answer.ok:
            raise OpsError(f"docker does not answer: {answer.last_lines}", target=host.name)
        view = replace(view, containers=parse_containers(answer.stdout))
    return view


def _drain(step: Drain, host: Host, view: View, bench: Workbench) -> None:
    waiting = set(view.notes.get(step.note, "").split())
    end = time.monotonic() + step.deadline
    while waiting:
        waiting &= set(host.run(step.probe).stdout.split())
        if not waiting:
            return
        if time.monotonic() > end:
            count = host.run(step.left_over(view)).stdout.strip() or "an unknown number of"
            bench.warn(
                f"{host.name}: {count} connection(s) cut: still open after {step.deadline:g} s of draining"
            )
            return
        bench.cancellation.wait(DRAIN_LOOK)

"""A run that does not hold the stack's lock, in the journal all the same: a backup, a drill."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ops.errors import Interrupted, OpsError
from ops.hosts import Cancellation, Cancelled
from ops.runs.journal import add
from ops.runs.run import Run

__all__ = ["journalled", "note"]


@contextmanager
def journalled(run: Run) -> Iterator[None]:
    """Whatever the end, the journal has it."""
    try:
        yield
    except Exception as caught:
        told = run.told(caught)
    else:
        return
    run.interruption.fresh()
    word = "interrupted" if isinstance(told, Interrupted) else "failed"
    note(run, word, exit_code=told.exit_code, seconds=run.seconds, message=run.settings.redactor(str(told)))
    told.outcome = run.outcome({})
    raise told


def note(run: Run, event: str, **fields: object) -> None:
    """Write a line of the run into the journal; one that cannot be written is a warning."""
    host = run.reach[run.state_host].with_cancellation(Cancellation())
    try:
        result = host.run(add(run.layout, run.journal(event, **fields)))
        trouble = None if result.ok else result.last_lines
    except (OpsError, Cancelled) as error:
        trouble = str(error)
    if trouble is not None:
        run.warn(f"{run.state_host}: the journal lacks this run: {trouble}")

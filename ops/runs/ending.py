"""The end of a run: the journal's last line, and the lock given back or left as a dead run's."""

from __future__ import annotations

from collections.abc import Callable

from ops.commands import Command
from ops.engines.layout import Layout
from ops.errors import Locked, OpsError
from ops.hosts import Cancellation, Cancelled
from ops.runs import lock
from ops.runs.heartbeat import stop_heartbeat
from ops.runs.run import Run

__all__ = ["abandon", "finish"]


def finish(run: Run, event: str, exit_code: int, message: str | None = None) -> None:
    """Stop the heartbeat, write the journal's last line, give the lock back. Never raises; what fails is a warning."""
    _end(run, event, exit_code, message, lock.release, "given back")


def abandon(run: Run, event: str, exit_code: int, message: str | None = None) -> None:
    """End as `finish` does, but leave the lock as that of a dead run: what it did waits for --resume or rollback."""
    _end(run, event, exit_code, message, lock.abandon, "marked")


def _end(
    run: Run,
    event: str,
    exit_code: int,
    message: str | None,
    command: Callable[[Layout, str], Command],
    what: str,
) -> None:
    stop_heartbeat(run)
    if run.fence is None or run.overtaken:
        return
    text = run.settings.redactor(message) if message else None
    entry = run.journal(event, exit_code=exit_code, seconds=run.seconds, message=text)
    try:
        host = run.with_cancellation(Cancellation())[run.state_host]
        result = host.run(command(run.layout, entry.to_json()))
        trouble = None if result.ok else result.last_lines
        if result.status == lock.UNWRITTEN:
            run.warn(f"{run.state_host}: the journal lacks the end of this run: {result.last_lines}")
            return
    except Locked:
        return  # it is another's by now
    except (OpsError, Cancelled) as error:
        trouble = str(error)
    if trouble is not None:
        run.warn(
            f"{run.state_host}: the lock could not be {what}: {trouble}; inv deploy.unlock {run.settings.options}"
        )

"""What a restore and its undo have in common: locks, and an end that the journal tells."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

from ops.commands import Command, quote
from ops.errors import Interrupted, OpsError, RolledBack
from ops.hosts import Cancelled, Host
from ops.hosts.fleet import each, together
from ops.restore.places import Place
from ops.runs.acquiring import take_lock
from ops.runs.ending import finish
from ops.runs.lease import leased_by
from ops.runs.lock import Holder
from ops.runs.run import Run, operator

__all__ = ["alone", "ending", "lock_stack"]


@contextmanager
def ending(run: Run) -> Iterator[None]:
    """Write the journal's last line and give the lock back, whatever the end."""
    try:
        yield
    except Cancelled:
        told = run.stopped_by or Interrupted(
            f"{run.action} was interrupted", signal_number=run.interruption.number or 2
        )
    except Exception as caught:
        told = caught if isinstance(caught, OpsError) else run.unexpected(caught)
    else:
        finish(run, "done", 0)
        return
    run.interruption.fresh()
    words = {RolledBack: "rolled_back", Interrupted: "interrupted"}
    finish(run, words.get(type(told), "failed"), told.exit_code, str(told))
    told.outcome = run.outcome({})
    raise told


def lock_stack(run: Run, wait: float) -> None:
    """Take the lock of the stack, waiting so many seconds for another run; raises as `take_lock` does."""

    def token(host: Host) -> int:
        text = host.run(
            Command(f"cat {quote(run.layout.fence)} 2>/dev/null || true", title="which run is known here")
        )
        first = text.stdout.split(" ")[0]
        return int(first) if first.isdigit() else 0

    floor = max(together(each(run.reach, token)).values())
    holder = Holder(run.run_id, run.action, operator(), run.started_at)
    take_lock(run, holder, floor=floor, take_over=None, wait=wait)


def alone(run: Run, places: Mapping[str, Place], wait: float) -> AbstractContextManager[None]:
    """No backup is taken of what is being restored."""
    return leased_by(run, {place.store.server for place in places.values()}, wait)

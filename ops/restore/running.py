"""What a restore and its undo have in common: locks, and an end that the journal tells."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

from ops.commands import Command, quote
from ops.errors import Interrupted, RolledBack
from ops.hosts import Host
from ops.hosts.fleet import each, together
from ops.restore.places import Place
from ops.runs.acquiring import take_lock
from ops.runs.ending import finish
from ops.runs.lease import leased_by
from ops.runs.lock import Holder, look, read_look
from ops.runs.run import Run, operator

__all__ = ["alone", "ending", "lock_stack", "tag_of"]


@contextmanager
def ending(run: Run) -> Iterator[None]:
    """Write the journal's last line and give the lock back, whatever the end."""
    try:
        yield
    except Exception as caught:
        told = run.told(caught)
    else:
        finish(run, "done", 0)
        return
    run.interruption.fresh()
    words = {RolledBack: "rolled_back", Interrupted: "interrupted"}
    finish(run, words.get(type(told), "failed"), told.exit_code, str(told))
    told.outcome = run.outcome({})
    raise told


def lock_stack(run: Run, wait: float, *, finish: bool = False) -> Holder | None:
    """Take the lock of the stack, waiting so many seconds for another run; raises as `take_lock` does.

    With `finish`, the lock of a restore that died is taken over: that one is returned.
    """

    def token(host: Host) -> int:
        text = host.run(
            Command(f"cat {quote(run.layout.fence)} 2>/dev/null || true", title="which run is known here")
        )
        first = text.stdout.split(" ")[0]
        return int(first) if first.isdigit() else 0

    floor = max(together(each(run.reach, token)).values())
    dead = None
    if finish:
        _, dead = read_look(run.reach[run.state_host].run(look(run.layout)).stdout)
    take_over = dead.run_id if dead is not None and dead.action.startswith("restore") else None
    holder = Holder(run.run_id, run.action, operator(), run.started_at)
    take_lock(run, holder, floor=floor, take_over=take_over, wait=wait)
    return dead if run.took_over else None


def alone(run: Run, places: Mapping[str, Place], wait: float) -> AbstractContextManager[None]:
    """No backup is taken of what is being restored."""
    return leased_by(run, {place.store.server for place in places.values()}, wait)


def tag_of(run_id: str) -> str:
    """Return the name that a run gives to what it makes beside the live data."""
    return run_id.replace("-", "").lower()

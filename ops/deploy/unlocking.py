"""Take a lock away that no living run holds."""

from __future__ import annotations

from collections.abc import Callable

from ops.commands import Command, quote
from ops.config import Settings
from ops.deploy.survey import layout_of
from ops.errors import Locked, OpsError
from ops.hosts import Host
from ops.runs.journal import Entry, append, now
from ops.runs.lock import AGE, Holder, look, read_look
from ops.runs.run import new_run_id, operator

__all__ = ["unlock"]

ALIVE = 75


def unlock(
    settings: Settings,
    state: Host,
    *,
    force: bool,
    ask: Callable[[Holder | None, float], object] = lambda holder, age: None,
) -> Holder | None:
    """Remove the lock and return who held it; None when there was none.

    `ask` is told the holder (None: it cannot be read) and the heartbeat's age in seconds, and may raise. A living
    holder is left alone unless `force`: raises Locked that names it. What the dead run did stays as it is.
    """
    layout = layout_of(settings)
    found = state.run(look(layout)).stdout
    if not found.strip():
        return None
    age, seen = read_look(found)
    if age < settings.config.lock.stale_after and not force:
        raise _alive(state.name, seen)
    ask(seen, age)
    limit = round(settings.config.lock.stale_after * 1000)
    run_id = new_run_id()
    entry = Entry(now(), run_id, "deploy.unlock", "done", operator()).to_json()
    guard = "" if force else f"[ $age -ge {limit} ] || exit {ALIVE}; "
    # What was agreed to is this run's lock, not that of one which came since.
    guard += f"grep -qF {quote(seen.run_id)} locks/change/holder.json || exit {ALIVE}; " if seen else ""
    result = state.run(
        Command(
            f"cd {quote(layout.root)} 2>/dev/null && [ -d locks/change ] || exit 0; cat locks/change/holder.json 2>/dev/null; "
            f"{AGE} {guard}"
            # The fence goes up too: should the run only have been frozen, it changes nothing more when it wakes.
            "exec 9>>.fence.lock; flock -x -w 20 9 || { echo 'a command of that run is still at work here' >&2; exit 1; }; "
            "t=$(( $(cat locks/change.token 2>/dev/null || echo 0) + 1 )); echo $t > locks/change.token && "
            f"printf '%s %s\\n' $t {quote(run_id)} > fence && rm -rf locks/change && echo removed || exit 1; "
            f"{append(entry)} || true",
            changes="lock",
            title="remove the lock",
        )
    )
    first = result.stdout.splitlines()[0] if result.stdout else ""
    holder = Holder.from_json(first if first.startswith("{") else None)
    if result.status == ALIVE:
        raise _alive(state.name, holder)
    if not result.ok:
        raise OpsError(f"the lock could not be removed: {result.last_lines}", target=state.name)
    if "removed" not in result.stdout:
        return None
    return holder or Holder("unknown", "unknown", "unknown", "unknown")


def _alive(server: str, holder: Holder | None) -> Locked:
    told = f"{holder.action} by {holder.who}, run {holder.run_id}" if holder else "a run"
    return Locked(
        f"{told} is alive",
        target=server,
        next_step="wait for it; or, if you are sure that it is gone, add --force",
    )

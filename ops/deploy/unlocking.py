"""Take a lock away that no living run holds."""

from __future__ import annotations

from ops.commands import Command, quote
from ops.config import Settings
from ops.deploy.survey import layout_of
from ops.errors import Locked, OpsError
from ops.hosts import Host
from ops.runs.journal import Entry, now
from ops.runs.lock import Holder
from ops.runs.run import new_run_id, operator

__all__ = ["unlock"]


def unlock(settings: Settings, state: Host, *, force: bool) -> Holder | None:
    """Remove the lock and return who held it; None when there was none.

    A living holder is left alone unless `force`: raises Locked that names it. What the dead run did stays as it is.
    """
    layout = layout_of(settings)
    limit = int(settings.config.lock.stale_after)
    entry = Entry(now(), new_run_id(), "deploy.unlock", "done", operator()).to_json()
    guard = "" if force else f"[ $age -ge {limit} ] || exit 75; "
    result = state.run(
        Command(
            f"cd {quote(layout.root)} 2>/dev/null && [ -d locks/change ] || exit 0; cat locks/change/holder.json 2>/dev/null; "
            "age=$(( $(date +%s) - $(stat -c %Y locks/change/heartbeat 2>/dev/null || stat -c %Y locks/change) )); "
            f"{guard}rm -rf locks/change && printf '%s\\n' {quote(entry)} >> journal.jsonl && echo removed",
            changes="lock",
            title="remove the lock",
        )
    )
    first = result.stdout.splitlines()[0] if result.stdout else ""
    holder = Holder.from_json(first if first.startswith("{") else None)
    if result.status == 75:
        told = f"{holder.action} by {holder.who}, run {holder.run_id}" if holder else "a run"
        raise Locked(
            f"{told} is alive",
            target=state.name,
            next_step="wait for it; or, if you are sure that it is gone, add --force",
        )
    if not result.ok:
        raise OpsError(f"the lock could not be removed: {result.last_lines}", target=state.name)
    if "removed" not in result.stdout:
        return None
    return holder or Holder("unknown", "unknown", "unknown", "unknown")

"""How old the newest good backup is, against what may be lost."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ops.archive.catalog import Catalog, newest_whole

__all__ = ["BackupStatus", "backup_status"]


@dataclass(frozen=True)
class BackupStatus:
    """`code` is Nagios' own: 0 within the RPO; 1 within it, and something is damaged; 2 older, none at all, or an alarm.

    An alarm says why no increment can follow on the newest chain, so that only a full backup helps.

    `age` and `rpo` are seconds; `newest` is the newest good backup of all datastores, None where there is none.
    """

    code: int
    newest: str | None
    age: float | None
    rpo: float
    damaged: tuple[str, ...]
    alarms: tuple[str, ...] = ()


def backup_status(found: Catalog, rpo: float, now: datetime, alarms: tuple[str, ...] = ()) -> BackupStatus:
    """Return the status of what the storage lists. The age counts from the start: rows written since are not in it."""
    newest = newest_whole(found.entries, now)
    damaged = tuple(entry.id for entry in found.entries if entry.fault is not None)
    if newest is None:
        return BackupStatus(2, None, None, rpo, damaged, alarms)
    age = max(0.0, (now - datetime.fromisoformat(newest.started_at)).total_seconds())
    code = 2 if age > rpo or alarms else 1 if damaged else 0
    return BackupStatus(code, newest.id, age, rpo, damaged, alarms)

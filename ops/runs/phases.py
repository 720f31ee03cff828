"""The phases of a run, in order. What may be interrupted, killed or frozen is tested for each member."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["Phase"]


class Phase(StrEnum):
    """Up to UPLOAD nothing serves differently; from SWITCH on a failure rolls back."""

    CHECK = "check"
    LOCK = "lock"
    FETCH = "fetch"
    UPLOAD = "upload"
    BACKUP = "backup"
    MIGRATE = "migrate"
    SWITCH = "switch"
    SMOKE = "smoke"
    COMMIT = "commit"

    @property
    def changes_services(self) -> bool:
        """True from the phase on in which what serves may have changed."""
        return self in (Phase.SWITCH, Phase.SMOKE, Phase.COMMIT)

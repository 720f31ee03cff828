"""Whether the storage can take backups, and what it should keep by itself: looked at, and put right where asked for."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from ops.config import Settings
from ops.storage.base import Finding, StorageFailed
from ops.storage.opening import open_storage, wishes_of

__all__ = ["Prepared", "prepare"]


@dataclass(frozen=True)
class Prepared:
    """What was found of the storage, behind what was `done`; in a dry run `done` is what would be.

    `wanted` is what else it lacks, and an `apply` or a `create` gives it.
    """

    storage: str
    findings: tuple[Finding, ...]
    done: tuple[str, ...]
    wanted: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether backups suffer by nothing that was found."""
        return all(one.ok is not False for one in self.findings)


def prepare(settings: Settings, state_host: str, *, create: bool, apply: bool, really: bool) -> Prepared:
    """Look at the storage, make it (`create`) and give it its rules (`apply`); raises StorageFailed, ConfigError."""
    storage, wishes = open_storage(settings), wishes_of(settings, state_host)
    done = storage.prepare(wishes, create=create, apply=apply, really=really)
    findings = storage.examine(wishes)
    lacks: tuple[str, ...] = ()
    with suppress(StorageFailed):  # rules that may not be looked at, which the findings tell
        lacks = storage.prepare(wishes, create=True, apply=True, really=False)
    return Prepared(storage.shown, findings, done, tuple(text for text in lacks if text not in done))

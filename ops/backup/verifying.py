"""Whether backups are what their manifests say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ops.archive.catalog import Entry, linked
from ops.archive.manifest import NAME, VERIFIED, Damaged, Manifest, Part, Verified
from ops.archive.reading import check_part
from ops.backup.listing import backups, chosen_backup, restored
from ops.config import Settings
from ops.errors import UsageError
from ops.runs.journal import now
from ops.storage.base import Storage
from ops.storage.opening import open_storage

__all__ = ["Looked", "ids_to_verify", "verify", "verify_all"]


@dataclass(frozen=True)
class Looked:
    """A backup and what was found of it."""

    id: str
    verified: Verified


def verify_all(
    settings: Settings,
    wanted: str | None,
    level: int,
    prove: Callable[[Manifest], object] | None = None,
) -> tuple[Looked, ...]:
    """Look at a backup (`latest` is the newest whole one), or at all, and return what was found, the oldest first.

    An increment that is good itself is told broken where what it builds on is not, and that is not written down.
    `prove` is what levels 2 and 3 do. Raises UsageError for an id that there is not, StorageFailed, and what `prove`
    raises but for Damaged.
    """
    storage = open_storage(settings)
    entries = backups(settings, storage).entries
    chosen = _chosen(settings, entries, wanted)

    def proving(manifest: Manifest) -> None:
        """A restore is of all that an increment builds on, and has no use for what serves a chain alone."""
        assert prove is not None
        whole = restored(entries, manifest) if level > 2 else manifest
        prove(whole)
        seen = {stored.key for part in _parts(whole) for stored in part.objects}
        for part in _parts(manifest):
            if part.objects[0].key not in seen:
                check_part(storage, part)

    how = proving if prove is not None else None
    found = {entry.folder: verify(storage, entry, level, prove=how) for entry in chosen}
    seen = {folder: verified for folder, verified in found.items() if verified is not None}
    known = linked(replace(entry, verified=seen.get(entry.folder, entry.verified)) for entry in entries)
    return tuple(
        Looked(entry.id, replace(seen[entry.folder], fault=entry.fault))
        for entry in known
        if entry.folder in seen
    )


def ids_to_verify(settings: Settings, wanted: str | None) -> tuple[str, ...]:
    """Return the ids of the backups that `verify_all` would look at; raises as it does."""
    return tuple(entry.id for entry in _chosen(settings, backups(settings).entries, wanted))


def verify(
    storage: Storage,
    entry: Entry,
    level: int,
    check: Callable[[], object] = lambda: None,
    prove: Callable[[Manifest], object] | None = None,
) -> Verified | None:
    """Look at a backup at a level, write down beside it what was found, and return that; None where it was removed meanwhile.

    Level 0: its manifest can be read, and all objects are there in their size. Level 1: all are read and hashed as well.
    Levels 2 and 3 are what `prove` does, which reads and hashes as it goes. `check` is called all along and may raise.
    Raises StorageFailed where the storage does not answer: that says nothing of the backup. What a level finds is not
    forgotten by a look at a lower one.
    """
    fault = entry.listed_fault
    if fault is None and level >= 1 and entry.manifest is not None:
        try:
            if prove is not None:
                prove(entry.manifest)
            else:
                for part in _parts(entry.manifest):
                    check_part(storage, part, check)
        except Damaged as error:
            fault = str(error)
    if fault is not None and not any(storage.items(f"{entry.folder}{NAME}")):
        return None
    known = entry.verified
    if fault is None and known is not None and known.level > level:
        return known
    found = Verified(now(), level, fault)
    storage.put(f"{entry.folder}{VERIFIED}", found.to_json())
    return found


def _chosen(settings: Settings, entries: Sequence[Entry], wanted: str | None) -> list[Entry]:
    if wanted == "latest":
        wanted = chosen_backup(settings, wanted).id
    chosen = [entry for entry in entries if wanted in (None, entry.id)]
    if wanted is not None and not chosen:
        raise UsageError(f"there is no backup {wanted}", next_step=f"inv backup.list {settings.options}")
    return chosen


def _parts(manifest: Manifest) -> list[Part]:
    return [part for saved in manifest.datastores.values() for part in saved.parts]

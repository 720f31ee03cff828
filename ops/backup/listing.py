"""The backups that there are."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from ops.archive.catalog import Catalog, Entry, catalog, newest_whole
from ops.archive.chains import chains
from ops.archive.manifest import Damaged, Manifest
from ops.archive.moments import as_of, at_moment, parsed_moment
from ops.config import Settings
from ops.errors import UsageError
from ops.storage.base import Storage
from ops.storage.opening import listed_below, open_storage, written_by

__all__ = ["backup_at", "backups", "chosen_backup", "restored"]


def backups(settings: Settings, storage: Storage | None = None) -> Catalog:
    """Return all backups of the stack and environment, and what runs that died left; raises StorageFailed."""
    return catalog(
        storage or open_storage(settings),
        listed_below(settings),
        settings.stack,
        settings.environment,
        written_by(settings),
    )


def chosen_backup(settings: Settings, wanted: str, storage: Storage | None = None) -> Manifest:
    """Return what a backup restores, by its id, or the newest whole one for `latest`: neither a safety backup, nor one of some datastores or from the future.

    Raises UsageError where there is none such, Damaged where its manifest or an object of it is not what was written.
    """
    entries = backups(settings, storage).entries
    list_them = f"inv backup.list {settings.options}"
    if wanted == "latest":
        newest = newest_whole(entries, datetime.now(UTC))
        if newest is None:
            raise UsageError(
                f"there is no whole backup of {settings.stack} {settings.environment}", next_step=list_them
            )
        return restored(entries, newest)
    entry = next((entry for entry in entries if entry.id == wanted), None)
    if entry is None:
        raise UsageError(
            f"there is no backup {wanted} of {settings.stack} {settings.environment}",
            next_step=f"{list_them}; --from-env NAME restores one of another environment",
        )
    if entry.manifest is None or entry.missing or entry.broken:  # what else is wrong, the restore finds
        raise Damaged(f"backup {wanted} is damaged: {entry.fault}", next_step=list_them)
    return restored(entries, entry.manifest)


def backup_at(
    settings: Settings, moment: str, only: Sequence[str] = (), storage: Storage | None = None
) -> Manifest:
    """Return what brings the datastores, or those in `only`, back as they were at a moment, in RFC 3339.

    Raises UsageError for what is no moment, and for one that no backup reaches, with those that are possible.
    """
    names = tuple(name.partition("/")[0] for name in only)
    return at_moment(chains(backups(settings, storage).entries), parsed_moment(moment), names)


def restored(entries: Sequence[Entry], manifest: Manifest) -> Manifest:
    """Return what a backup restores: with all that it builds on, where it is an increment."""
    if manifest.kind == "full":
        return as_of((manifest,), manifest.id)
    found = next((chain for chain in chains(entries) if manifest in chain), None)
    if found is None:
        raise Damaged(f"backup {manifest.id} builds on one that is damaged, or is so itself")
    return as_of(found, manifest.id)

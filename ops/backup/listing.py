"""The backups that there are."""

from __future__ import annotations

from ops.archive.catalog import Catalog, catalog
from ops.archive.manifest import Damaged, Manifest
from ops.config import Settings
from ops.errors import UsageError
from ops.storage.opening import listed_below, open_storage

__all__ = ["backups", "chosen_backup"]


def backups(settings: Settings) -> Catalog:
    """Return all backups of the stack and environment, and what runs that died left; raises StorageFailed."""
    return catalog(open_storage(settings), listed_below(settings), settings.stack, settings.environment)


def chosen_backup(settings: Settings, wanted: str) -> Manifest:
    """Return the manifest of a backup by its id, or of the newest whole one for `latest`, safety backups left out.

    Raises UsageError where there is none such, Damaged where its manifest or an object of it is not what was written.
    """
    entries = backups(settings).entries
    list_them = f"inv backup.list {settings.options}"
    if wanted == "latest":
        whole = [
            entry.manifest
            for entry in entries
            if entry.manifest is not None and entry.fault is None and not entry.manifest.safety
        ]
        if not whole:
            raise UsageError(
                f"there is no whole backup of {settings.stack} {settings.environment}", next_step=list_them
            )
        return whole[-1]
    entry = next((entry for entry in entries if entry.id == wanted), None)
    if entry is None:
        raise UsageError(
            f"there is no backup {wanted} of {settings.stack} {settings.environment}",
            next_step=f"{list_them}; --from-env NAME restores one of another environment",
        )
    if entry.manifest is None or entry.missing:  # what else is wrong, the restore finds when it reads it
        raise Damaged(f"backup {wanted} is damaged: {entry.fault}", next_step=list_them)
    return entry.manifest

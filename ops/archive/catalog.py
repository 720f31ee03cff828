"""The backups of an environment as the storage lists them."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import PurePosixPath

from ops.archive.manifest import NAME, Damaged, Manifest
from ops.storage.base import Item, Storage

__all__ = ["Catalog", "Entry", "catalog"]

AT_ONCE = 16


@dataclass(frozen=True)
class Entry:
    """A backup in the storage: its folder (a key prefix), its manifest or why that cannot be read, and what is there."""

    folder: str
    manifest: Manifest | None
    damage: str | None
    items: tuple[Item, ...]

    @property
    def id(self) -> str:
        """The backup's id, which sorts by time."""
        return PurePosixPath(self.folder).name

    @property
    def missing(self) -> tuple[str, ...]:
        """Keys that the manifest names and that are not there, or not in their size: verify level 0."""
        if self.manifest is None:
            return ()
        sizes = {item.key: item.size for item in self.items}
        return tuple(
            stored.key
            for saved in self.manifest.datastores.values()
            for part in saved.parts
            for stored in part.objects
            if sizes.get(stored.key) != stored.size
        )


@dataclass(frozen=True)
class Catalog:
    """All backups, the oldest first, and the keys of what runs that died left: folders without a manifest."""

    entries: tuple[Entry, ...]
    leftovers: tuple[Item, ...]


def catalog(storage: Storage, prefix: str, stack: str, environment: str) -> Catalog:
    """Return what stands below `prefix`; manifests of other stacks and environments are passed over."""
    folders: dict[str, list[Item]] = {}
    for item in storage.items(prefix):
        folders.setdefault(f"{PurePosixPath(item.key).parent}/", []).append(item)
    complete = [name for name, items in folders.items() if any(_is_manifest(item) for item in items)]

    def look(folder: str) -> Entry:
        try:
            content = b"".join(storage.read(f"{folder}{NAME}"))
            manifest = Manifest.from_json(content, f"{folder}{NAME}")
        except (Damaged, KeyError) as error:
            return Entry(folder, None, str(error), tuple(folders[folder]))
        return Entry(folder, manifest, None, tuple(folders[folder]))

    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = tuple(pool.map(look, complete))
    ours = (
        entry
        for entry in found
        if entry.manifest is None
        or (entry.manifest.stack, entry.manifest.environment) == (stack, environment)
    )
    rest = (items for name, items in folders.items() if name not in complete)
    return Catalog(tuple(sorted(ours, key=lambda entry: entry.id)), tuple(_flat(rest)))


def _is_manifest(item: Item) -> bool:
    return item.key.endswith(f"/{NAME}")


def _flat(groups: Iterable[Iterable[Item]]) -> Iterable[Item]:
    return (item for group in groups for item in group)

"""The backups of an environment as the storage lists them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import chain
from pathlib import PurePosixPath

from ops.archive.manifest import NAME, VERIFIED, Damaged, Manifest, Verified
from ops.storage.base import Item, Storage

__all__ = ["Catalog", "Entry", "catalog", "linked", "newest_whole"]

AT_ONCE = 16


@dataclass(frozen=True)
class Entry:
    """A backup in the storage: its folder (a key prefix), its manifest or why that cannot be read, and what is there.

    `verified` is the last look at it beyond the list. `broken` says why nothing can be restored from an increment that is
    good itself: what it builds on is not.
    """

    folder: str
    manifest: Manifest | None
    damage: str | None
    items: tuple[Item, ...]
    verified: Verified | None = None
    broken: str | None = None

    @property
    def fault(self) -> str | None:
        """What is wrong with it, as far as the list and the last verification tell; None for a good one."""
        return (
            self.listed_fault or (self.verified.fault if self.verified is not None else None) or self.broken
        )

    @property
    def listed_fault(self) -> str | None:
        """The same as far as the list alone tells: verify level 0."""
        missing = self.missing
        if missing:
            return f"{len(missing)} object(s) missing or cut off, such as {missing[0]}"
        return self.damage

    @property
    def id(self) -> str:
        """The backup's id, which sorts by time."""
        return PurePosixPath(self.folder).name

    @property
    def missing(self) -> tuple[str, ...]:
        """Keys that the manifest names and that are not there, or not in their size."""
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


def catalog(
    storage: Storage,
    prefix: str,
    stack: str,
    environment: str,
    owns: Callable[[str], bool] = lambda key: True,
) -> Catalog:
    """Return what stands below `prefix`; manifests of other stacks and environments are passed over.

    Of what does not say whose it is, that alone counts whose key is one of theirs, as `owns` tells.
    """
    folders: dict[str, list[Item]] = {}
    for item in storage.items(prefix):
        folders.setdefault(f"{PurePosixPath(item.key).parent}/", []).append(item)
    complete = [name for name, items in folders.items() if any(_is_manifest(item) for item in items)]

    def look(folder: str) -> Entry | None:
        try:
            content = b"".join(storage.read(f"{folder}{NAME}"))
            manifest = Manifest.from_json(content, f"{folder}{NAME}")
            if manifest.id != PurePosixPath(folder).name:
                raise Damaged(f"{folder}{NAME} is the manifest of another backup, {manifest.id}")
        except Damaged as error:
            return Entry(folder, None, str(error), tuple(folders[folder]))
        except KeyError:
            return None  # removed since it was listed
        looked = None
        if any(item.key == f"{folder}{VERIFIED}" for item in folders[folder]):
            with suppress(KeyError):
                looked = Verified.from_json(b"".join(storage.read(f"{folder}{VERIFIED}")))
        return Entry(folder, manifest, None, tuple(folders[folder]), looked)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = [entry for entry in pool.map(look, complete) if entry is not None]
    ours = (
        entry
        for entry in found
        if (
            owns(f"{entry.folder}{NAME}")
            if entry.manifest is None
            else (entry.manifest.stack, entry.manifest.environment) == (stack, environment)
        )
    )
    rest = chain.from_iterable(items for name, items in folders.items() if name not in complete)
    return Catalog(linked(sorted(ours, key=_age)), tuple(item for item in rest if owns(item.key)))


def newest_whole(entries: Iterable[Entry], now: datetime) -> Manifest | None:
    """Given entries, the oldest first, return the newest good backup of all datastores, None where there is none.

    One from the future is not the newest: a clock that was wrong once would have it so for years.
    """
    found = None
    for entry in entries:
        manifest = entry.manifest
        if manifest is not None and entry.fault is None and manifest.whole and not manifest.is_ahead_of(now):
            found = manifest
    return found


def linked(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """Given entries, the oldest first, return them with the increments told broken that nothing can be restored from."""
    found: list[Entry] = []
    known: dict[str, Entry] = {}
    for entry in entries:
        manifest, broken = entry.manifest, None
        if manifest is not None and manifest.kind == "incremental":
            before = known.get(manifest.after)
            if before is None:
                broken = f"it builds on {manifest.after}, which is not there"
            elif before.fault is not None:
                broken = f"it builds on {manifest.after}, which is damaged"
        found.append(replace(entry, broken=broken))
        known[entry.id] = found[-1]
    return tuple(found)


def _age(entry: Entry) -> tuple[str, str, str]:
    """An id tells the second of its start; of two in one second, the one that ended later is the newer."""
    return entry.id[:16], entry.manifest.finished_at if entry.manifest else "", entry.id


def _is_manifest(item: Item) -> bool:
    return item.key.endswith(f"/{NAME}")

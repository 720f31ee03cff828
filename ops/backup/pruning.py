"""Backups that no rule wants any more go, and what runs that died left."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from ops.archive.catalog import Catalog, Entry
from ops.archive.manifest import NAME
from ops.backup.listing import backups
from ops.backup.retention import Chain, Retention, plan_retention, without_locked
from ops.backup.running import locked
from ops.config import Settings
from ops.config.backups import Keep
from ops.datastores import configured
from ops.hosts import Host
from ops.runs.interruption import Interruption
from ops.runs.noting import journalled, note
from ops.runs.reporting import Reporter, Silent
from ops.runs.run import running
from ops.storage.base import Item, Storage
from ops.storage.opening import listed_below, open_storage, written_by

__all__ = ["Pruned", "expired", "prune", "prune_all"]


@dataclass(frozen=True)
class Pruned:
    """What went, or would go: backups by id, objects and uploads of runs that died by key, and their bytes.

    `keep` has the reasons for which the others stay, `locked` until when the storage itself keeps leftovers by key.
    """

    backups: tuple[str, ...]
    leftovers: tuple[str, ...]
    uploads: tuple[str, ...]
    bytes: int
    keep: Retention
    locked: Mapping[str, str] = field(default_factory=dict)


def expired(entries: Iterable[Entry], rules: Keep, now: datetime) -> Retention:
    """Return which chains stay and go. Backups of some datastores only are a matter of their own, so that they push out
    no whole one."""
    chains: dict[str, list[Entry]] = {}
    for entry in entries:
        chains.setdefault(entry.manifest.chain if entry.manifest else entry.id, []).append(entry)
    groups: dict[tuple[str, ...], list[Chain]] = {}
    for name, members in chains.items():
        first = next((member.manifest for member in members if member.manifest), None)
        group = tuple(sorted(first.datastores)) if first is not None and first.partial else ()
        groups.setdefault(group, []).append(
            Chain(name, _finished(members, now), all(m.fault is None for m in members))
        )
    plans = [plan_retention(found, rules, now) for found in groups.values()]
    return Retention(
        {name: why for plan in plans for name, why in plan.keep.items()},
        tuple(name for plan in plans for name in plan.delete),
    )


def prune(
    storage: Storage,
    found: Catalog,
    rules: Keep,
    now: datetime,
    *,
    leftovers: Iterable[Item] = (),
    uploads: Iterable[str] = (),
    really: bool,
) -> Pruned:
    """Remove what no rule wants, and the `leftovers` and unfinished `uploads` of runs that died; return what that is.

    The manifest goes first: what is half removed is no backup. Hold the backup lock of every server whose leftovers go:
    those of a run at work look the same. Not `really`: only tell.
    """
    plan = expired(found.entries, rules, now)
    plan = without_locked(plan, _locks(storage, found, plan), now)
    gone = [
        entry
        for entry in found.entries
        if (entry.manifest.chain if entry.manifest else entry.id) in plan.delete
    ]
    rest, uploads = tuple(leftovers), tuple(uploads)
    held = {item.key: until for item in rest if (until := storage.locked_until(item.key)) and until > now}
    left = tuple(item.key for item in rest if item.key not in held)
    size = sum(item.size for entry in gone for item in entry.items)
    size += sum(item.size for item in rest if item.key not in held)
    if really:
        for entry in reversed(
            gone
        ):  # a chain from its end: one that is cut off in the middle can be restored still
            storage.delete([f"{entry.folder}{NAME}"])
            storage.delete([item.key for item in entry.items if item.key != f"{entry.folder}{NAME}"])
        storage.delete(left)
        storage.discard(uploads)
    locked_still = {key: f"{until:%Y-%m-%d %H:%M} UTC" for key, until in held.items()}
    return Pruned(tuple(entry.id for entry in gone), left, uploads, size, plan, locked_still)


def _locks(storage: Storage, found: Catalog, plan: Retention) -> dict[str, datetime]:
    """Return until when the storage keeps those that would go, by chain: as long as any part of it."""
    locks: dict[str, datetime] = {}
    for entry in found.entries:
        chain = entry.manifest.chain if entry.manifest else entry.id
        until = storage.locked_until(f"{entry.folder}{NAME}") if chain in plan.delete else None
        if until is not None:
            locks[chain] = max(until, locks.get(chain, until))
    return locks


def prune_all(
    settings: Settings,
    hosts: Mapping[str, Host],
    state_host: str,
    interruption: Interruption,
    *,
    wait: float = 0.0,
    really: bool = True,
    reporter: Reporter | None = None,
    run_id: str | None = None,
) -> Pruned:
    """Remove what no rule wants, and all that runs that died left; return what that is. Not `really`: only tell.

    It holds the backup lock of every server with a datastore, since what a run at work has stored looks like a leftover.
    Raises Locked where a backup is at work for longer than `wait` seconds, StorageFailed, Unreachable.
    """
    below, owns, keep = listed_below(settings), written_by(settings), settings.config.backup.keep
    storage = open_storage(settings, lambda: interruption.cancellation.check())

    def pruned() -> Pruned:
        found = backups(settings, storage)
        uploads = [key for key in storage.unfinished(below) if owns(key)]
        now = datetime.now(UTC)
        return prune(storage, found, keep, now, leftovers=found.leftovers, uploads=uploads, really=really)

    if not really:
        return pruned()
    with running(
        settings, "backup.prune", hosts, state_host, reporter or Silent(), interruption, run_id
    ) as run:
        stores = configured(settings, run.layout)
        with journalled(run), locked(run, stores, wait):
            done = pruned()
        note(run, "done", exit_code=0, seconds=run.seconds)
    return done


def _finished(members: list[Entry], now: datetime) -> datetime:
    times = [datetime.fromisoformat(one.manifest.finished_at) for one in members if one.manifest is not None]
    return max(times, default=now)

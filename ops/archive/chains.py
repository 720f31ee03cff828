"""Chains: a full backup and the increments that follow it, in order."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from ops.archive.catalog import Entry
from ops.archive.manifest import Manifest

__all__ = ["Chain", "chain_to_extend", "chains"]

Chain = tuple[Manifest, ...]


def chains(entries: Iterable[Entry]) -> tuple[Chain, ...]:
    """Return what can be restored, the oldest first: each good full backup with its increments, up to the first bad one."""
    found: dict[str, list[Manifest]] = {}
    for entry in entries:
        if entry.manifest is not None and entry.fault is None:
            found.setdefault(entry.manifest.chain, []).append(entry.manifest)
    return tuple(tuple(members) for members in found.values())


def chain_to_extend(entries: Iterable[Entry], now: datetime) -> tuple[Chain, str | None]:
    """Return the newest chain that increments may follow, empty where there is none; and why none may, None where one may.

    A full backup of some datastores only begins no chain, and one from the future is not the newest.
    """
    entries = tuple(entries)
    whole = [found for found in chains(entries) if found[0].whole and not found[0].is_ahead_of(now)]
    if not whole:
        return (), "there is no good full backup of all datastores to build on"
    newest = whole[-1]
    bad = next((e for e in entries if e.manifest and e.manifest.chain == newest[0].id and e.fault), None)
    if bad is not None:
        return newest, f"{bad.id}, which it would build on, is damaged: {bad.fault}"
    return newest, None

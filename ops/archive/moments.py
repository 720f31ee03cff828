"""What of a chain is restored: the backup that a person chose, or the state at a moment."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from ops.archive.chains import Chain
from ops.archive.manifest import Manifest, Saved
from ops.errors import UsageError

__all__ = ["Range", "as_of", "at_moment", "parsed_moment", "ranges", "written"]


@dataclass(frozen=True)
class Range:
    """Moments that a chain can bring back, both ends included; without an `end`, all from its start on."""

    chain: str
    start: datetime
    end: datetime | None

    def __str__(self) -> str:
        end = f"to {written(self.end)}" if self.end is not None else "or later"
        return f"{written(self.start)} {end}"


def parsed_moment(text: str) -> datetime:
    """Return a moment that a person wrote in RFC 3339; raises UsageError for another form and for one without a zone."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or len(text) < len("2026-11-22T14:03"):
        raise UsageError(f"--at {text!r} is no time", next_step="write it like 2026-11-22T14:03:00Z")
    if moment.tzinfo is None:
        raise UsageError(
            f"--at {text} does not say of which zone it is",
            next_step=f"add Z for UTC, or the offset: {text}Z, {text}+02:00",
        )
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise UsageError(f"--at {text} is no time in UTC") from None


def written(moment: datetime) -> str:
    """Return a moment as RFC 3339 in UTC, to the microsecond where it has any."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def as_of(chain: Chain, backup: str) -> Manifest:
    """Return what a backup of a chain restores: a full one's dumps, or the state at the end of an increment."""
    last = next(number for number, manifest in enumerate(chain) if manifest.id == backup)
    manifest = chain[last]
    if manifest.kind == "full":
        return replace(
            manifest, datastores={name: _dumps(saved) for name, saved in manifest.datastores.items()}
        )
    return replace(
        manifest,
        datastores={
            name: _merged(chain[: last + 1], name, _until(saved))
            for name, saved in manifest.datastores.items()
        },
    )


def at_moment(found: Sequence[Chain], moment: datetime, names: Collection[str] = ()) -> Manifest:
    """Return what restores the datastores, or those in `names`, as they were at a moment, from the newest chain before it.

    A datastore that has increments without gaps comes back as of that very moment, any other as of its last backup
    before it; `as_of` in its details has which. Raises UsageError with what is possible where it lies outside.
    """
    usable = [chain for chain in found if chain[0].whole]
    begun = [chain for chain in usable if _finished(chain[0]) <= moment]
    if not begun:
        raise _outside(moment, ranges(usable, names))
    chain = begun[-1]
    chosen = [name for name in chain[0].datastores if not names or name in names]
    datastores, last = {}, chain[0]
    for name in chosen:
        members = _needed(chain, name, moment)
        if members is None:
            raise _outside(moment, ranges(usable, names))
        exact = _until(members[-1].datastores[name]) is not None
        datastores[name] = _merged(members, name, written(moment) if exact else None)
        last = max(last, members[-1], key=_finished)
    return replace(last, datastores=datastores)


def ranges(found: Sequence[Chain], names: Collection[str] = ()) -> tuple[Range, ...]:
    """Return which moments chains can bring back, the oldest first."""
    told = []
    for chain in found:
        chosen = [name for name in chain[0].datastores if not names or name in names]
        ends = [
            max(datetime.fromisoformat(until) for m in chain if (until := _until(m.datastores.get(name))))
            for name in chosen
            if _until(chain[0].datastores[name]) is not None
        ]
        start, end = _finished(chain[0]), min(ends, default=None)
        if end is None or end >= start:
            told.append(Range(chain[0].id, start, end))
    return tuple(told)


def _needed(chain: Chain, name: str, moment: datetime) -> Chain | None:
    """Return the backups of a chain that a datastore at a moment needs, from the full one on; None where they do not reach."""
    members = [manifest for manifest in chain if name in manifest.datastores]
    if _until(members[0].datastores[name]) is None:
        return tuple(manifest for manifest in members if _finished(manifest) <= moment)
    for number, manifest in enumerate(members):
        until = _until(manifest.datastores[name])
        if until is not None and datetime.fromisoformat(until) >= moment:
            return tuple(members[: number + 1])
    return None


def _merged(chain: Sequence[Manifest], name: str, moment: str | None) -> Saved:
    """Return a datastore as one that is restored from all of a chain: parts in order, those of increments with their id.

    Without increments of its own, it is as in the last backup.
    """
    members = [(manifest, manifest.datastores[name]) for manifest in chain if name in manifest.datastores]
    whole = max(
        number
        for number, (manifest, saved) in enumerate(members)
        if manifest.kind == "full" or "increments" not in saved.details
    )
    members = members[whole:]
    last, newest = members[-1]
    begun = members[0][1].increments
    wanted, dumps = begun.get("parts"), begun.get("dumps", False)
    parts, counts, order = [], {}, []
    for manifest, saved in members:
        for part in saved.parts:
            first = manifest is members[0][0]
            if first and wanted is not None and not dumps and part.name not in wanted:
                continue
            # What a dump held and what came of it in the end are counted apart.
            called = part.name if first and not dumps else f"{part.name}@{manifest.id}"
            parts.append(replace(part, name=called))
            order.append(called)
            if part.name in saved.counts:
                counts[called] = saved.counts[part.name]
    details: dict[str, Any] = {**members[0][1].details, "as_of": moment or last.finished_at}
    if "increments" in members[0][1].details:
        told = [saved.details["increments"] for _, saved in members]
        details["chain"] = order
        details["bytes"] = sum(found.get("size", 0) + found.get("bytes", 0) for found in told)
    if moment is not None:
        details["moment"] = moment
    return replace(newest, parts=tuple(parts), counts=counts, details=details)


def _dumps(saved: Saved) -> Saved:
    """Return a datastore without the parts that serve increments alone."""
    chain: Collection[str] = saved.increments.get("parts", ())
    counts = {name: rows for name, rows in saved.counts.items() if name not in chain}
    return replace(saved, parts=tuple(part for part in saved.parts if part.name not in chain), counts=counts)


def _until(saved: Saved | None) -> str | None:
    """Return the moment up to which a datastore's increments reach without a gap, None where there is no such thing."""
    until: str | None = saved.increments.get("until") if saved is not None else None
    return until


def _finished(manifest: Manifest) -> datetime:
    return datetime.fromisoformat(manifest.finished_at)


def _outside(moment: datetime, possible: Sequence[Range]) -> UsageError:
    told = "; ".join(map(str, possible)) or "none: there is no chain of backups"
    return UsageError(
        f"no backup reaches {written(moment)}; possible are {told}",
        next_step="choose a moment within, or a backup by its id",
    )

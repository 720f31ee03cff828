"""The manifest of a backup: what it holds, how it is stored, and how to know that nothing of it is missing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Literal

from ops.errors import OpsError
from ops.storage.base import Stored

__all__ = [
    "FORMAT",
    "NAME",
    "VERIFIED",
    "Damaged",
    "Manifest",
    "Part",
    "Removed",
    "Saved",
    "Verified",
    "folder_of",
    "manifest_key",
]

FORMAT = 1
NAME, VERIFIED = "manifest.json", "verified.json"
SKEW = 300  # seconds by which the clocks of two machines may differ


class Damaged(OpsError):
    """A backup that is not what its manifest says, or a manifest that is not what was written."""


class Removed(Damaged):
    """A backup that went while it was read, its manifest too: nothing was wrong with it."""


@dataclass(frozen=True)
class Part:
    """One stream of a datastore.

    `name` is what it is to the datastore (a database, `globals`). `size` and `sha256` are of the stream before age, in
    bytes and hex; `objects` are what is stored, in order. `compression` says how the stream is packed: `zstd` around it,
    `engine` within it, or none.
    """

    name: str
    objects: tuple[Stored, ...]
    size: int
    sha256: str
    compression: Literal["zstd", "engine", "none"]
    encrypted: bool = False


@dataclass(frozen=True)
class Saved:
    """A datastore in a backup: where it ran, with which versions, its parts, and counts by part from the dump itself.

    Counts are rows by `schema.table`, members of a tar, keys: whatever the datastore counts after a restore as well.
    `details` is what its kind has to know for one.
    """

    kind: str
    server: str
    versions: Mapping[str, str]
    parts: tuple[Part, ...]
    counts: Mapping[str, Mapping[str, int]]
    details: Mapping[str, Any]
    warnings: tuple[str, ...] = ()

    @property
    def stored(self) -> int:
        """Bytes in the storage."""
        return sum(stored.size for part in self.parts for stored in part.objects)

    @property
    def increments(self) -> Mapping[str, Any]:
        """How far it came, for the next increment; empty where none can follow."""
        found: Mapping[str, Any] = self.details.get("increments", {})
        return found


@dataclass(frozen=True)
class Manifest:
    """One backup. Times are RFC 3339 in UTC, the end to the millisecond; `chain` is the id of the full backup that it builds on, its own for a full one.

    `after` is the id of the backup of the chain right before it, empty for a full one. It is `partial` when some
    datastores only were asked for, and a `safety` one when it holds what a restore replaced: such a one is not what
    anybody means by the latest.
    """

    id: str
    kind: Literal["full", "incremental"]
    chain: str
    stack: str
    environment: str
    project: str
    started_at: str
    finished_at: str
    tool: str
    partial: bool = False
    safety: bool = False
    after: str = ""
    datastores: Mapping[str, Saved] = field(default_factory=dict)

    @property
    def stored(self) -> int:
        """Bytes in the storage, without the manifest."""
        return sum(saved.stored for saved in self.datastores.values())

    @property
    def whole(self) -> bool:
        """Whether it is of all datastores, and no safety backup."""
        return not (self.partial or self.safety)

    def is_ahead_of(self, now: datetime) -> bool:
        """Return whether it is from the future: a clock was wrong, and it is not the newest, whatever its id says."""
        return (datetime.fromisoformat(self.started_at) - now).total_seconds() > SKEW

    def to_json(self) -> bytes:
        """Return the bytes that are stored: the fields, their format, and the SHA-256 over both."""
        data = {"format": FORMAT, **asdict(self)}
        return json.dumps({**data, "sha256": _sum(data)}, indent=1, ensure_ascii=False).encode() + b"\n"

    @staticmethod
    def from_json(content: bytes, key: str) -> Manifest:
        """Read a manifest; `key` is where it stands. Raises Damaged for one that was cut off or changed by hand."""
        try:
            data: dict[str, Any] = json.loads(content)
            said = data.pop("sha256")
            if data["format"] > FORMAT:
                raise Damaged(
                    f"{key} has format {data['format']}; this Opsbook reads up to {FORMAT}",
                    next_step="use the Opsbook that took the backup, or a newer one",
                )
            if said != _sum(data):
                raise Damaged(f"{key} is not what was written: its own SHA-256 does not match")
            data.pop("format")
            stores = {name: _saved(saved) for name, saved in data.pop("datastores").items()}
            manifest = Manifest(**data, datastores=stores)
            _check(manifest)
            return manifest
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Damaged(f"{key} cannot be read: {type(error).__name__}: {error}") from error


@dataclass(frozen=True)
class Verified:
    """What the last look at a backup found: when, at which level, and what was wrong (None: nothing)."""

    at: str
    level: int
    fault: str | None

    def to_json(self) -> bytes:
        """Return the bytes that are stored beside the manifest."""
        return json.dumps(asdict(self), ensure_ascii=False).encode() + b"\n"

    @staticmethod
    def from_json(content: bytes) -> Verified | None:
        """Read them; None where they are not what was written."""
        try:
            return Verified(**json.loads(content))
        except (ValueError, TypeError):
            return None


def folder_of(prefix: str, backup: str) -> str:
    """Return the key prefix, with its slash, of all that belongs to a backup."""
    return f"{prefix}/{backup}/"


def manifest_key(prefix: str, backup: str) -> str:
    """Return the key of a backup's manifest."""
    return f"{folder_of(prefix, backup)}{NAME}"


def _check(manifest: Manifest) -> None:
    """Raise ValueError for what no backup says: one such manifest must not end what goes through all of them."""
    if manifest.kind not in ("full", "incremental"):
        raise ValueError(f"it is of a kind that there is not: {manifest.kind!r}")
    for at in (manifest.started_at, manifest.finished_at):
        if datetime.fromisoformat(at).tzinfo is None:
            raise ValueError(f"{at} does not say of which zone it is")
    for name, saved in manifest.datastores.items():
        if any(not part.objects for part in saved.parts):
            raise ValueError(f"a part of {name} is in no object")


def _saved(data: dict[str, Any]) -> Saved:
    parts = tuple(
        Part(**{**part, "objects": tuple(Stored(**one) for one in part["objects"])})
        for part in data.pop("parts")
    )
    return Saved(**{**data, "parts": parts, "warnings": tuple(data["warnings"])})


def _sum(data: Mapping[str, Any]) -> str:
    text = json.dumps(data, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()

"""What a storage of backups is: named objects, each published whole or not at all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from ops.errors import OpsError

__all__ = ["Finding", "Item", "Storage", "StorageFailed", "Stored", "Upload", "Wishes"]


class StorageFailed(OpsError):
    """The storage refused, did not answer, or has no room."""


@dataclass(frozen=True)
class Item:
    """A stored object: its key and its size in bytes."""

    key: str
    size: int


@dataclass(frozen=True)
class Stored:
    """An object that was written: its key, its size in bytes, and the SHA-256 of its bytes in hex."""

    key: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Finding:
    """One thing that a storage can or keeps: `ok` is False where backups suffer by it, None where it is only told."""

    name: str
    ok: bool | None
    told: str


@dataclass(frozen=True)
class Wishes:
    """What a storage should keep by itself: `now` is the prefix of a backup that is begun now, `prefix` that of all of
    them and of nothing else (None where there is none), `rule` the name of the rule that is for them, `moves` the days
    after which they go to another storage class, and that class."""

    now: str
    prefix: str | None
    rule: str
    moves: tuple[int, str] | None = None


class Upload(Protocol):
    """A stream on its way into the storage."""

    @property
    def written(self) -> tuple[int, str]:
        """The size in bytes and the SHA-256 in hex of all that was written, whatever objects it came to."""
        ...

    def write(self, data: bytes, /) -> None:
        """Take the next bytes; raises StorageFailed."""
        ...

    def finish(self) -> tuple[Stored, ...]:
        """Publish what was written and return it in order: one object, or several where the storage limits their size.

        Raises StorageFailed. Nothing of a stream that is not finished is ever listed.
        """
        ...


class Storage(Protocol):
    """A place for backups. Keys are paths with `/` between; all verbs raise StorageFailed with what the storage said."""

    @property
    def shown(self) -> str:
        """The storage as people know it: a folder, or `s3://bucket`."""
        ...

    def upload(self, key: str) -> AbstractContextManager[Upload]:
        """Give an upload; leaving the block before its `finish` leaves nothing behind."""
        ...

    def put(self, key: str, content: bytes) -> None:
        """Write a small object at once; one of that key is replaced."""
        ...

    def read(self, key: str) -> Iterator[bytes]:
        """Yield an object's bytes as they come; raises KeyError where there is none."""
        ...

    def items(self, prefix: str) -> Iterator[Item]:
        """Yield the objects whose keys begin with `prefix`, ordered by key."""
        ...

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects, in that order; one that is not there is no failure."""
        ...

    def locked_until(self, key: str) -> datetime | None:
        """Return until when the storage itself keeps an object from going; None where it does not."""
        ...

    def examine(self, wishes: Wishes) -> tuple[Finding, ...]:
        """Try what backups need, and return what was found; nothing of it is left."""
        ...

    def prepare(self, wishes: Wishes, *, create: bool, apply: bool, really: bool) -> tuple[str, ...]:
        """Make the place where it is not there (`create`), give it the rules that it should keep (`apply`).

        Returns what was done; not `really`: what would be.
        """
        ...

    def unfinished(self, prefix: str) -> tuple[str, ...]:
        """Return the keys of uploads that were begun below `prefix` and neither finished nor ended."""
        ...

    def discard(self, keys: Iterable[str]) -> None:
        """Remove what unfinished uploads of these keys left."""
        ...

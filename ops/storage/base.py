"""What a storage of backups is: named objects, each published whole or not at all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from ops.errors import OpsError

__all__ = ["Item", "Storage", "StorageFailed", "Stored", "Upload"]


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

    def unfinished(self, prefix: str) -> tuple[str, ...]:
        """Return the keys of uploads that were begun below `prefix` and neither finished nor ended."""
        ...

    def discard(self, keys: Iterable[str]) -> None:
        """Remove what unfinished uploads of these keys left."""
        ...

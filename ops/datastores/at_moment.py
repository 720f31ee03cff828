"""What a store at a moment has in common with the one that it wraps, and what it makes for itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from ops.commands import Command
from ops.datastores.base import Counts, Datastore, Looked, Packing, Stream
from ops.datastores.shell import store_key

__all__ = ["AtMoment"]


class _Named(Datastore, Protocol):
    @property
    def name(self) -> str: ...

    @property
    def project(self) -> str: ...


_Store = TypeVar("_Store", bound=_Named)


@dataclass(frozen=True)
class AtMoment(Generic[_Store]):
    """A datastore as what a backup at a moment is restored into; a dump of it is one of the store itself."""

    store: _Store

    @property
    def kind(self) -> str:
        return self.store.kind

    @property
    def server(self) -> str:
        return self.store.server

    def streams(self, looked: Looked, packing: Packing, mark: str) -> tuple[Stream, ...]:
        return self.store.streams(looked, packing, mark)

    def counts_of(self, told: str) -> Mapping[str, int]:
        return self.store.counts_of(told)

    def details_of(self, looked: Looked) -> Mapping[str, Any]:
        return self.store.details_of(looked)

    def warnings_of(self, told: str) -> tuple[str, ...]:
        return self.store.warnings_of(told)

    def reading(self, details: Mapping[str, Any], part: str) -> Command | None:
        return self.store.reading(details, part)

    def counted(self, text: str) -> Counts:
        return self.store.counted(text)

    @property
    def _key(self) -> str:
        return store_key(f"{self.store.project}/{self.store.name}")

    def _name(self, tag: str) -> str:
        """The container that a restore makes for itself."""
        return f"opsbook-{tag}-{self._key}"

"""What a datastore is to increments: how a chain is begun, what follows on it, and how far it came."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from ops.commands import Command
from ops.datastores.base import Datastore, Looked, Packing, Stream

__all__ = ["PROGRESS", "Incremental", "increments_of", "progress_in"]

PROGRESS = "ops-progress "  # a line of a stream's stderr, with JSON behind it


@runtime_checkable
class Incremental(Protocol):
    """Verbs that a datastore has beside those of `Datastore` when it can be backed up in increments.

    One without them is dumped whole in each backup of a chain.
    """

    @property
    def increments(self) -> bool:
        """Whether ops.toml wants them."""
        ...

    def begin(self, looked: Looked) -> Command | None:
        """Return what has to be done before a full backup, None for nothing; what it prints is read by `progress_in`.

        Also for a store that wants no increments any more: what earlier ones need goes. Raises ConfigError where
        increments are wanted and cannot be taken.
        """
        ...

    def base(
        self, looked: Looked, packing: Packing, mark: str, begun: Mapping[str, Any]
    ) -> tuple[Stream, ...]:
        """Return the parts of a full backup that increments can follow, given what `begin` printed.

        Their progress may name `parts` that serve a chain alone, with `dumps` true where a chain needs the others too, and
        say `until` when they reach without a gap: such a datastore comes back to any moment. `size` and `bytes`, of an increment, are what a restore writes.
        """
        ...

    def increment(
        self, looked: Looked, packing: Packing, mark: str, last: Mapping[str, Any]
    ) -> tuple[Stream, ...]:
        """Return the parts of an increment on a backup that came as far as `last`.

        Raises ConfigError where they cannot be taken.
        """
        ...

    def trouble(self, looked: Looked, last: Mapping[str, Any]) -> str | None:
        """Return why no increment can follow on a backup that came as far as `last`, None where one can."""
        ...

    def settled(self, looked: Looked, now: Mapping[str, Any]) -> Command | None:
        """Return how the store lets go of what it kept for the backup that came as far as `now`, None for nothing kept.

        Its manifest is stored.
        """
        ...


def increments_of(store: Datastore) -> Incremental | None:
    """Return a datastore as one that is backed up in increments, None for one that is dumped whole each time."""
    return store if isinstance(store, Incremental) and store.increments else None


def progress_in(told: str) -> dict[str, Any]:
    """Given what commands wrote, return what they said of how far they came; a key that comes again wins."""
    found: dict[str, Any] = {}
    for line in told.split("\n"):
        if line.startswith(PROGRESS):
            found.update(json.loads(line.removeprefix(PROGRESS)))
    return found

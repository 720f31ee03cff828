"""What a datastore is to a backup: questions about it, and streams of what it holds."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from ops.commands import Command

__all__ = [
    "LOST",
    "Compression",
    "Counts",
    "Datastore",
    "Incoming",
    "Looked",
    "Packing",
    "Stream",
    "chosen",
    "read_lines",
]

Counts = Mapping[str, Mapping[str, int]]  # by part, as they stand in a manifest
Compression = Literal["engine", "server", "operator", "none"]
LOST = "ops-lost "  # begins a line of `lost`


@dataclass(frozen=True)
class Packing:
    """How dumps are to be packed: where, and the level and the threads (0: one for each core) of zstd."""

    where: Literal["auto", "engine", "server", "operator", "none"] = "auto"
    level: int = 3
    threads: int = 0


@dataclass(frozen=True)
class Looked:
    """What a datastore answered: versions by tool, where it can compress, and facts that only its kind understands.

    `there` is False where there is nothing to dump yet.
    """

    versions: Mapping[str, str]
    engine: bool
    server: bool
    facts: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    there: bool = True


@dataclass(frozen=True)
class Stream:
    """A part of a dump: the command whose stdout it is, the ending of its object's name, and where it is compressed.

    What the command writes to stderr is read by `counts_of`.
    """

    part: str
    command: Command
    ending: str
    compression: Compression


@dataclass(frozen=True)
class Incoming:
    """A part on its way back: `command` takes the stream on stdin; where `make` stands instead, it is given all of it.

    `make` returns None where nothing is to be done; the parts that it is for are small. Either writes beside what is
    live; one that comes `first` does so before the place beside is made.
    """

    part: str
    command: Command | None = None
    make: Callable[[str], Command | None] | None = None
    first: bool = False


@dataclass(frozen=True)
class Scratch:
    """A throw-away place for a dump.

    `hold` makes it, writes a line once it takes data, and removes it when it is ended; `store` is the datastore there.
    """

    store: Datastore
    hold: Command


class Datastore(Protocol):
    """One kind of store in one place. A new kind is one file here, one line in the registry and one row in its test."""

    @property
    def kind(self) -> str:
        """What ops.toml calls it."""
        ...

    @property
    def server(self) -> str:
        """The server that it is on."""
        ...

    def look(self) -> Command:
        """Return the question about versions, compression and what there is to dump."""
        ...

    def read(self, text: str) -> Looked:
        """Given the question's stdout, return what it says."""
        ...

    def streams(self, looked: Looked, packing: Packing, mark: str) -> tuple[Stream, ...]:
        """Return the parts of a full dump. `mark` names the run to the processes that have to be ended with it.

        Raises FailedUnchanged where there is nothing to dump.
        """
        ...

    def counts_of(self, told: str) -> Mapping[str, int]:
        """Given what a part's command wrote to stderr, return the counts of what it dumped."""
        ...

    def details_of(self, looked: Looked) -> Mapping[str, Any]:
        """Return what a restore has to know beside the dump; it goes into the manifest, as JSON."""
        ...

    def reading(self, details: Mapping[str, Any], part: str) -> Command | None:
        """Return the command that reads a part, unpacked, on stdin with the engine's own tools and keeps nothing of it.

        None for a part that no tool has an opinion on.
        """
        ...

    def scratch(self, details: Mapping[str, Any], tag: str, folder: str) -> Scratch:
        """Return a throw-away place on the datastore's server, below `folder` where it needs one; `tag` names it."""
        ...

    def narrowed(
        self, details: Mapping[str, Any], counts: Counts, wanted: Collection[str]
    ) -> tuple[Mapping[str, Any], Counts]:
        """Return the details and counts of a dump for a restore of some of what it holds, such as one database.

        Raises UsageError for what it does not hold, and where there is nothing to pick.
        """
        ...

    def beside(self, details: Mapping[str, Any], looked: Looked, tag: str) -> Command:
        """Return the command that makes the empty place, beside what is live, that a backup is restored into.

        It removes what earlier runs left of theirs. `tag` names the place.
        """
        ...

    def incoming(self, details: Mapping[str, Any], looked: Looked, tag: str) -> tuple[Incoming, ...]:
        """Return how the parts get there, in order."""
        ...

    def count(self, details: Mapping[str, Any], looked: Looked, tag: str) -> Command:
        """Return the command that prints the counts of what was restored, for `counted`, and does what had to wait for them."""
        ...

    def counted(self, text: str) -> Counts:
        """Given its stdout, return the counts by part, as they stand in a manifest."""
        ...

    def swap(self, details: Mapping[str, Any], looked: Looked, tag: str) -> Command:
        """Return the command that makes the restored live and keeps what was; where it fails, all is as before."""
        ...

    def swap_back(self, details: Mapping[str, Any], looked: Looked, tag: str) -> Command:
        """Return the command that undoes `swap`, also one that was cut off on its way; it may be run again."""
        ...

    def lost(self, details: Mapping[str, Any], looked: Looked, tag: str) -> Command:
        """Return the command that prints what a `swap` that came to its end kept and is there no more.

        Each is a line behind LOST, in words for people. It changes nothing.
        """
        ...

    def forget(self, details: Mapping[str, Any], looked: Looked, tag: str) -> Command:
        """Return the command that removes what earlier restores kept, but for that of `tag`."""
        ...

    def discard(self, details: Mapping[str, Any], looked: Looked, tag: str) -> Command:
        """Return the command that removes the place beside."""
        ...

    def warnings_of(self, told: str) -> tuple[str, ...]:
        """Given the same, return what is worth a warning."""
        ...


def chosen(packing: Packing, *, engine: bool, server: bool) -> Compression:
    """Return where a stream is compressed: where it was asked for, else as near to the data as can be.

    An engine that is asked for and cannot is left out.
    """
    if packing.where != "auto" and (packing.where != "engine" or engine):
        return packing.where
    return "engine" if engine else "server" if server else "operator"


def read_lines(text: str) -> dict[str, str]:
    """Given lines of key, tab and value, return them; a key that comes again wins."""
    return dict(line.split("\t", 1) for line in text.split("\n") if "\t" in line)

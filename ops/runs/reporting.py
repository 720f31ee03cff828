"""What a run tells while it goes on; a terminal, a pipe and the tests listen each in its own way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from ops.runs.phases import Phase

__all__ = ["Reporter", "Silent", "Within", "metered"]


class Reporter(Protocol):
    """Called from several threads."""

    def phase(self, phase: Phase) -> None:
        """A phase begins."""
        ...

    def step(self, host: str, title: str) -> None:
        """A step begins on a host; the one before it is done."""
        ...

    def moved(self, host: str, size: int) -> None:
        """So many more bytes went through the step that goes on there."""
        ...

    def finished(self, host: str, result: str) -> None:
        """Nothing more happens on this host in this phase."""
        ...

    def say(self, text: str) -> None:
        """A line for people: a warning, a hook's output."""
        ...

    def close(self) -> None:
        """The run is over; nothing is shown after this."""
        ...


class Silent:
    """Tells nothing."""

    def phase(self, phase: Phase) -> None: ...
    def step(self, host: str, title: str) -> None: ...
    def moved(self, host: str, size: int) -> None: ...
    def finished(self, host: str, result: str) -> None: ...
    def say(self, text: str) -> None: ...
    def close(self) -> None: ...


class Within:
    """Tells the reporter of a run what goes on in another one within it; phases, and the end, are of the outer one alone."""

    def __init__(self, outer: Reporter) -> None:
        self.step, self.moved, self.finished, self.say = outer.step, outer.moved, outer.finished, outer.say

    def phase(self, phase: Phase) -> None: ...
    def close(self) -> None: ...


def metered(chunks: Iterable[bytes], reporter: Reporter, host: str) -> Iterator[bytes]:
    """Yield a stream, and tell how much of it went through."""
    for piece in chunks:
        reporter.moved(host, len(piece))
        yield piece

"""What a run tells while it goes on; a terminal, a pipe and the tests listen each in its own way."""

from __future__ import annotations

from typing import Protocol

from ops.runs.phases import Phase

__all__ = ["Reporter", "Silent"]


class Reporter(Protocol):
    """Called from several threads."""

    def phase(self, phase: Phase) -> None:
        """A phase begins."""
        ...

    def step(self, host: str, title: str) -> None:
        """A step begins on a host; the one before it is done."""
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
    def finished(self, host: str, result: str) -> None: ...
    def say(self, text: str) -> None: ...
    def close(self) -> None: ...

"""Talks with one running shell: feeds its stdin, reads both streams, and watches deadline and cancellation."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Protocol

from ops.errors import Unreachable
from ops.hosts.cancellation import Cancellation
from ops.hosts.failures import ConnectionLost, TimedOut
from ops.hosts.script import Begin, End, Event, FrameReader, Script

__all__ = ["PIECE", "TICK", "Conversation", "Process"]

TICK = 0.1  # seconds between two looks at deadline and cancellation
PIECE = 256 * 1024  # bytes: the largest chunk handed on
_BEGIN = 20.0  # seconds in which a shell that has its script must begin, once it is to be ended


class Process(Protocol):
    """A shell that was started, on a server or here."""

    def send(self, data: memoryview, /) -> int:
        """Take some of the data and return how much; 0 after a short wait when nothing could be taken."""
        ...

    def finish_input(self) -> None:
        """Say that stdin ends here."""
        ...

    def receive(self, seconds: float, /) -> tuple[bytes, bytes]:
        """Return what came on stdout and stderr, waiting at most so long for the first byte."""
        ...

    @property
    def ended(self) -> bool:
        """True when nothing more can come."""
        ...

    @property
    def status(self) -> int | None:
        """Exit status of the shell once it ended; None when it was never told."""
        ...

    @property
    def trouble(self) -> str:
        """Why the connection is gone, where that is known."""
        ...


class Conversation:
    """Iterates over (is stderr, event) of a script until its last command ended; `group` is what to kill."""

    def __init__(
        self,
        process: Process,
        script: Script,
        cancellation: Cancellation,
        *,
        host: str,
        source: Iterable[bytes] = (),
    ) -> None:
        self._process = process
        self._script = script
        self._cancellation = cancellation
        self._host = host
        self._source = source
        self._readers = (FrameReader(script.marker), FrameReader(script.marker))
        self._last = [-1, -1]
        self._final: int | None = None
        self._deadline: float | None = None
        self._timeout: float | None = None
        self._sent = 0
        self.shown = ""
        self.group: int | None = None

    def expect(self, shown: str, timeout: float | None) -> None:
        """From now on wait for the command called `shown`, for so many seconds."""
        self.shown, self._timeout = shown, timeout
        self._deadline = None if timeout is None else time.monotonic() + timeout

    @property
    def done(self) -> bool:
        """True when both streams told the end of the last command."""
        return self._final is not None and min(self._last) >= self._final

    def __iter__(self) -> Iterator[tuple[bool, Event]]:
        waiting = _pieces(self._script.parts, self._source)
        unsent: memoryview | None = next(waiting, None)
        while True:
            self._cancellation.check()
            late = self._late
            out, err = self._process.receive(TICK if unsent is None or late else 0.0)
            yield from self._events(out, err)
            if self.done:
                return
            if not out and not err and self._process.ended:
                raise self._broken()
            # Looked at before the streams were read, and again: on a busy machine the end may lie there already.
            if late and self._late:
                raise TimedOut(
                    f"took longer than {self._timeout:g} s and was ended: {self.shown}",
                    target=self._host,
                    next_step="look at what keeps it, or give it more time",
                )
            if unsent is not None:
                sent = self._process.send(unsent)
                self._sent += sent
                unsent = unsent[sent:] or next(waiting, None)
                if unsent is None and not self._script.held:
                    self._process.finish_input()

    def begun(self) -> int | None:
        """Return the group of the shell, waiting for it where it has its script; None when nothing will run.

        Raises ConnectionLost when that cannot be known.
        """
        given = self._sent >= len(self._script.parts[0])
        deadline = time.monotonic() + _BEGIN
        while given and self.group is None and not self._process.ended:
            if time.monotonic() > deadline:
                raise ConnectionLost(f"no shell began within {_BEGIN:g} s", target=self._host)
            for _ in self._events(*self._process.receive(TICK)):
                pass
        if given and self.group is None and self._process.status is None:
            raise ConnectionLost(self._process.trouble or "the connection broke", target=self._host)
        return self.group

    def _events(self, out: bytes, err: bytes) -> Iterator[tuple[bool, Event]]:
        for is_error, data in ((False, out), (True, err)):
            for event in self._readers[is_error].feed(data) if data else ():
                self._note(is_error, event)
                yield is_error, event

    def _note(self, is_error: bool, event: Event) -> None:
        if isinstance(event, Begin) and not is_error:
            self.group = event.group
        elif isinstance(event, End):
            self._last[is_error] = event.index
            if not is_error and (event.status or event.index == self._script.count - 1):
                self._final = event.index

    @property
    def _late(self) -> bool:
        if self._final is not None or self._deadline is None:
            return False
        return time.monotonic() > self._deadline

    def _broken(self) -> Unreachable:
        status = self._process.status
        if status is None:
            return ConnectionLost(
                f"{self._process.trouble or 'the connection broke'} while this ran: {self.shown}",
                target=self._host,
                left_behind="it is not known whether the command ended",
            )
        if self.group is None:
            said = (
                b"\n".join(reader.preamble.strip() for reader in self._readers)
                .decode(errors="replace")
                .strip()
            )
            return Unreachable(
                f"no shell for commands (status {status}): {said or 'no output'}",
                target=self._host,
                next_step="the user needs a login shell with sh and GNU head; with `sudo = true` also "
                "sudo without a password (NOPASSWD)",
            )
        return ConnectionLost(
            f"the shell on the server was ended (status {status}) while this ran: {self.shown}",
            target=self._host,
        )


def _pieces(first: Iterable[bytes], then: Iterable[bytes]) -> Iterator[memoryview]:
    for source in (first, then):
        yield from (memoryview(data) for data in source if data)

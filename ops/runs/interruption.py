"""Signals while a run goes on: the first ends the waiting, the second ends the way back as well."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from ops.hosts import Cancellation

__all__ = ["Interruption"]


class Interruption:
    """Holds the cancellation that a signal sets; `number` is the first signal's, `twice` true after a second."""

    def __init__(self) -> None:
        self.cancellation = Cancellation()
        self.number: int | None = None
        self.twice = False
        self._deferred = self._stopped = False

    def stop(self) -> None:
        """End the waiting for another reason than a signal, behind a `deferred` block where one is under way."""
        self._stopped = True
        if not self._deferred:
            self.cancellation.cancel()

    def fresh(self) -> Cancellation:
        """Return a new cancellation, for the way back; the next signal sets this one, a second one already has."""
        self._stopped = False
        self.cancellation = Cancellation()
        if self.twice:
            self.cancellation.cancel()
        return self.cancellation

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Put a first signal, or `stop`, off to the end of the block; a second signal comes through at once."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False
            if self.number is not None or self._stopped:
                self.cancellation.cancel()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handle SIGINT, SIGTERM and SIGHUP in the block; outside the main thread nothing is changed.

        A SIGHUP that the caller ignores (nohup) stays ignored.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        numbers = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            numbers.append(signal.SIGHUP)
        before = {number: signal.signal(number, self._take) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self.number is None:
            self.number = number
            if not self._deferred:
                self.cancellation.cancel()
        elif number != signal.SIGHUP:  # a terminal that closes sends it twice, by the kernel and by the shell
            self.twice = True
            self.cancellation.cancel()

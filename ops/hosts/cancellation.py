"""A flag that ends the waiting in all threads of a run."""

from __future__ import annotations

import threading

from ops.hosts.failures import Cancelled

__all__ = ["Cancellation"]


class Cancellation:
    """Set once by a signal handler or a lost lock; hosts and waits look at it."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def cancel(self) -> None:
        """End the waiting."""
        self._event.set()

    @property
    def cancelled(self) -> bool:
        """True once `cancel` was called."""
        return self._event.is_set()

    def check(self) -> None:
        """Raise `Cancelled` once `cancel` was called."""
        if self._event.is_set():
            raise Cancelled

    def wait(self, seconds: float) -> None:
        """Wait so long, or raise `Cancelled` as soon as `cancel` is called."""
        if self._event.wait(seconds):
            raise Cancelled

"""Waits for work that cannot be interrupted, without letting it hold up a cancellation."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from ops.hosts.cancellation import Cancellation

__all__ = ["Job", "acquire", "result_of", "waited"]

T = TypeVar("T")
_TICK = 0.1
_UNNOTICED = 20  # ticks in which work has to notice that its connection is gone


class Job(Generic[T]):
    """Work that goes on in a thread of its own; `over` is set at its end. One that was left has its result discarded."""

    def __init__(self, work: Callable[[], T], discard: Callable[[T], object]) -> None:
        self._work = work
        self._discard = discard
        self._results: list[T] = []
        self._error: BaseException | None = None
        self._left = False
        self._lock = threading.Lock()
        self.over = threading.Event()
        threading.Thread(target=self._do, name="ops-wait", daemon=True).start()

    def _do(self) -> None:
        try:
            result = self._work()
        except BaseException as error:
            self._error = error
        else:
            with self._lock:
                self._results.append(result)
                left = self._left
            if left:
                self._discard(result)
        self.over.set()

    def leave(self) -> None:
        """Wait no more; what the work brought, or will bring, is discarded."""
        with self._lock:
            self._left = True
            results = list(self._results)
        for result in results:
            self._discard(result)

    def result(self) -> T:
        """Return what the work returned, or raise what it raised, once it is over."""
        if self._error is not None:
            raise self._error
        return self._results[0]


def waited(
    work: Callable[[], T],
    cancellation: Cancellation,
    discard: Callable[[T], object],
    stands: Callable[[], bool] = lambda: True,
) -> T:
    """Begin a job and wait for it; see `result_of`. Not begun where that is cancelled already."""
    cancellation.check()
    return result_of(Job(work, discard), cancellation, stands)


def result_of(job: Job[T], cancellation: Cancellation, stands: Callable[[], bool] = lambda: True) -> T:
    """Return what a job's work returns or raise what it raises; on cancellation leave it.

    Raises EOFError once what it waits for stands no more and the work does not notice.
    """
    fallen = 0
    try:
        cancellation.check()
        while not job.over.wait(_TICK):
            cancellation.check()
            fallen = 0 if stands() else fallen + 1
            if fallen >= _UNNOTICED:
                raise EOFError
    except BaseException:
        job.leave()
        raise
    return job.result()


def acquire(lock: threading.Lock | threading.Semaphore, cancellation: Cancellation) -> None:
    """Take a lock or a slot; raises Cancelled as soon as that is asked."""
    cancellation.check()
    while not lock.acquire(timeout=_TICK):
        cancellation.check()

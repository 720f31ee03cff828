"""Runs work in the order that it needs, two at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from graphlib import CycleError, TopologicalSorter
from typing import TypeVar

from ops.errors import ConfigError, OpsError

__all__ = ["AT_ONCE", "in_order"]

AT_ONCE = 2  # builds share one engine's processors and one uplink

T = TypeVar("T")


def in_order(
    needs: Mapping[str, Sequence[str]], work: Callable[[str], T], abandon: Callable[[], None]
) -> tuple[dict[str, T], dict[str, OpsError]]:
    """Call `work` for each key, after those that it needs; return what came back and what failed.

    After a failure nothing new begins, and what runs comes to its end. When anything else is raised, here or in
    `work`, `abandon` is called to end what runs. Raises ConfigError when keys need each other in a circle.
    """
    sorter = TopologicalSorter({key: needs[key] for key in needs})
    try:
        sorter.prepare()
    except CycleError as error:
        raise ConfigError(f"images need each other in a circle: {' -> '.join(error.args[1])}") from error
    done: dict[str, T] = {}
    failed: dict[str, OpsError] = {}
    running: dict[Future[T], str] = {}
    waiting: list[str] = []
    with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
        try:
            while sorter.is_active() and not (failed and not running):
                waiting += sorter.get_ready()
                while waiting and len(running) < AT_ONCE and not failed:
                    key = waiting.pop(0)
                    running[pool.submit(work, key)] = key
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    key = running.pop(future)
                    try:
                        done[key] = future.result()
                        sorter.done(key)
                    except OpsError as error:
                        failed[key] = error
        except BaseException:
            abandon()
            raise
    return done, failed

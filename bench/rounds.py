"""Alternating rounds: every contender once a round, so that a noisy machine is noisy for all."""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Measured", "quiet", "rounds", "run", "table"]


@dataclass(frozen=True)
class Measured:
    """Seconds of each round of one contender."""

    name: str
    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median of the rounds."""
        return statistics.median(self.seconds)


def rounds(
    contenders: Mapping[str, Callable[[int], None]],
    count: int,
    warmup: int = 1,
    check: Callable[[str, int], None] = lambda name, number: None,
) -> list[Measured]:
    """Run each contender once a round and return their times; the first `warmup` rounds do not count.

    `check(name, number)` looks, off the clock, whether the contender did its work.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(count + warmup):
        for name, contender in contenders.items():
            start = time.monotonic()
            contender(number)
            took = time.monotonic() - start
            check(name, number)
            if number >= warmup:
                seconds[name].append(took)
    return [Measured(name, tuple(values)) for name, values in seconds.items()]


def run(argv: Sequence[str], *, folder: Path, env: Mapping[str, str], feed: str | None = None) -> str:
    """Run a command and return its output; a failure ends the bench with it."""
    done = subprocess.run(
        argv, cwd=folder, env=dict(env), input=feed, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise SystemExit(
            f"bench: {' '.join(argv[:6])} … failed with {done.returncode}\n{done.stdout}\n{done.stderr}"
        )
    return done.stdout


def quiet(text: str) -> None:
    """Take what a contender said, which nobody wants to read."""
    del text


def table(measured: Sequence[Measured], base: str) -> list[str]:
    """Return Markdown rows: medians, spread, and the ratio to the base."""
    reference = next(one.median for one in measured if one.name == base)
    rows = ["| what | median | min – max | ratio to the base |", "|---|---|---|---|"]
    for one in measured:
        mark = " (base)" if one.name == base else ""
        low, high = min(one.seconds), max(one.seconds)
        rows.append(
            f"| {one.name}{mark} | {one.median:.2f} s | {low:.2f} – {high:.2f} s | {one.median / reference:.2f} |"
        )
    return rows

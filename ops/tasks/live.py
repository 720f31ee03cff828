"""What a run shows while it goes on: one moving line for each server in a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ops.tasks.output import interactive, tell

if TYPE_CHECKING:
    from ops.runs.phases import Phase
    from ops.runs.reporting import Reporter

__all__ = ["Lines", "Live", "lines_for", "reporter_for"]

PHASES = {
    "check": "asking the servers",
    "lock": "taking the lock",
    "fetch": "pulling images",
    "upload": "uploading the release",
    "backup": "taking a backup",
    "migrate": "migrating",
    "switch": "switching",
    "smoke": "smoke checks",
    "commit": "making the release current",
}


def reporter_for(*, json: bool, quiet: bool, redact: Callable[[str], str]) -> Reporter:
    """Return what fits the place that the output goes to."""
    from ops.runs.reporting import Silent

    if json or quiet:
        return Silent()
    return Live(redact) if interactive(sys.stdout) else Lines(redact)


def lines_for(*, json: bool, quiet: bool, redact: Callable[[str], str]) -> Reporter:
    """The same in plain lines, for a run in which a question is asked."""
    from ops.runs.reporting import Silent

    return Silent() if json or quiet else Lines(redact)


class Lines:
    """One line for each step, with the seconds since the start: for pipes, CI and log files."""

    def __init__(self, redact: Callable[[str], str]) -> None:
        self._redact, self._begun, self._lock = redact, time.monotonic(), threading.Lock()

    def phase(self, phase: Phase) -> None:
        self._print(PHASES[phase])

    def step(self, host: str, title: str) -> None:
        self._print(f"  {host}: {title}")

    def moved(self, host: str, size: int) -> None:
        return

    def finished(self, host: str, result: str) -> None:
        self._print(f"  {host}: {result}")

    def say(self, text: str) -> None:
        self._print(text)

    def close(self) -> None:
        return

    def _print(self, text: str) -> None:
        with self._lock:  # where who listened has left, the run goes on without
            tell(f"{time.monotonic() - self._begun:6.1f} s  {self._redact(text)}")


class Live:
    """A table that is drawn again in place: the phase, and for each server what it does and since when."""

    def __init__(self, redact: Callable[[str], str]) -> None:
        from rich.console import Console
        from rich.live import Live as RichLive

        self._redact, self._begun, self._lock = redact, time.monotonic(), threading.Lock()
        self._phase = ""
        self._hosts: dict[str, tuple[str, float, bool]] = {}
        self._moved: dict[str, int] = {}  # bytes, by host
        self._console = Console(highlight=False)
        self._live = RichLive(
            console=self._console, refresh_per_second=8, transient=True, get_renderable=self._draw
        )
        self._live.start()

    def phase(self, phase: Phase) -> None:
        with self._lock, suppress(OSError):  # a terminal that was closed must not stop the way back
            if self._phase:
                self._console.print(f"  [green]✓[/green] {self._phase}")
            self._phase = PHASES[phase]
            self._hosts = {}

    def step(self, host: str, title: str) -> None:
        with self._lock:
            self._hosts[host] = (title, time.monotonic(), False)
            self._moved.pop(host, None)

    def moved(self, host: str, size: int) -> None:
        with self._lock:
            self._moved[host] = self._moved.get(host, 0) + size

    def finished(self, host: str, result: str) -> None:
        with self._lock:
            self._hosts[host] = (result, time.monotonic(), True)

    def say(self, text: str) -> None:
        from rich.text import Text

        with self._lock, suppress(OSError):
            self._console.print(Text(self._redact(text), style="yellow"))

    def close(self) -> None:
        with suppress(OSError):
            self._live.stop()

    def _draw(self) -> Any:
        from rich.filesize import decimal
        from rich.spinner import Spinner
        from rich.table import Table
        from rich.text import Text

        now = time.monotonic()
        grid = Table.grid(padding=(0, 1))
        grid.add_column()
        grid.add_column()
        grid.add_column(overflow="ellipsis", no_wrap=True)
        grid.add_row(Spinner("dots"), f"{self._phase}", f"[dim]{now - self._begun:.0f} s[/dim]")
        for host, (title, since, done) in list(self._hosts.items()):
            mark = "[green]✓[/green]" if done else " "
            shown = Text(self._redact(title))  # as Text: a command's own [brackets] are no markup
            if not done:
                shown.append(f" {now - since:.0f} s", style="dim")
                if size := self._moved.get(host):
                    rate = decimal(int(size / max(now - since, 0.1)))
                    shown.append(f", {decimal(size)}, {rate}/s", style="dim")
            grid.add_row(mark, Text(host, style="bold"), shown)
        return grid

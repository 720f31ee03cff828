"""What a host runs, and what came of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ops.commands.quoting import quote, quote_all

__all__ = ["Command", "Result", "command", "pipeline"]


@dataclass(frozen=True)
class Command:
    """One thing to run on a host, built without running it.

    `script` is POSIX shell, composed through `command` and `pipeline` so that quoting stands in one place.
    `stdin` is fed to it and never logged. `changes` says in the field's words what it changes; None means that
    it only reads, and a read-only host runs nothing else. `timeout` is in seconds; None waits as long as the
    connection lives. `title` is what people see; without one they see the script.
    """

    script: str
    stdin: bytes = b""
    changes: str | None = None
    timeout: float | None = 60.0
    title: str = ""

    @property
    def shown(self) -> str:
        """The text for a plan or a log: the title, else the script."""
        return self.title or self.script


@dataclass(frozen=True)
class Result:
    """What a command wrote and its exit status (for one ended by a signal: 128 + its number)."""

    status: int
    stdout: str = ""
    stderr: str = ""

    @property
    def ok(self) -> bool:
        """True when the exit status is 0."""
        return self.status == 0

    @property
    def last_lines(self) -> str:
        """Up to the last five lines of stderr, else of stdout: what a person wants to see of a failure."""
        text = self.stderr.strip() or self.stdout.strip()
        return "\n".join(text.splitlines()[-5:])


def command(
    *argv: str,
    stdin: bytes = b"",
    changes: str | None = None,
    timeout: float | None = 60.0,
    cwd: str | None = None,
    title: str = "",
) -> Command:
    """Given argv, return the command that runs it, in `cwd` where one is named."""
    line = quote_all(argv)
    if cwd is not None:
        line = f"cd {quote(cwd)} && {line}"
    return Command(line, stdin=stdin, changes=changes, timeout=timeout, title=title)


def pipeline(*commands: Iterable[str]) -> str:
    """Given argvs, return the script that pipes each into the next."""
    return " | ".join(quote_all(argv) for argv in commands)

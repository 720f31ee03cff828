"""The strict fake of the unit tests: only what a test expects may happen, and all of it must.

host = FakeHost("web1")
host.expect("docker ps -q", stdout="abc\\n")          # in this order, exactly this script
host.expect(re.compile("up -d"), status=1)           # or one that a pattern finds
host.allow(re.compile("^date"), stdout="1\\n")        # any number of times, at any place
with host: feature(host)                             # leaving it fails while something expected is missing
"""

from __future__ import annotations

import copy
import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType

from ops.commands import Command, Result
from ops.hosts.base import Connection, Tell
from ops.hosts.cancellation import Cancellation
from ops.hosts.failures import CommandFailed

__all__ = ["FakeHost"]

Answer = Result | BaseException | Callable[[Command], Result]


@dataclass(frozen=True)
class _Expected:
    script: str | re.Pattern[str]
    answer: Answer

    def fits(self, script: str) -> bool:
        if isinstance(self.script, str):
            return self.script == script
        return self.script.search(script) is not None

    @property
    def shown(self) -> str:
        return self.script if isinstance(self.script, str) else f"/{self.script.pattern}/"


class FakeHost:
    """A host that answers from a list. `commands`, `scripts`, `puts` and `exposed` record what was asked of it.

    Any command that is not expected raises AssertionError. `get` asks for the script `cat <path>`; `put` and
    `expose` need no expectation; `connect` answers from `connections[(address, port)]`.
    """

    def __init__(self, name: str = "web1", *, cancellation: Cancellation | None = None) -> None:
        self._name = name
        self._cancellation = cancellation or Cancellation()
        self._expected: list[_Expected] = []
        self._allowed: list[_Expected] = []
        self.commands: list[Command] = []
        self.puts: dict[str, tuple[bytes, int]] = {}
        self.exposed: list[tuple[int, int]] = []
        self.streamed: list[bytes] = []
        self.connections: dict[tuple[str, int], Callable[[], Connection]] = {}

    @property
    def name(self) -> str:
        """The name of the server."""
        return self._name

    @property
    def scripts(self) -> list[str]:
        """The scripts that ran, in order."""
        return [command.script for command in self.commands]

    def expect(
        self,
        script: str | re.Pattern[str],
        *,
        stdout: str = "",
        stderr: str = "",
        status: int = 0,
        answer: Answer | None = None,
    ) -> FakeHost:
        """Expect a script next, after those expected before; `answer` may be an exception or a function."""
        self._expected.append(_Expected(script, Result(status, stdout, stderr) if answer is None else answer))
        return self

    def allow(
        self,
        script: str | re.Pattern[str],
        *,
        stdout: str = "",
        stderr: str = "",
        status: int = 0,
        answer: Answer | None = None,
    ) -> FakeHost:
        """Allow a script any number of times, at any place; the one allowed last wins."""
        self._allowed.insert(
            0, _Expected(script, Result(status, stdout, stderr) if answer is None else answer)
        )
        return self

    def finish(self) -> None:
        """Raise AssertionError while something expected did not happen."""
        if self._expected:
            missing = "\n".join(f"  {expected.shown}" for expected in self._expected)
            raise AssertionError(f"{self._name}: expected, but did not run:\n{missing}")

    def __enter__(self) -> FakeHost:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.finish()

    def with_cancellation(self, cancellation: Cancellation) -> FakeHost:
        """Return the same fake, with the same expectations, under another cancellation."""
        other = copy.copy(self)
        other._cancellation = cancellation
        return other

    def run(self, command: Command) -> Result:
        """Answer one command."""
        self._cancellation.check()
        if self._expected and self._expected[0].fits(command.script):
            answer = self._expected.pop(0).answer
        else:
            allowed = next((one for one in self._allowed if one.fits(command.script)), None)
            if allowed is None:
                raise AssertionError(self._unexpected(command.script))
            answer = allowed.answer
        self.commands.append(command)
        if isinstance(answer, BaseException):
            raise answer
        return answer if isinstance(answer, Result) else answer(command)

    def run_all(self, commands: Sequence[Command]) -> tuple[Result, ...]:
        """Answer commands one by one, up to the first that fails."""
        results: list[Result] = []
        for command in commands:
            results.append(self.run(command))
            if not results[-1].ok:
                break
        return tuple(results)

    @contextmanager
    def stream_out(self, command: Command, tell: Tell | None = None) -> Iterator[Iterator[bytes]]:
        """Give the expected stdout as one chunk."""
        yield self._chunks(command, tell)

    def _chunks(self, command: Command, tell: Tell | None) -> Iterator[bytes]:
        result = self.run(command)
        if tell is not None and result.stderr:
            tell(result.stderr.encode(errors="surrogateescape"))
        if result.stdout:
            yield result.stdout.encode(errors="surrogateescape")
        if not result.ok:
            raise CommandFailed(command.shown, result, target=self._name)

    def stream_in(self, command: Command, chunks: Iterable[bytes]) -> Result:
        """Record what is fed in `streamed`, then answer."""
        self.streamed.append(b"".join(chunks))
        return self.run(command)

    def follow(self, command: Command, write: Callable[[bytes], object]) -> int:
        """Write the expected output."""
        result = self.run(command)
        for text in (result.stdout, result.stderr):
            if text:
                write(text.encode(errors="surrogateescape"))
        return result.status

    def put(self, content: bytes, path: str, *, mode: int = 0o644) -> None:
        """Record a file in `puts`."""
        self._cancellation.check()
        self.puts[path] = (content, mode)

    def get(self, path: str) -> bytes:
        """Return a file that was put, else what is expected of `cat <path>`."""
        if path in self.puts:
            return self.puts[path][0]
        return b"".join(self._chunks(Command(f"cat {path}"), None))

    def connect(self, address: str, port: int, *, timeout: float = 5.0) -> Connection:
        """Return what `connections` has for it; refused where it has nothing."""
        self._cancellation.check()
        if (address, port) not in self.connections:
            raise ConnectionRefusedError(f"{self._name}: {address}:{port}")
        return self.connections[address, port]()

    @contextmanager
    def expose(self, port: int, to_port: int) -> Iterator[None]:
        """Record the pair in `exposed`."""
        self.exposed.append((port, to_port))
        yield

    def terminal(self, command: Command) -> int:
        """Answer with the expected status."""
        return self.run(command).status

    def close(self) -> None:
        """Nothing to close."""

    def _unexpected(self, script: str) -> str:
        if not self._expected:
            return f"{self._name}: nothing more was expected, but this ran:\n  {script}"
        wanted = self._expected[0].shown
        lines = difflib.ndiff(wanted.splitlines(), script.splitlines())
        return f"{self._name}: not the command expected (- expected, + ran):\n" + "\n".join(
            line.rstrip("\n") for line in lines
        )

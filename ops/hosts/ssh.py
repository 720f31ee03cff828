"""A server over SSH. Fabric and paramiko are imported with the first verb."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

from ops.commands import Command, Result, quote
from ops.hosts.cancellation import Cancellation
from ops.hosts.conversation import Process
from ops.hosts.failures import CommandFailed, ConnectionLost, TimedOut
from ops.hosts.route import Endpoint
from ops.hosts.runner import Runner
from ops.hosts.script import ENDING, end_group, invocation

if TYPE_CHECKING:
    from ops.hosts.base import Connection, Tell
    from ops.hosts.link import Link
    from ops.hosts.tunnels import Exposures

__all__ = ["SSHHost"]


class SSHHost:
    """A server over SSH: connected at the first verb, host keys always checked, two sessions at once.

    `resolve` returns the way there (see `ops.hosts.route`). `environment` stands in the commands that errors name.
    After `silence` seconds without any sign of life from the server, all that waits raises ConnectionLost.
    """

    def __init__(
        self,
        name: str,
        resolve: Callable[[], tuple[Endpoint, ...]],
        *,
        environment: str = "",
        sudo: bool = False,
        silence: float = 20.0,
        cancellation: Cancellation | None = None,
        sessions: int = 2,
    ) -> None:
        self._name = name
        self._sudo = sudo
        self._shared = _Shared(name, resolve, environment, silence, sessions)
        self._under(cancellation or Cancellation())

    def _under(self, cancellation: Cancellation) -> None:
        self._cancellation = cancellation
        self._runner = Runner(self._name, self._start, self._stop, cancellation)

    @property
    def name(self) -> str:
        """The name of the server in ops.toml."""
        return self._name

    @property
    def round_trips(self) -> int:
        """How many commands were executed and streams opened so far."""
        return self._shared.link.round_trips

    def begin(self) -> None:
        """Start to connect and return at once; the first verb raises what it met."""
        self._shared.link.begin()

    def with_cancellation(self, cancellation: Cancellation) -> SSHHost:
        """Return the same server, over the same connection, under another cancellation."""
        other = object.__new__(SSHHost)
        other._name, other._sudo, other._shared = self._name, self._sudo, self._shared
        other._under(cancellation)
        return other

    def run(self, command: Command) -> Result:
        """Run one command and return its result."""
        return self._runner.run(command)

    def run_all(self, commands: Sequence[Command]) -> tuple[Result, ...]:
        """Run commands one after another, in one round trip, up to the first that fails."""
        return self._runner.run_all(commands)

    def stream_out(
        self, command: Command, tell: Tell | None = None
    ) -> AbstractContextManager[Iterator[bytes]]:
        """Give the command's stdout in chunks of at most 256 KiB."""
        return self._runner.stream_out(command, tell)

    def stream_in(self, command: Command, chunks: Iterable[bytes]) -> Result:
        """Feed chunks to the command's stdin."""
        return self._runner.stream_in(command, chunks)

    def follow(self, command: Command, write: Callable[[bytes], object]) -> int:
        """Hand the output to `write` as it comes; return the exit status."""
        return self._runner.follow(command, write)

    def put(self, content: bytes, path: str, *, mode: int = 0o644) -> None:
        """Write a file atomically."""
        self._runner.put(content, path, mode)

    def get(self, path: str) -> bytes:
        """Return a file's bytes."""
        return self._runner.get(path)

    def connect(self, address: str, port: int, *, timeout: float = 5.0) -> Connection:
        """Open a stream through the connection; raises ConnectionRefusedError or TimeoutError."""
        from ops.hosts.tunnels import open_tunnel

        return open_tunnel(self._shared.link, address, port, timeout, self._cancellation)

    @contextmanager
    def expose(self, port: int, to_port: int) -> Iterator[None]:
        """While open, 127.0.0.1:`port` on the server leads to 127.0.0.1:`to_port` here."""
        exposures = self._shared.exposures
        exposures.open(port, to_port, self._cancellation)
        try:
            yield
        finally:
            exposures.close(port)

    def terminal(self, command: Command) -> int:
        """Run a command on the person's terminal; without one, its output is passed through."""
        from ops.hosts import tty

        if not tty.is_terminal():
            return self._runner.follow(command, _pass_through)
        # A pty echoes what comes before the command reads it, so the script goes ahead, into a file that
        # removes itself.
        made = self.run(
            Command(
                'umask 077; f=$(mktemp) && { printf \'rm -f -- %s\\n\' "$f"; cat; } >"$f" && printf %s "$f"',
                stdin=command.script.encode(errors="surrogateescape"),
                title=command.shown,
            )
        )
        if not made.ok:
            raise CommandFailed(command.shown, made, target=self._name)
        line = f"{'sudo -n ' if self._sudo else ''}sh {quote(made.stdout)}"
        with self._shared.link.terminal_channel(self._cancellation) as channel:
            status = tty.converse(channel, line, self._cancellation)
        if status is None:
            raise ConnectionLost(f"the connection broke while this ran: {command.shown}", target=self._name)
        return status

    def close(self) -> None:
        """End the connection; the next verb opens it again."""
        self._shared.close()

    @contextmanager
    def _start(self) -> Iterator[Process]:
        with self._shared.link.session(invocation(sudo=self._sudo), self._cancellation) as process:
            yield process

    def _stop(self, group: int) -> None:
        def start() -> AbstractContextManager[Process]:
            return self._shared.link.spare_session(invocation(sudo=self._sudo))

        ending = Command(end_group(group), changes="ends what ran", timeout=ENDING)
        try:
            Runner(self._name, start, lambda _: None, Cancellation()).run(ending)
        except TimedOut as error:
            raise OSError(f"its processes did not end within {ENDING:g} s") from error


class _Shared:
    """What all faces of one server have in common: the connection, made with the first verb."""

    def __init__(
        self,
        name: str,
        resolve: Callable[[], tuple[Endpoint, ...]],
        environment: str,
        silence: float,
        sessions: int,
    ) -> None:
        self._arguments = (name, resolve, environment, silence, sessions)
        self._made: tuple[Link, Exposures] | None = None
        self._making = threading.Lock()

    def _make(self) -> tuple[Link, Exposures]:
        with self._making:
            if self._made is None:
                from ops.hosts.link import Link
                from ops.hosts.tunnels import Exposures

                name, resolve, environment, silence, sessions = self._arguments
                link = Link(name, resolve, environment=environment, silence=silence, sessions=sessions)
                self._made = (link, Exposures(link))
            return self._made

    @property
    def link(self) -> Link:
        return self._make()[0]

    @property
    def exposures(self) -> Exposures:
        return self._make()[1]

    def close(self) -> None:
        if self._made is not None:
            self._made[0].close()


def _pass_through(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()

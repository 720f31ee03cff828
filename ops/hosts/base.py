"""What a host is: the few verbs that everything above speaks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from ops.commands import Command, Result
from ops.hosts.cancellation import Cancellation

__all__ = ["Connection", "Host", "Tell"]

Tell = Callable[[bytes], object]


class Connection(Protocol):
    """A two-way byte stream to a port as the host sees it; the part of a socket that HTTP clients use."""

    def sendall(self, data: bytes, /) -> None: ...
    def recv(self, size: int, /) -> bytes: ...
    def settimeout(self, seconds: float | None, /) -> None: ...
    def close(self) -> None: ...


class Host(Protocol):
    """A place where commands run. All verbs may be called from several threads.

    Every verb raises `ops.errors.Unreachable` when the host cannot be reached or the connection is lost, and
    `ops.hosts.Cancelled` when the run was interrupted; what it started on the far side is then ended.
    """

    @property
    def name(self) -> str:
        """The name of the server in ops.toml."""
        ...

    def run(self, command: Command) -> Result:
        """Run one command and return its result, whatever its exit status.

        Raises `ops.hosts.TimedOut` past `command.timeout`; the command is then ended on the host.
        """
        ...

    def run_all(self, commands: Sequence[Command]) -> tuple[Result, ...]:
        """Run commands one after another in a single round trip; stop behind the first that fails.

        Returns one result for each command that ran, in order.
        """
        ...

    def stream_out(
        self, command: Command, tell: Tell | None = None
    ) -> AbstractContextManager[Iterator[bytes]]:
        """Give the command's stdout in chunks as they come; raises `CommandFailed` at its end if it failed.

        `tell` is handed stderr as it comes.
        """
        ...

    def stream_in(self, command: Command, chunks: Iterable[bytes]) -> Result:
        """Feed chunks to the command's stdin, then return its result."""
        ...

    def follow(self, command: Command, write: Callable[[bytes], object]) -> int:
        """Hand stdout and stderr to `write` as they come; return the exit status."""
        ...

    def put(self, content: bytes, path: str, *, mode: int = 0o644) -> None:
        """Write a file atomically, with its mode from the first byte on; parent folders are made."""
        ...

    def get(self, path: str) -> bytes:
        """Return a file's bytes; raises `ops.hosts.CommandFailed` where there is none."""
        ...

    def connect(self, address: str, port: int, *, timeout: float = 5.0) -> Connection:
        """Open a stream to `address:port` as seen from the host; raises ConnectionError when refused, TimeoutError when silent."""
        ...

    def expose(self, port: int, to_port: int) -> AbstractContextManager[None]:
        """While open, 127.0.0.1:`port` on the host leads to 127.0.0.1:`to_port` on the operator's machine."""
        ...

    def terminal(self, command: Command) -> int:
        """Run a command on the person's own terminal (a pty where there is one); return its exit status."""
        ...

    def with_cancellation(self, cancellation: Cancellation) -> Host:
        """Return the same host, over the same connection, under another cancellation (a rollback takes a fresh one)."""
        ...

    def close(self) -> None:
        """End the connection; a closed host opens it again at the next verb."""
        ...

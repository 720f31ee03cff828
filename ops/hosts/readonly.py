"""The dry run's safety net: a host that reads and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager

from ops.commands import Command, Result
from ops.errors import OpsError
from ops.hosts.base import Connection, Host, Tell
from ops.hosts.cancellation import Cancellation

__all__ = ["ReadOnlyHost"]


class ReadOnlyHost:
    """Lets a command through only when it says that it changes nothing; all else raises OpsError before it starts."""

    def __init__(self, host: Host) -> None:
        self._host = host

    @property
    def name(self) -> str:
        """The name of the server in ops.toml."""
        return self._host.name

    def with_cancellation(self, cancellation: Cancellation) -> ReadOnlyHost:
        """Return the same host, still read-only, under another cancellation."""
        return ReadOnlyHost(self._host.with_cancellation(cancellation))

    def run(self, command: Command) -> Result:
        """Run a command that only reads."""
        return self._host.run(self._reads(command))

    def run_all(self, commands: Sequence[Command]) -> tuple[Result, ...]:
        """Run commands that only read; one that changes something refuses them all."""
        return self._host.run_all([self._reads(command) for command in commands])

    def stream_out(
        self, command: Command, tell: Tell | None = None
    ) -> AbstractContextManager[Iterator[bytes]]:
        """Give the stdout of a command that only reads."""
        return self._host.stream_out(self._reads(command), tell)

    def stream_in(self, command: Command, chunks: Iterable[bytes]) -> Result:
        """Refused."""
        raise self._refusal(command.shown)

    def follow(self, command: Command, write: Callable[[bytes], object]) -> int:
        """Follow a command that only reads."""
        return self._host.follow(self._reads(command), write)

    def put(self, content: bytes, path: str, *, mode: int = 0o644) -> None:
        """Refused."""
        raise self._refusal(f"write {path}")

    def get(self, path: str) -> bytes:
        """Return a file's bytes."""
        return self._host.get(path)

    def connect(self, address: str, port: int, *, timeout: float = 5.0) -> Connection:
        """Open a stream as the host does."""
        return self._host.connect(address, port, timeout=timeout)

    def expose(self, port: int, to_port: int) -> AbstractContextManager[None]:
        """Refused."""
        raise self._refusal(f"open port {port}")

    def terminal(self, command: Command) -> int:
        """Run a command that only reads on the person's terminal."""
        return self._host.terminal(self._reads(command))

    def close(self) -> None:
        """End the connection."""
        self._host.close()

    def _reads(self, command: Command) -> Command:
        if command.changes is not None:
            raise self._refusal(f"{command.shown} ({command.changes})")
        return command

    def _refusal(self, what: str) -> OpsError:
        return OpsError(
            f"a dry run was about to change something and was stopped: {what}",
            target=self.name,
            left_behind="nothing was changed",
            next_step="this is a fault in Opsbook: please report it",
        )

"""This machine as a host: the same scripts through a shell of its own, without SSH."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

from ops.commands import Command, Result
from ops.errors import OpsError
from ops.hosts.base import Connection, Tell
from ops.hosts.cancellation import Cancellation
from ops.hosts.conversation import Process
from ops.hosts.runner import Runner
from ops.hosts.script import ENDING, end_group, invocation
from ops.hosts.shell import Shell

__all__ = ["LocalHost"]


class LocalHost:
    """The operator's machine under a server's name; with `sudo`, everything goes through `sudo -n`."""

    def __init__(self, name: str, *, sudo: bool = False, cancellation: Cancellation | None = None) -> None:
        self._name = name
        self._sudo = sudo
        self._cancellation = cancellation or Cancellation()
        self._runner = Runner(name, self._start, self._stop, self._cancellation)
        self._started: set[Shell] = set()

    @property
    def name(self) -> str:
        """The name of the server in ops.toml."""
        return self._name

    def with_cancellation(self, cancellation: Cancellation) -> LocalHost:
        """Return the same machine under another cancellation."""
        return LocalHost(self._name, sudo=self._sudo, cancellation=cancellation)

    def run(self, command: Command) -> Result:
        """Run one command and return its result."""
        return self._runner.run(command)

    def run_all(self, commands: Sequence[Command]) -> tuple[Result, ...]:
        """Run commands one after another up to the first that fails."""
        return self._runner.run_all(commands)

    def stream_out(
        self, command: Command, tell: Tell | None = None
    ) -> AbstractContextManager[Iterator[bytes]]:
        """Give the command's stdout in chunks."""
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
        """Open a TCP connection; raises ConnectionError or TimeoutError."""
        self._cancellation.check()
        return socket.create_connection((address, port), timeout=timeout)

    @contextmanager
    def expose(self, port: int, to_port: int) -> Iterator[None]:
        """Nothing to forward on the same machine: raises OpsError when the two ports differ."""
        if port != to_port:
            raise OpsError(
                f"port {port} cannot lead to {to_port}: this is the same machine", target=self._name
            )
        yield

    def terminal(self, command: Command) -> int:
        """Run a command on the person's own terminal; return its exit status."""
        self._cancellation.check()
        prefix = ("sudo", "-n", "-C", "100") if self._sudo else ()
        read, write = os.pipe()
        try:
            with os.fdopen(write, "wb") as script:
                script.write(command.script.encode(errors="surrogateescape"))  # a pipe holds 64 KiB
            status = subprocess.run(
                (*prefix, "sh", f"/dev/fd/{read}"), pass_fds=(read,), check=False
            ).returncode
        finally:
            os.close(read)
        return status if status >= 0 else 128 - status

    def close(self) -> None:
        """Nothing is kept open."""

    @contextmanager
    def _start(self) -> Iterator[Process]:
        if shutil.which("sh") is None:
            raise OpsError("this machine has no sh", target=self._name)
        process = Shell(invocation(sudo=self._sudo))
        self._started.add(process)
        try:
            yield process
        finally:
            self._started.discard(process)
            process.close()

    def _stop(self, group: int) -> None:
        prefix = ("sudo", "-n") if self._sudo else ()
        line = (*prefix, "sh", "-c", end_group(group))
        with subprocess.Popen(line, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE) as ender:
            deadline = time.monotonic() + ENDING
            while ender.poll() is None:
                for process in tuple(self._started):
                    process.reap()
                if time.monotonic() > deadline:
                    ender.kill()
                    raise OSError(f"its processes did not end within {ENDING:g} s")
                time.sleep(0.02)
            _, said = ender.communicate()
        if ender.returncode:
            raise OSError(said.decode(errors="replace").strip() or f"sh ended with status {ender.returncode}")

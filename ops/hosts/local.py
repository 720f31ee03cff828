"""This machine as a host: the same scripts through a shell of its own, without SSH."""

from __future__ import annotations

import os
import selectors
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress

from ops.commands import Command, Result
from ops.errors import OpsError
from ops.hosts.base import Connection
from ops.hosts.cancellation import Cancellation
from ops.hosts.conversation import PIECE, Process
from ops.hosts.runner import Runner
from ops.hosts.script import end_group, invocation

__all__ = ["LocalHost"]


class LocalHost:
    """The operator's machine under a server's name; with `sudo`, everything goes through `sudo -n`."""

    def __init__(self, name: str, *, sudo: bool = False, cancellation: Cancellation | None = None) -> None:
        self._name = name
        self._sudo = sudo
        self._cancellation = cancellation or Cancellation()
        self._runner = Runner(name, self._start, self._stop, self._cancellation)

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

    def stream_out(self, command: Command) -> AbstractContextManager[Iterator[bytes]]:
        """Give the command's stdout in chunks."""
        return self._runner.stream_out(command)

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
        process = _Shell(invocation(sudo=self._sudo))
        try:
            yield process
        finally:
            process.close()

    def _stop(self, group: int) -> None:
        prefix = ("sudo", "-n") if self._sudo else ()
        subprocess.run((*prefix, "sh"), input=end_group(group).encode(), check=False, timeout=10)


class _Shell:
    """A shell in a session of its own, its streams without blocking."""

    def __init__(self, line: str) -> None:
        self._process = subprocess.Popen(
            ("sh", "-c", f"exec {line}"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        self._files = (process.stdin, process.stdout, process.stderr)
        self._in, self._out, self._err = (file.fileno() for file in self._files)
        self._open = {self._out, self._err}
        self._quiet = False
        for descriptor in (self._in, self._out, self._err):
            os.set_blocking(descriptor, False)
        self._readable = selectors.DefaultSelector()
        self._writable = selectors.DefaultSelector()
        for descriptor in self._open:
            self._readable.register(descriptor, selectors.EVENT_READ)
        self._writable.register(self._in, selectors.EVENT_WRITE)

    def send(self, data: bytes) -> int:
        if not self._writable.select(0.02):
            return 0
        try:
            return os.write(self._in, data[:PIECE])
        except BlockingIOError:
            return 0
        except BrokenPipeError:
            return len(data)  # the shell is gone; its status tells the rest

    def finish_input(self) -> None:
        self._writable.unregister(self._in)
        self._files[0].close()

    def receive(self, seconds: float) -> tuple[bytes, bytes]:
        exited = self._process.poll() is not None
        if not self._open:
            time.sleep(min(seconds, 0.01))
        ready = {key.fd for key, _ in self._readable.select(seconds)} if self._open else set()
        out = self._read(self._out) if self._out in ready else b""
        err = self._read(self._err) if self._err in ready else b""
        self._quiet = exited and not ready
        return out, err

    def _read(self, descriptor: int) -> bytes:
        data = os.read(descriptor, PIECE)
        if not data:
            self._readable.unregister(descriptor)
            self._open.discard(descriptor)
        return data

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None and (self._quiet or not self._open)

    @property
    def status(self) -> int | None:
        status = self._process.poll()
        return status if status is None or status >= 0 else 128 - status

    @property
    def trouble(self) -> str:
        return ""

    def close(self) -> None:
        self._readable.close()
        self._writable.close()
        for file in self._files:
            with suppress(OSError):
                file.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

"""A shell on this machine, as a process to talk with."""

from __future__ import annotations

import os
import selectors
import subprocess
import time
from contextlib import suppress

from ops.hosts.conversation import PIECE

__all__ = ["Shell"]


class Shell:
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

    def send(self, data: memoryview) -> int:
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

    def reap(self) -> None:
        """Take note of the end of the shell: before that its process group still has a member, a dead one."""
        self._process.poll()

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

"""A server in a folder, and hosts that reach it: each session is one operator's, and can die or freeze."""

from __future__ import annotations

import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

from ops.commands import Command, Result, quote
from ops.errors import Unreachable
from ops.hosts import Cancellation, Connection
from ops.hosts.base import Tell
from ops.hosts.local import LocalHost
from standin.docker import Docker
from standin.images import Registry

__all__ = ["BASE", "Killed", "Server", "Session", "StandInHost"]

BASE = "/srv/standin"  # `base` in ops.toml; each server has a folder of its own for it


class Killed(SystemExit):
    """The operator's process is gone: no handler runs, nothing is cleaned up."""


class Server:
    """Files below `root`, a Docker engine, and no network but what the test sees."""

    def __init__(self, name: str, folder: Path, registry: Registry, number: int) -> None:
        self.name = name
        self.root = folder / name / "root"
        self.root.mkdir(parents=True)
        self.docker = Docker(folder / name, registry, subnet=number)
        self.docker.place = self.path

    def path(self, there: str | Path) -> Path:
        """Return where a path below BASE stands on this machine."""
        return Path(str(there).replace(BASE, str(self.root)))

    def age_lock(self, stack: str, environment: str, seconds: float) -> None:
        """Let the lock's last sign of life lie so far back."""
        lock = self.path(f"{BASE}/{stack}/{environment}/locks/change")
        then = time.time() - seconds
        for path in (lock / "heartbeat", lock):
            os.utime(path, (then, then))


class Session:
    """One operator's process. `on` runs a function before each command that a pattern finds."""

    def __init__(self) -> None:
        self.dead = False
        self.thawed = threading.Event()
        self.thawed.set()
        self.seen: list[tuple[str, str]] = []
        self.lost: set[str] = set()
        self._triggers: list[tuple[str, re.Pattern[str], Callable[[], object]]] = []

    def on(self, pattern: str, action: Callable[[], object], *, host: str = "") -> None:
        """Call an action before each command, of one host or of all, whose title or script matches; it may raise."""
        self._triggers.append((host, re.compile(pattern), action))

    def lose(self, host: str) -> None:
        """Let no command reach a host any more, not even the one that is on its way."""
        self.lost.add(host)

    def kill(self) -> None:
        """End this operator's process, as SIGKILL does."""
        self.dead = True
        raise Killed

    def check(self, host: str, command: Command) -> None:
        """Note a command; raises Killed once the process is dead."""
        self.alive()
        self.seen.append((host, command.shown))
        for name, pattern, action in self._triggers:
            if name in ("", host) and (pattern.search(command.title) or pattern.search(command.script)):
                action()
        if host in self.lost:
            raise Unreachable("the connection broke", target=host)
        self.alive()

    def alive(self) -> None:
        """Wait while frozen; raises Killed once dead."""
        self.thawed.wait(20)
        if self.dead and threading.current_thread().name == "heartbeat":
            threading.Event().wait()  # it went with the process
        if self.dead:
            raise Killed


class StandInHost:
    """A host that runs scripts through this machine's own shell, in the folder of a stand-in server."""

    def __init__(self, server: Server, session: Session, cancellation: Cancellation | None = None) -> None:
        self._server, self._session = server, session
        self._cancellation = cancellation or Cancellation()
        self._local = LocalHost(server.name, cancellation=self._cancellation)

    @property
    def name(self) -> str:
        return self._server.name

    def run(self, command: Command) -> Result:
        return self.run_all((command,))[0]

    def run_all(self, commands: Sequence[Command]) -> tuple[Result, ...]:
        for command in commands:
            self._session.check(self.name, command)
        results = self._local.run_all([self._there(command) for command in commands])
        self._session.alive()
        return results

    def stream_out(
        self, command: Command, tell: Tell | None = None
    ) -> AbstractContextManager[Iterator[bytes]]:
        self._session.check(self.name, command)
        return self._local.stream_out(self._there(command), tell)

    def stream_in(self, command: Command, chunks: Iterable[bytes]) -> Result:
        self._session.check(self.name, command)
        return self._local.stream_in(self._there(command), chunks)

    def follow(self, command: Command, write: Callable[[bytes], object]) -> int:
        self._session.check(self.name, command)
        return self._local.follow(self._there(command), write)

    def put(self, content: bytes, path: str, *, mode: int = 0o644) -> None:
        self._session.check(self.name, Command("", title=f"write {path}"))
        self._local.put(content, str(self._server.path(path)), mode=mode)

    def get(self, path: str) -> bytes:
        return self._local.get(str(self._server.path(path)))

    def connect(self, address: str, port: int, *, timeout: float = 5.0) -> Connection:
        self._session.alive()
        self._cancellation.check()
        answer = self._server.docker.answer_of(address, port)
        if answer is None:
            raise ConnectionRefusedError
        near, far = socket.socketpair()
        status, body = answer
        far.sendall(f"HTTP/1.1 {status} Stand-in\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        far.shutdown(socket.SHUT_WR)
        return _Kept(near, far)

    def expose(self, port: int, to_port: int) -> AbstractContextManager[None]:
        return nullcontext()

    def terminal(self, command: Command) -> int:
        return self.run(command).status

    def with_cancellation(self, cancellation: Cancellation) -> StandInHost:
        return StandInHost(self._server, self._session, cancellation)

    def close(self) -> None:
        return

    def _there(self, command: Command) -> Command:
        script = command.script.replace(BASE, str(self._server.root))
        # HOME: nothing of this machine's own configuration takes part.
        front = (
            f"PATH={quote(str(self._server.docker.pipe.bin))}:$PATH HOME={quote(str(self._server.root))}; "
        )
        return replace(command, script=front + script, title=command.shown)


class _Kept:
    """One end of a socket pair; the other end lives as long as this one."""

    def __init__(self, near: socket.socket, far: socket.socket) -> None:
        self._near, self._far = near, far
        self.sendall, self.recv, self.settimeout = near.sendall, near.recv, near.settimeout
        self.makefile = near.makefile

    def close(self) -> None:
        self._near.close()
        self._far.close()

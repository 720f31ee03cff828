"""Counts who uses a port of this machine, by locks that the kernel drops when a process dies."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ops.errors import Locked
from ops.hosts import Cancellation

__all__ = ["Users", "lock_folder"]

PATIENCE = 120.0  # seconds for another run to start or stop the registry; a start may pull its image


def lock_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Return this user's folder for locks; it is the same for all checkouts, as the port is."""
    return Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "opsbook"


class Users:
    """The processes of this user that use one port.

    Each user holds a shared lock; who can have the lock alone is the only one. `turn` is held while that is asked
    and acted upon, so that nobody comes or goes meanwhile.
    """

    def __init__(self, folder: Path, port: int) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._gate = folder / f"registry-{port}.turn"
        self._file = folder / f"registry-{port}.users"
        self._held: int | None = None

    @contextmanager
    def turn(self, cancellation: Cancellation) -> Iterator[None]:
        """Wait until nobody else starts or stops anything; raises Locked after two minutes."""
        descriptor = _opened(self._gate)
        try:
            deadline = time.monotonic() + PATIENCE
            while not _locked(descriptor, fcntl.LOCK_EX):
                if time.monotonic() > deadline:
                    raise Locked(
                        f"another run has been starting or stopping the throw-away registry for {PATIENCE:g} s",
                        next_step=f"see which process holds {self._gate}: fuser -v {self._gate}",
                    )
                cancellation.wait(0.05)
            yield
        finally:
            os.close(descriptor)

    def join(self) -> None:
        """Count as a user from now on; within a `turn`."""
        self._held = _opened(self._file)
        fcntl.flock(self._held, fcntl.LOCK_SH)

    @property
    def alone(self) -> bool:
        """True when no other process uses the port; within a `turn`, after `join`."""
        assert self._held is not None, "only a user can tell"
        alone = _locked(self._held, fcntl.LOCK_EX)
        fcntl.flock(self._held, fcntl.LOCK_SH)
        return alone

    def leave(self) -> None:
        """Count as a user no more."""
        if self._held is not None:
            os.close(self._held)
            self._held = None


def _opened(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)


def _locked(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True

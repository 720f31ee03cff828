"""The full log of a run, on the operator's machine, secrets masked."""

from __future__ import annotations

import os
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TextIO

from ops.commands import Redactor
from ops.errors import FailedUnchanged, NeedsPerson

__all__ = ["KEPT", "RunLog", "unexpected"]

KEPT = 50


class RunLog:
    """Writes lines with time and host to `<folder>/.ops/logs/<run id>.log`, 0600; keeps the newest 50 logs.

    Raises FailedUnchanged where no file can be made there.
    """

    def __init__(self, folder: Path, run_id: str, redactor: Redactor) -> None:
        logs = folder / ".ops" / "logs"
        self.path = logs / f"{run_id}.log"
        try:
            _make(logs)
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError as error:
            raise FailedUnchanged(
                f"the log {self.path} cannot be written here: {error.strerror or error}",
                next_step="make room, or give this user the right to write in the stack's folder",
            ) from error
        self._file: TextIO = os.fdopen(descriptor, "w", encoding="utf-8", buffering=1)
        self._redact, self._lock, self._start = redactor, threading.Lock(), time.monotonic()
        for old in sorted(logs.glob("*.log"))[:-KEPT]:
            old.unlink(missing_ok=True)

    def write(self, text: str, host: str = "") -> None:
        """Add text; each of its lines bears the time (UTC, to the millisecond) and the host."""
        stamp = datetime.now(UTC).strftime("%H:%M:%S.%f")[:-3]
        with self._lock, suppress(OSError):  # a full disk here must not stop a run on the servers
            for line in self._redact(text).splitlines() or [""]:
                self._file.write(f"{stamp} {host:<12} {line}\n")

    def close(self) -> None:
        """Close the file."""
        with suppress(OSError):
            self._file.close()

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def unexpected(error: Exception, folder: Path, redact: Callable[[str], str]) -> NeedsPerson:
    """Keep how an error came about that nobody foresaw, masked; return it as one that people can read."""
    path = folder / ".ops" / "logs" / "unexpected.log"
    try:
        _make(path.parent)
        path.touch(0o600)
        path.write_text(redact("".join(traceback.format_exception(error))), errors="backslashreplace")
        report = str(path)
    except OSError:  # cron in `/`, a full disk
        last = traceback.extract_tb(error.__traceback__)[-1]
        report = f"this ({Path(last.filename).name}:{last.lineno})"
    return NeedsPerson(
        redact(f"unexpected {type(error).__name__}: {error}"),
        left_behind="not known; look at the servers before the next run",
        next_step=f"inv deploy.status, then report {report} as a fault of Opsbook",
    )


def _make(logs: Path) -> None:
    """Make the folder; git leaves it alone, or the log of one run would make the tree dirty for the next."""
    logs.mkdir(parents=True, exist_ok=True)
    ignore = logs.parent / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n")

"""The person's own terminal, connected to a command on a server. Imported when first used."""

from __future__ import annotations

import os
import select
import shutil
import signal
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

import paramiko

from ops.hosts.cancellation import Cancellation

__all__ = ["converse", "is_terminal"]

_PIECE = 65536
_GONE = (OSError, EOFError, paramiko.SSHException)


def is_terminal() -> bool:
    """True where both stdin and stdout are a terminal."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty()


def converse(channel: paramiko.Channel, line: str, cancellation: Cancellation) -> int | None:
    """Execute a line in a pty and let the person talk to it; return its status, None when the connection was lost."""
    size = shutil.get_terminal_size()
    channel.get_pty(os.environ.get("TERM", "xterm"), size.columns, size.lines)
    channel.exec_command(line)
    channel.settimeout(0.0)
    source, target = sys.stdin.fileno(), sys.stdout.fileno()
    with _raw(source), _window_changes(channel):
        typing = True
        while True:
            cancellation.check()
            ready, _, _ = select.select([channel, *((source,) if typing else ())], [], [], 0.1)
            if channel in ready:
                data = channel.recv(_PIECE)
                if not data:
                    break
                _write(target, data)
            if source in ready:
                typed = os.read(source, _PIECE)
                typing = bool(typed)
                _send(channel, typed)
    status = channel.recv_exit_status()
    return status if status >= 0 else None


def _send(channel: paramiko.Channel, data: bytes) -> None:
    with suppress(*_GONE):  # what comes from it tells the rest
        if not data:
            channel.shutdown_write()
            return
        channel.settimeout(None)
        channel.sendall(data)
        channel.settimeout(0.0)


def _write(target: int, data: bytes) -> None:
    while data:
        data = data[os.write(target, data) :]


@contextmanager
def _raw(descriptor: int) -> Iterator[None]:
    before = termios.tcgetattr(descriptor)
    try:
        tty.setraw(descriptor)
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


@contextmanager
def _window_changes(channel: paramiko.Channel) -> Iterator[None]:
    def changed(number: int, frame: FrameType | None) -> None:
        size = shutil.get_terminal_size()
        with suppress(*_GONE):
            channel.resize_pty(size.columns, size.lines)

    try:
        before = signal.signal(signal.SIGWINCH, changed)
    except ValueError:  # signals can be set in the main thread alone
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)

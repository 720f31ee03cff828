"""A command on a session channel of an SSH connection. Imported when first used."""

from __future__ import annotations

import threading
import time
from contextlib import suppress

import paramiko

from ops.hosts.dial import Chain

__all__ = ["ChannelProcess", "close_channel", "open_channel"]

_PACKET = 32_000  # bytes: what sshd takes in one packet
_AT_ONCE = 1 << 17  # bytes: what is sent between two looks at what came
_MOST = 1 << 20  # bytes: what is taken at a time
# Seconds: of a stream, several packets are taken at a time. To wake for each costs more than all that is done with it.
_GATHER = 0.003


class ChannelProcess:
    """A command on a session channel."""

    def __init__(self, channel: paramiko.Channel, chain: Chain) -> None:
        self._channel = channel
        self._chain = chain
        self._wake = _Wake()
        self._flowing = False
        channel.settimeout(0.02)
        channel.in_buffer.set_event(self._wake)
        channel.in_stderr_buffer.set_event(self._wake)

    def send(self, data: memoryview) -> int:
        sent = 0
        try:
            while sent < min(len(data), _AT_ONCE):
                if not (taken := self._channel.send(bytes(data[sent : sent + _PACKET]))):
                    break
                sent += taken
        except TimeoutError:
            pass
        except (OSError, EOFError, paramiko.SSHException):
            return len(data)  # the channel is gone; what comes from it tells the rest
        return sent

    def finish_input(self) -> None:
        with suppress(OSError, EOFError, paramiko.SSHException):
            self._channel.shutdown_write()

    def receive(self, seconds: float) -> tuple[bytes, bytes]:
        if self._flowing and not self.ended:
            time.sleep(_GATHER)
        for wait in (seconds, 0.0):
            self._wake.reset()
            out = self._channel.recv(_MOST) if self._channel.recv_ready() else b""
            err = self._channel.recv_stderr(_MOST) if self._channel.recv_stderr_ready() else b""
            if out or err or not wait or self.ended:
                break
            self._wake.wait(wait)
        self._flowing = _PACKET <= len(out) < _MOST
        return out, err

    @property
    def ended(self) -> bool:
        channel = self._channel
        over = bool(channel.closed or (channel.eof_received and channel.exit_status_ready()))
        return over and not channel.recv_ready() and not channel.recv_stderr_ready()

    @property
    def status(self) -> int | None:
        status = self._channel.exit_status
        return status if self._channel.exit_status_ready() and status >= 0 else None

    @property
    def trouble(self) -> str:
        # A shell ended by a signal has no status either, on a connection that stands.
        return self._chain.lost or ("the shell on the server was ended" if self._chain.active else "")


class _Wake(threading.Event):
    """Set by either stream; the pipes clear it when one of them is empty, which must not hide the other."""

    def clear(self) -> None:
        pass

    def reset(self) -> None:
        super().clear()


def open_channel(chain: Chain, line: str) -> paramiko.Channel:
    """Return a session channel that executes `line`; raises what paramiko raises."""
    channel = chain.transport.open_session()
    try:
        channel.exec_command(line)
    except BaseException:
        close_channel(channel)
        raise
    return channel


def close_channel(channel: paramiko.Channel) -> None:
    """End a channel, also one that is gone already."""
    with suppress(OSError, EOFError, paramiko.SSHException):
        channel.close()

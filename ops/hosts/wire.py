"""The bytes below a connection: when the peer was last heard, and a question that every server answers.

Paramiko sends keepalives but never looks for the answer, so a frozen peer is never noticed.
Imported when first used.
"""

from __future__ import annotations

import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import paramiko
from paramiko.common import cMSG_GLOBAL_REQUEST

from ops.hosts.ordering import OrderedChannels, overtaken

__all__ = ["HeardSocket", "ProbedTransport", "Watch"]

_KEX = ("curve25519-sha256@libssh.org",)
_CIPHERS = ("aes128-gcm@openssh.com", "aes128-ctr")
_WINDOW = 4 * 1024 * 1024
_READ = 256 * 1024


class HeardSocket:
    """A socket or channel that counts what it received; `ended` is True once nothing more can come.

    Paramiko lets senders fail and wakes all that waits before it calls the connection inactive, which is too late. And it
    asks for each packet in two pieces or more: what lies there is taken at once, and handed out from here.
    """

    def __init__(self, inner: socket.socket | paramiko.Channel | paramiko.ProxyCommand) -> None:
        self._inner = inner
        self._held, self._at = b"", 0
        # A ProxyCommand waits until it has all that it is asked for.
        self._most = 0 if isinstance(inner, paramiko.ProxyCommand) else _READ
        self.received = 0
        self.ended = False

    def recv(self, size: int) -> bytes:
        if self._at == len(self._held):
            with self._noting_the_end():
                data = self._inner.recv(max(size, self._most))
            self.received += len(data)
            self.ended = self.ended or not data
            if len(data) <= size:
                return data
            self._held, self._at = data, 0
        piece = self._held[self._at : self._at + size]
        self._at += len(piece)
        return piece

    def send(self, data: bytes) -> int:
        with self._noting_the_end():
            return self._inner.send(data)

    @contextmanager
    def _noting_the_end(self) -> Iterator[None]:
        try:
            yield
        except (TimeoutError, BlockingIOError):
            raise
        except (OSError, paramiko.SSHException):
            self.ended = True
            raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class ProbedTransport(paramiko.Transport):
    """A transport that mixes up no answers: of its probes, of global requests, of channels that are refused at once."""

    def __init__(
        self, sock: Any, disabled_algorithms: Any = None, *, key_types: tuple[str, ...] = ()
    ) -> None:
        super().__init__(sock, disabled_algorithms=disabled_algorithms, default_window_size=_WINDOW)
        self._asked: deque[str] = deque()
        self._asking = threading.Lock()
        self._request = threading.Lock()
        self._busy = False
        self._opening = threading.local()
        self._refusals: dict[int, paramiko.ChannelException] = {}
        self._channels = OrderedChannels(self)
        options = self.get_security_options()
        options.kex = _prefer(_KEX, tuple(options.kex))
        options.ciphers = _prefer(_CIPHERS, tuple(options.ciphers))
        wanted = tuple(algorithm for kind in key_types for algorithm in _algorithms(kind))
        options.key_types = _prefer(wanted, tuple(options.key_types))

    def probe(self) -> None:
        """Send a question that the server has to answer (with a refusal); the answer itself is dropped."""
        message = paramiko.Message()
        message.add_byte(cMSG_GLOBAL_REQUEST)
        message.add_string("keepalive@openssh.com")
        message.add_boolean(True)
        with self._asking:
            if self._busy or not self.is_active():
                return
            self._asked.append("probe")
            self._send_user_message(message)  # type: ignore[attr-defined]  # what global_request itself does

    def global_request(self, kind: str, data: Any = None, wait: bool = True) -> paramiko.Message | None:
        """Ask as paramiko does, while no probe is sent: answers carry no name, only their order."""
        if not wait:
            return super().global_request(kind, data, wait)
        with self._request:
            with self._asking:
                self._busy = True
                self._asked.append(kind)
            try:
                return super().global_request(kind, data, wait)
            finally:
                self._busy = False

    def open_channel(self, *arguments: Any, **options: Any) -> paramiko.Channel:
        """Open a channel as paramiko does; one that the server refuses raises its own ChannelException.

        Paramiko keeps a single error for the whole connection: of two channels refused at once, one would raise
        that of the other, and the other an error that looks like a broken connection.
        """
        self._opening.number = -1
        try:
            return super().open_channel(*arguments, **options)
        except Exception:
            refusal = self._refusals.pop(self._opening.number, None)
            if refusal is None:
                raise
            raise refusal from None

    def _send_message(self, message: paramiko.Message) -> None:
        if not overtaken(message):
            super()._send_message(message)  # type: ignore[misc]

    def _next_channel(self) -> int:
        number: int = super()._next_channel()  # type: ignore[misc]  # asked by `open_channel` in its own thread
        self._opening.number = number
        return number

    def _parse_channel_open_failure(self, message: paramiko.Message) -> None:
        number, code = message.get_int(), message.get_int()
        self._refusals[number] = paramiko.ChannelException(code, message.get_text())
        message.rewind()
        super()._parse_channel_open_failure(message)  # type: ignore[misc]
        self.get_exception()  # or the next that fails, whatever it is, would raise this one

    def _parse_request_success(self, message: paramiko.Message) -> None:
        if not self._was_probe():
            super()._parse_request_success(message)  # type: ignore[misc]

    def _parse_request_failure(self, message: paramiko.Message) -> None:
        if not self._was_probe():
            super()._parse_request_failure(message)  # type: ignore[misc]

    def _was_probe(self) -> bool:
        return bool(self._asked) and self._asked.popleft() == "probe"


class Watch:
    """Calls `on_silence` once when nothing at all was received for `silence` seconds, asking in between.

    Ticks are counted, not time: a laptop that slept, or a process that was stopped, gets its full time again.
    """

    def __init__(
        self, heard: HeardSocket, transport: ProbedTransport, silence: float, on_silence: Callable[[], None]
    ) -> None:
        self._heard = heard
        self._transport = transport
        self._silence = silence
        self._on_silence = on_silence
        self._over = threading.Event()
        self._probing: threading.Thread | None = None
        threading.Thread(target=self._look, name="ops-watch", daemon=True).start()

    def stop(self) -> None:
        """End the watch."""
        self._over.set()

    def _look(self) -> None:
        tick = min(0.5, self._silence / 10)
        received, ticks, every = self._heard.received, 0, max(1, round(self._silence / tick / 4))
        while not self._over.wait(tick):
            if self._heard.received != received:
                received, ticks = self._heard.received, 0
                continue
            ticks += 1
            if ticks * tick >= self._silence:
                self._on_silence()
                return
            if ticks % every == 0 and (self._probing is None or not self._probing.is_alive()):
                # In a thread of its own: with a full send buffer it blocks, and the watch must not.
                self._probing = threading.Thread(target=self._probe, name="ops-probe", daemon=True)
                self._probing.start()

    def _probe(self) -> None:
        with suppress(OSError, EOFError, paramiko.SSHException):
            self._transport.probe()


def _prefer(first: tuple[str, ...], known: tuple[str, ...]) -> tuple[str, ...]:
    chosen = tuple(name for name in first if name in known)
    return (*chosen, *(name for name in known if name not in chosen))


def _algorithms(kind: str) -> tuple[str, ...]:
    return ("rsa-sha2-512", "rsa-sha2-256") if kind == "ssh-rsa" else (kind,)

"""Streams beside the sessions: direct-tcpip to a port on the server, and a port there that leads back here.

Imported when first used.
"""

from __future__ import annotations

import io
import socket
import threading
from contextlib import suppress

import paramiko

from ops.errors import OpsError, Unreachable
from ops.hosts.cancellation import Cancellation
from ops.hosts.dial import Chain
from ops.hosts.link import Link

__all__ = ["Exposures", "TunnelSocket", "open_tunnel"]

_PIECE = 1 << 20


class TunnelSocket:
    """A direct-tcpip channel with the part of a socket that HTTP clients use (paramiko's own file is quadratic)."""

    def __init__(self, channel: paramiko.Channel) -> None:
        self._channel = channel
        self._readers = 0
        self._closed = False

    def settimeout(self, seconds: float | None) -> None:
        """Let the other calls wait so many seconds, then raise TimeoutError."""
        self._channel.settimeout(seconds)

    def sendall(self, data: bytes) -> None:
        """Send all of it."""
        try:
            self._channel.sendall(data)
        except (EOFError, paramiko.SSHException) as error:
            raise ConnectionResetError(str(error)) from error

    def recv(self, size: int) -> bytes:
        """Return what came, at most so many bytes; nothing at the end."""
        return self._channel.recv(size)

    def makefile(self, mode: str = "rb", buffering: int = -1) -> io.BufferedReader:
        """Return a buffered reader over the stream, which stays open for it when the socket is closed."""
        self._readers += 1
        return io.BufferedReader(_Reader(self), 65536 if buffering <= 1 else buffering)

    def close(self) -> None:
        """End the stream once its readers are closed too: http.client closes the socket before it reads on."""
        self._closed = True
        if not self._readers:
            with suppress(OSError, EOFError, paramiko.SSHException):
                self._channel.close()

    def reader_closed(self) -> None:
        """One reader less."""
        self._readers -= 1
        if self._closed:
            self.close()


class _Reader(io.RawIOBase):
    def __init__(self, tunnel: TunnelSocket) -> None:
        self._tunnel = tunnel

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # narrower than Buffer
        data = self._tunnel.recv(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._tunnel.reader_closed()


def open_tunnel(
    link: Link, address: str, port: int, timeout: float, cancellation: Cancellation
) -> TunnelSocket:
    """Open a stream to `address:port` as the server sees it."""

    def ask(chain: Chain) -> paramiko.Channel:
        return chain.transport.open_channel(
            "direct-tcpip", (address, port), ("127.0.0.1", 0), timeout=timeout
        )

    try:
        channel = link.asked(ask, cancellation, lambda channel: channel.close())
    except paramiko.ChannelException as error:
        if error.code == 1:
            raise OpsError(
                f"sshd forbids forwarding to {address}:{port}",
                target=link.name,
                next_step="set AllowTcpForwarding yes in its sshd_config",
            ) from error
        raise ConnectionRefusedError(f"{link.name}: {address}:{port} refused the connection") from error
    except paramiko.SSHException as error:
        if "Timeout" in str(error):
            raise TimeoutError(
                f"{link.name}: {address}:{port} did not answer within {timeout:g} s"
            ) from error
        raise ConnectionRefusedError(f"{link.name}: {address}:{port}: {error}") from error
    channel.settimeout(timeout)
    return TunnelSocket(channel)


class Exposures:
    """The ports of one server that lead back to this machine."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._targets: dict[int, int] = {}

    def open(self, port: int, to_port: int, cancellation: Cancellation) -> None:
        """Begin to forward 127.0.0.1:`port` there to 127.0.0.1:`to_port` here; raises OpsError when refused."""
        if port in self._targets:
            raise OpsError(f"port {port} leads back already", target=self._link.name)
        self._targets[port] = to_port

        def ask(chain: Chain) -> int:
            return chain.transport.request_port_forward("127.0.0.1", port, self._accept)

        try:
            self._link.asked(ask, cancellation, lambda _: None)
        except BaseException as error:
            del self._targets[port]
            if isinstance(error, paramiko.SSHException):
                raise OpsError(
                    f"sshd does not let port {port} lead back here",
                    target=self._link.name,
                    next_step="free the port there, or set AllowTcpForwarding yes in its sshd_config",
                ) from error
            raise

    def close(self, port: int) -> None:
        """Stop forwarding; streams that are open go on to their end."""
        self._targets.pop(port, None)

        def ask(chain: Chain) -> object:  # paramiko's own cancel would silence the other ports too
            return chain.transport.global_request("cancel-tcpip-forward", ("127.0.0.1", port), wait=True)

        with suppress(Unreachable, paramiko.SSHException):
            self._link.asked(ask, Cancellation(), lambda _: None)

    def _accept(self, channel: paramiko.Channel, origin: tuple[str, int], server: tuple[str, int]) -> None:
        """Called by the connection's reading thread, which must not wait."""
        threading.Thread(
            target=self._carry, args=(channel, server[1]), name="ops-expose", daemon=True
        ).start()

    def _carry(self, channel: paramiko.Channel, port: int) -> None:
        try:
            local = socket.create_connection(("127.0.0.1", self._targets[port]), timeout=10)
        except (OSError, KeyError):
            channel.close()
            return
        local.settimeout(None)
        back = threading.Thread(target=_copy_in, args=(channel, local), name="ops-expose", daemon=True)
        back.start()
        _copy_out(local, channel)
        back.join()
        local.close()
        with suppress(OSError, EOFError, paramiko.SSHException):
            channel.close()


def _copy_in(channel: paramiko.Channel, local: socket.socket) -> None:
    with suppress(OSError, EOFError, paramiko.SSHException):
        while data := channel.recv(_PIECE):
            local.sendall(data)
    with suppress(OSError):
        local.shutdown(socket.SHUT_WR)
    if channel.closed:  # then nothing that the local side still says can be delivered
        with suppress(OSError):
            local.shutdown(socket.SHUT_RD)


def _copy_out(local: socket.socket, channel: paramiko.Channel) -> None:
    with suppress(OSError, EOFError, paramiko.SSHException):
        while data := local.recv(_PIECE):
            channel.sendall(data)
    with suppress(OSError, EOFError, paramiko.SSHException):
        channel.shutdown_write()

"""One HTTP request over any connection that a host opens."""

from __future__ import annotations

import contextlib
import http.client
import io
import ssl
import time
from dataclasses import dataclass
from typing import Any

from ops.hosts import Connection, Host

__all__ = ["Answer", "request"]


@dataclass(frozen=True)
class Answer:
    """Status, up to 64 KiB of the body as text, and the seconds from the connect to the last byte."""

    status: int
    body: str
    seconds: float


def request(
    host: Host,
    address: str,
    port: int,
    path: str,
    *,
    name: str = "",
    timeout: float = 5.0,
    tls: ssl.SSLContext | None = None,
) -> Answer:
    """GET a path from `address:port` as seen from the host. Redirects are not followed.

    Raises OSError (refused, timed out, TLS) or http.client.HTTPException.
    """
    start = time.monotonic()
    channel = host.connect(address, port, timeout=timeout)
    try:
        channel.settimeout(timeout)
        stream: Any = channel
        if tls is not None:
            from urllib3.util.ssltransport import SSLTransport

            stream = SSLTransport(channel, tls, server_hostname=name or address)  # type: ignore[arg-type]  # used for a socket's four verbs only
        connection = http.client.HTTPConnection(name or address, port, timeout=timeout)
        connection.sock = stream
        standard = 443 if tls is not None else 80
        shown = name or address
        headers = {
            "Host": shown if port == standard else f"{shown}:{port}",
            "User-Agent": "opsbook",
            "Connection": "close",
        }
        connection.request("GET", path, headers=headers)
        # connection.getresponse() would close the stream behind the headers, and an SSH channel loses the body then.
        response = http.client.HTTPResponse(_Readable(stream), method="GET")  # type: ignore[arg-type]  # it calls makefile only
        response.begin()
        body = response.read(65536)
        return Answer(response.status, body.decode(errors="replace"), time.monotonic() - start)
    finally:
        _close(channel)


class _Readable:
    """The reading half of a socket over anything with `recv`; TLS over an SSH channel has no other."""

    def __init__(self, stream: Connection) -> None:
        self._stream = stream

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Reader(self._stream))


class _Reader(io.RawIOBase):
    def __init__(self, stream: Connection) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # narrower than Buffer
        data = self._stream.recv(len(buffer)) or b""
        buffer[: len(data)] = data
        return len(data)


def _close(channel: Connection) -> None:
    with contextlib.suppress(OSError):
        channel.close()

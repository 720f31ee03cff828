"""When the sandbox's registries count as ready."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.errors import FailedUnchanged
from ops.sandbox.certificates import issue
from ops.sandbox.registry import wait


class Port:
    """Takes connections as an engine does at a published port: ends the first ones, before anything was said."""

    def __init__(self, folder: Path, ended: int) -> None:
        certificate, key = issue(folder, "mirror.sandbox", ["127.0.0.1"])
        (folder / "tls.crt").write_bytes(certificate)
        (folder / "tls.key").write_bytes(key)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
        self.trusting = ssl.create_default_context(cafile=str(folder / "ca.crt"))
        self.left = ended
        self.taken = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.published = f"127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.taken += 1
            if self.left > 0:
                self.left -= 1
                connection.close()
                continue
            with self._context.wrap_socket(connection, server_side=True) as secure:
                secure.recv(4096)
                secure.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def port(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Port]:
    found = Port(tmp_path, request.param)
    yield found
    found.close()


@pytest.mark.parametrize("port", [3], indirect=True)
def test_a_port_that_ends_connections_before_the_registry_listens_is_waited_for(port: Port) -> None:
    wait(port.published, port.trusting)
    assert port.taken == 4


@pytest.mark.parametrize("port", [1_000_000], indirect=True)
def test_a_registry_that_never_answers_is_an_error_that_says_where(port: Port) -> None:
    with pytest.raises(FailedUnchanged, match=port.published):
        wait(port.published, port.trusting, seconds=0.3)
    assert port.taken > 1

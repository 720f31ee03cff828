"""A small HTTP server on this machine, and a host whose connections end there."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Callable

from ops.hosts.fake import FakeHost

__all__ = ["Web", "web_host"]


class Web:
    """Answers every request with `answer(path)`: (status, body). `paths` and `hosts` are what was asked."""

    def __init__(self) -> None:
        self.answer: Callable[[str], tuple[int, str]] = lambda path: (200, "ok")
        self.paths: list[str] = []
        self.hosts: list[str | None] = []
        web = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                web.paths.append(self.path)
                web.hosts.append(self.headers["Host"])
                status, body = web.answer(self.path)
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *args: object) -> None:
                return

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def connect(self) -> socket.socket:
        """Open a connection to it."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=5)

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()


def web_host(web: Web, *places: tuple[str, int]) -> FakeHost:
    """Return a host from which the server is reached at some addresses and ports."""
    host = FakeHost("web1")
    for place in places:
        host.connections[place] = web.connect
    return host

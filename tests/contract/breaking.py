"""A way to an S3 service that breaks where it is told to: answers 500, hangs, or loses the answer of what was done."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import urlsplit

__all__ = ["Breaking", "Fault"]

_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}


@dataclass
class Fault:
    """What happens to requests that `hits` wants, the first so many `times`."""

    hits: Callable[[str, str], bool]  # of the method, and the path with its query
    what: Literal["500", "hang", "lost"]
    times: float = float("inf")


class Breaking:
    """Listens on 127.0.0.1 and passes requests on, all but those that a fault wants."""

    def __init__(self, endpoint: str) -> None:
        self.faults: list[Fault] = []
        self.seen: list[str] = []
        self.ended = threading.Event()
        self._lock = threading.Lock()
        breaking, upstream = self, urlsplit(endpoint)

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                self.close_connection = True
                self.raw_requestline = self.rfile.readline(65537)
                if not self.raw_requestline or not self.parse_request():
                    return
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self.close_connection = True
                fault = breaking.fault(self.command, self.path)
                if fault is not None and fault.what == "hang":
                    breaking.ended.wait(60)
                    return
                if fault is not None and fault.what == "500":
                    self.answer(
                        500, {}, b"<Error><Code>InternalError</Code><Message>broken</Message></Error>"
                    )
                    return
                server = http.client.HTTPConnection(str(upstream.hostname), upstream.port, timeout=60)
                headers = {name: value for name, value in self.headers.items() if name.lower() != "expect"}
                server.request(self.command, self.path, body, headers)
                found = server.getresponse()
                content = found.read()
                server.close()
                if fault is None:  # else the answer is lost
                    self.answer(found.status, dict(found.getheaders()), content)

            def answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
                self.send_response_only(status)
                for name, value in headers.items():
                    if name.lower() not in _HOP:
                        self.send_header(name, value)
                length = headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(content))
                self.send_header("Content-Length", length)
                self.send_header("Connection", "close")
                self.end_headers()
                self.wfile.write(content)

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                """A client that has given up is what is tested."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def fault(self, method: str, path: str) -> Fault | None:
        """Return the fault that a request meets, and count it."""
        with self._lock:
            self.seen.append(f"{method} {path}")
            for fault in self.faults:
                if fault.times > 0 and fault.hits(method, path):
                    fault.times -= 1
                    return fault
        return None

    def stop(self) -> None:
        """Let go of everything."""
        self.ended.set()
        self._server.shutdown()
        self._server.server_close()

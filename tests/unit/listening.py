"""A dead man's switch on this machine: takes pings, and answers as it is told."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

__all__ = ["Pinged", "Switch"]


@dataclass(frozen=True)
class Pinged:
    """One ping: what stands behind the URL (empty for a success), its run and its text."""

    event: str
    rid: str
    text: str
    query: str


class Switch:
    """Its URL is `url`; `pings` are those that came. `answer(event)` gives the status, and may take its time."""

    def __init__(self) -> None:
        self.pings: list[Pinged] = []
        self.answer: Callable[[str], int] = lambda event: 200
        switch = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                text = self.rfile.read(int(self.headers["Content-Length"])).decode()
                parts = urlsplit(self.path)
                event = parts.path.removeprefix("/5ecb7e4d/secret-check").strip("/")
                switch.pings.append(Pinged(event, parse_qs(parts.query)["rid"][0], text, parts.query))
                self.send_response(switch.answer(event))
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: object) -> None:
                return

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/5ecb7e4d/secret-check"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def events(self) -> list[str]:
        """What came, in order."""
        return [one.event for one in self.pings]

    def close(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()

"""Pings of a dead man's switch as Healthchecks takes them: the URL itself for success, with /start and /fail behind it."""

from __future__ import annotations

import threading
import time
import uuid
from typing import Literal
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

__all__ = ["BODY", "PATIENCE", "TIMEOUT", "Event", "Ping", "ping", "rid"]

Event = Literal["start", "success", "fail"]

TIMEOUT = 5.0  # seconds, for a connection and for an answer
TRIES = 2
PATIENCE = 12.0  # seconds that anybody waits for one ping; a name server that hangs knows no timeout
BODY = 9_000  # bytes; a Healthchecks of one's own keeps the first 10,000


class Ping:
    """One ping on its way in a thread of its own, which holds up nobody: neither a backup nor the end of the process."""

    def __init__(self, url: str, event: Event, run_id: str, text: str) -> None:
        self._trouble: str | None = None
        self._until = time.monotonic() + PATIENCE
        self._thread = threading.Thread(
            target=self._send, args=(url, event, run_id, text), name="ops-ping", daemon=True
        )
        self._thread.start()

    def trouble(self) -> str | None:
        """Wait for its end, PATIENCE at most, and return why it did not arrive; None for one that did.

        The reason holds nothing of the URL: whoever has it may ping.
        """
        self._thread.join(max(0.0, self._until - time.monotonic()))
        return f"no answer within {PATIENCE:g} s" if self._thread.is_alive() else self._trouble

    def _send(self, url: str, event: Event, run_id: str, text: str) -> None:
        for _ in range(TRIES):
            try:
                self._trouble, again = _post(address(url, event, run_id), text)
            except Exception as error:  # of a URL that is none, and the like; its text may hold the URL
                self._trouble, again = f"the URL cannot be used ({type(error).__name__})", False
            if not again:
                return


def ping(url: str, event: Event, run_id: str, text: str) -> Ping:
    """Send a ping with a text for people, whose first 9,000 bytes go along; return it on its way."""
    return Ping(url, event, run_id, text)


def rid(run_id: str) -> str:
    """Return the UUID of a run, by which Healthchecks measures the time from its start to its end."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"opsbook run {run_id}"))


def address(url: str, event: Event, run_id: str) -> str:
    """Return what is asked for; raises ValueError for what is no URL of http or https."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("no URL of http or https")
    path = parts.path.rstrip("/") + ("" if event == "success" else f"/{event}")
    query = urlencode([*parse_qsl(parts.query, keep_blank_values=True), ("rid", rid(run_id))])
    return urlunsplit((parts.scheme, parts.netloc, path, query, ""))


def _post(url: str, text: str) -> tuple[str | None, bool]:
    """Return why it failed (None: it did not), and whether another try may help."""
    import urllib.error
    import urllib.request  # slow, and of use to those alone who have pings

    request = urllib.request.Request(
        url,
        data=text.encode(errors="replace")[:BODY],
        headers={"Content-Type": "text/plain; charset=utf-8", "User-Agent": "opsbook"},
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT):
            return None, False
    except urllib.error.HTTPError as error:
        with error:
            return f"HTTP status {error.code}", error.code >= 500 or error.code == 429
    except urllib.error.URLError as error:
        return str(error.reason), True
    except OSError as error:
        return str(error) or type(error).__name__, True

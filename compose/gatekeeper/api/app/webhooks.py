"""Who may send an event: a signature over the time and the body, taken once and not for long."""

import hashlib
import hmac
import time

WINDOW_SECONDS = 300


class Refused(Exception):
    """An event that is not taken; the text says why."""


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """Return what a sender puts into X-Signature: HMAC-SHA256 over the time, a dot and the body."""
    return "sha256=" + hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def check(secret: str, timestamp: str, given: str, body: bytes, *, now: float | None = None) -> None:
    """Return for an event that its sender signed within the last five minutes; raise Refused for any other."""
    expected = signature(secret, timestamp, body)
    if not hmac.compare_digest(expected.encode(), given.encode()):
        raise Refused("the signature does not fit")
    # The time is part of what is signed, so that from here on it is the sender's own word.
    if (
        not timestamp.isdigit()
        or abs((time.time() if now is None else now) - int(timestamp)) > WINDOW_SECONDS
    ):
        raise Refused("the signature is too old")

"""Smoke checks: requests through the proxy after the switch, as the users make them."""

from __future__ import annotations

import http.client
import ssl
from pathlib import Path

from ops.commands import Command, quote
from ops.config import Settings
from ops.config.services import Smoke
from ops.engines.ports import published_ports
from ops.errors import ConfigError, OpsError
from ops.gates.http import request
from ops.hosts import Cancellation, Host

__all__ = ["SmokeFailed", "check", "smoke", "untrusted"]

LOOPBACK = "127.0.0.1"
TRIES = 3  # a fresh proxy may refuse the first connection; a broken release refuses them all


class SmokeFailed(OpsError):
    """An answer through the proxy was not the one expected."""


def smoke(
    host: Host, check_: Smoke, folder: Path, address: str, cancellation: Cancellation, project: str
) -> None:
    """Run one check on one server, at most three times in about a second.

    It goes to where containers of the `project` publish the port.
    Raises SmokeFailed with what was asked, what came, and what was expected.
    """
    fault, at = "", _published_at(host, check_.port, project)
    for attempt in range(TRIES):
        if attempt:
            cancellation.wait(0.5)
        found = check(host, check_, folder, address, at)
        if found is None:
            return
        fault = found
    raise SmokeFailed(
        f"smoke check {check_.scheme}://…:{check_.port}{check_.path}: {fault}", target=host.name
    )


def check(host: Host, check_: Smoke, folder: Path, address: str, at: str = LOOPBACK) -> str | None:
    """Make one request; return None when the answer is the one expected, else the difference.

    `address` is the server's own, for the Host header; `at` is where it is asked, from the server itself.
    """
    try:
        tls = _context(check_, folder) if check_.scheme == "https" else None
        answer = request(
            host,
            at,
            check_.port,
            check_.path,
            name=check_.host or address,
            timeout=check_.max_seconds,
            tls=tls,
        )
    except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: what cannot be sent
        return f"no answer ({error or type(error).__name__})"
    if answer.status != check_.status:
        return f"status {answer.status}, expected {check_.status}; body begins {answer.body[:200]!r}"
    if check_.contains and check_.contains not in answer.body:
        return f"the body lacks {check_.contains!r}; it begins {answer.body[:200]!r}"
    if answer.seconds > check_.max_seconds:
        return f"it took {answer.seconds:.2f} s, allowed are {check_.max_seconds:g} s"
    return None


def _published_at(host: Host, port: int, project: str) -> str:
    """Return the address of the server that a port is published at: 127.0.0.1 where it is among them, or none is known."""
    label = f"com.docker.compose.project={project}"
    result = host.run(
        Command(
            f"docker ps --filter {quote(f'label={label}')} --format '{{{{.Ports}}}}'",
            timeout=20,
            title="docker ps: where the port is published",
        )
    )
    found = [
        one.address for one in published_ports(result.stdout) if port in one.numbers and one.protocol == "tcp"
    ]
    return LOOPBACK if not found or {"0.0.0.0", "::", LOOPBACK} & {*found} else found[0]


def untrusted(settings: Settings) -> list[ConfigError]:
    """Return an error for each smoke check whose `ca` is no file with certificates; it would fail after the switch."""
    found = []
    for number, check_ in enumerate(settings.config.smoke):
        try:
            if check_.scheme == "https":
                _context(check_, settings.folder)
        except (OSError, ValueError) as error:
            what = "holds no certificate in PEM form" if isinstance(error, ssl.SSLError) else _words(error)
            found.append(
                ConfigError(
                    f"{settings.file}: smoke[{number}].ca: {settings.folder / check_.ca} {what}",
                    next_step="name a PEM file, relative to ops.toml",
                )
            )
    return found


def _context(check_: Smoke, folder: Path) -> ssl.SSLContext:
    """Raises OSError (SSLError among them) or ValueError where `ca` cannot be loaded."""
    tls = ssl.create_default_context(cafile=str(folder / check_.ca) if check_.ca else None)
    if not check_.ca:
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    return tls


def _words(error: Exception) -> str:
    return f"cannot be read: {error.strerror if isinstance(error, OSError) else error}"

"""Host keys: shown to a person, recorded when the person says that they are right."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ops.config import Settings
from ops.errors import UsageError
from ops.hosts.fleet import server_route
from ops.hosts.known_hosts import Verdict, judge, record
from ops.hosts.route import Endpoint

__all__ = ["Trusted", "trust"]


@dataclass(frozen=True)
class Trusted:
    """One server: the key that it showed, what was known of it, and whether it was recorded, and in which file."""

    server: str
    name: str
    fingerprint: str
    kind: str
    verdict: Verdict
    recorded: bool
    file: str


def trust(
    settings: Settings, servers: Sequence[str], *, replace: bool, agree: Callable[[Trusted], bool]
) -> tuple[Trusted, ...]:
    """Ask each server for its host key and record those that `agree` accepts; known ones are left alone.

    Jump hosts on the way come first, each asked for as itself. Raises UsageError for a changed key without
    `replace`, Unreachable for a server that does not answer.
    """
    found: dict[str, Trusted] = {}
    for server in servers:
        endpoints = server_route(server, settings.config, settings.folder)
        for hops in range(1, len(endpoints) + 1):
            name = endpoints[hops - 1].known_as
            if name not in found:
                found[name] = _one(settings, server, endpoints[:hops], replace, agree)
            if found[name].verdict != "known" and not found[name].recorded:
                break  # nothing behind a server that is not trusted is asked through it
    return tuple(found.values())


def _one(
    settings: Settings,
    server: str,
    endpoints: Sequence[Endpoint],
    replace: bool,
    agree: Callable[[Trusted], bool],
) -> Trusted:
    from ops.hosts.dial import scan

    target = endpoints[-1]
    key = scan(server, endpoints, settings.environment)
    verdict = judge(target.known_hosts, target.known_as, key)
    file = target.known_hosts[0] if target.known_hosts else Path("~/.ssh/known_hosts").expanduser()
    seen = Trusted(server, target.known_as, key.fingerprint, key.kind, verdict, False, str(file))
    if verdict == "revoked":
        raise UsageError(
            f"the host key of {target.known_as} is revoked: {key.fingerprint} ({key.kind})", target=server
        )
    if verdict == "changed" and not replace:
        raise UsageError(
            f"the host key of {target.known_as} is not the one that is known; "
            f"it is now {key.fingerprint} ({key.kind}). This may be an attack",
            target=server,
            next_step="only if the server was set up anew: "
            f"inv servers.trust {settings.options} --server {server} --replace",
        )
    if verdict == "known" or not agree(seen):
        return seen
    record(file, target.known_as, key, replace=replace)
    return dataclasses.replace(seen, recorded=True)

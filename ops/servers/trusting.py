"""Host keys: shown to a person, recorded when the person says that they are right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ops.config import Settings
from ops.errors import UsageError
from ops.hosts.fleet import server_route
from ops.hosts.known_hosts import HostKey, Verdict, judge, record

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

    Jump hosts on the way have to be known already. Raises UsageError for a changed key without `replace`,
    Unreachable for a server that does not answer.
    """
    from ops.hosts.dial import scan

    found = []
    for server in servers:
        endpoints = server_route(server, settings.config, settings.folder)
        if not endpoints:
            continue
        target = endpoints[-1]
        key: HostKey = scan(server, endpoints, settings.environment)
        verdict = judge(target.known_hosts, target.known_as, key)
        file = target.known_hosts[0] if target.known_hosts else Path("~/.ssh/known_hosts").expanduser()
        seen = Trusted(server, target.known_as, key.fingerprint, key.kind, verdict, False, str(file))
        if verdict in ("changed", "revoked") and not replace:
            raise UsageError(
                f"the host key of {target.known_as} is {'not the one that is known' if verdict == 'changed' else 'revoked'}; "
                f"it is now {key.fingerprint} ({key.kind}). This may be an attack",
                target=server,
                next_step=f"only if the server was set up anew: inv servers.trust {settings.options} --server {server} --replace",
            )
        if verdict != "known" and agree(seen):
            record(file, target.known_as, key, replace=replace)
            seen = Trusted(server, target.known_as, key.fingerprint, key.kind, verdict, True, str(file))
        found.append(seen)
    return tuple(found)

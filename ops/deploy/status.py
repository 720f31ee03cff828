"""What serves where, and what happened: read from the servers, never from the journal alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ops.config import Settings
from ops.deploy.survey import current_release, layout_of, survey
from ops.engines.release import fits
from ops.errors import OpsError
from ops.hosts import Host
from ops.runs.journal import Entry, parse_journal, read_journal
from ops.runs.lock import LONG, Holder

__all__ = ["ServerStatus", "ServiceStatus", "Status", "history", "newest", "status"]


@dataclass(frozen=True)
class ServiceStatus:
    """One service on one server: containers that run as the release says, of those it wants; `note` says what is off."""

    name: str
    running: int
    wanted: int
    image: str
    health: str
    note: str = ""


@dataclass(frozen=True)
class ServerStatus:
    """One server; without an answer from it, `error` says why and the rest is empty."""

    release: str | None = None
    version: str | None = None
    created: str | None = None
    services: tuple[ServiceStatus, ...] = ()
    error: str | None = None


@dataclass(frozen=True)
class Status:
    """A stack in an environment. `agree` is true when all servers answer, serve one release, and run it whole; `well`
    when no dead run left its lock besides, which the next run would be refused for.
    """

    stack: str
    environment: str
    servers: Mapping[str, ServerStatus]
    locked_by: Holder | None
    heartbeat_age: float | None
    stale: bool

    @property
    def agree(self) -> bool:
        """See the class."""
        releases = {server.release for server in self.servers.values()}
        whole = all(
            server.error is None
            and all(service.running == service.wanted and not service.note for service in server.services)
            for server in self.servers.values()
        )
        return whole and len(releases) == 1 and None not in releases

    @property
    def well(self) -> bool:
        """See the class."""
        return self.agree and not self.stale


def status(settings: Settings, hosts: Mapping[str, Host], state_host: str) -> Status:
    """Ask every server and return what serves; a server that does not answer is part of the answer."""
    surveys, failed = survey(settings, hosts, None)
    servers: dict[str, ServerStatus] = {}
    for name in hosts:
        if name in failed:
            servers[name] = ServerStatus(error=failed[name].message)
            continue
        found = surveys[name]
        release = current_release(found)
        if release is None:
            servers[name] = ServerStatus()
            continue
        services = []
        for spec in release.scaled().services.values():
            containers = [c for c in found.facts.containers if c.service == spec.name]
            if spec.once:  # what another version's job left, and one that is away, are as they should be
                containers = [c for c in containers if c.config == spec.config]
            good = [c for c in containers if fits(spec, c)]
            other = len(containers) - len(good)
            sick = sum(c.health == "unhealthy" for c in good)
            notes = [f"{other} container(s) not as the release says"] if other else []
            notes += [f"{sick} container(s) that Docker calls unhealthy"] if sick else []
            note = ", ".join(notes)
            health = ", ".join(sorted({c.health for c in containers if c.health})) or "-"
            health = spec.health.kind if spec.once else health
            wanted = len(containers) if spec.once else spec.replicas
            services.append(ServiceStatus(spec.name, len(good), wanted, spec.image, health, note))
        servers[name] = ServerStatus(release.id, release.version, release.created, tuple(services))
    state = surveys.get(state_host)
    holder = Holder.from_json(state.facts.holder) if state else None
    age = state.facts.heartbeat_age if state else None
    stale = age is not None and age > settings.config.lock.stale_after
    if age is not None and age > LONG:
        age = None  # its run gave the lock up by itself
    return Status(settings.stack, settings.environment, servers, holder, age, stale)


def history(settings: Settings, state: Host, lines: int = 200) -> tuple[Entry, ...]:
    """Return the journal's newest entries, the oldest first. Raises OpsError when the state host does not answer."""
    result = state.run(read_journal(layout_of(settings), lines))
    if not result.ok:
        raise OpsError(f"the journal cannot be read: {result.last_lines}", target=state.name)
    return parse_journal(result.stdout)


def newest(entries: Sequence[Entry], runs: int) -> tuple[Entry, ...]:
    """Return the entries of the newest runs, the oldest first."""
    kept = list(dict.fromkeys(entry.run_id for entry in entries))[-runs:]
    return tuple(entry for entry in entries if entry.run_id in kept)

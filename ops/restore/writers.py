"""Who writes to the data: stopped while it is swapped, started behind it, and gated.

Containers are stopped and started, never made anew: what comes back is what was there, with its name and its settings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from ops.commands import Command, quote
from ops.config import Settings
from ops.engines.facts import Container, containers_query, parse_containers
from ops.engines.nginx import resolve_again
from ops.engines.release import Release
from ops.errors import ConfigError, FailedUnchanged
from ops.gates.health import wait_healthy
from ops.hosts import Host
from ops.hosts.fleet import each, together
from ops.restore.places import must
from ops.runs.releases import layout_of
from ops.runs.run import Run

__all__ = ["Ids", "Writers", "gate", "start", "stop", "writers"]

Ids = Mapping[str, Sequence[str]]  # of containers, by server


_NONE: Ids = MappingProxyType({})


@dataclass(frozen=True)
class Writers:
    """The release that each server serves, and the containers that are stopped there for the swap.

    `holding` are the containers of datastores; they are gated too, as a swap may have started them anew.
    """

    releases: Mapping[str, Release] = field(default_factory=dict)
    stopped: Mapping[str, tuple[Container, ...]] = field(default_factory=dict)
    holding: Mapping[str, tuple[Container, ...]] = field(default_factory=dict)

    @property
    def services(self) -> tuple[str, ...]:
        """The services that are stopped, by name."""
        return tuple(sorted({one.service for found in self.stopped.values() for one in found}))

    @property
    def ids(self) -> Ids:
        """What is stopped where."""
        return {name: [one.id for one in found] for name, found in self.stopped.items() if found}


def writers(settings: Settings, hosts: Mapping[str, Host], already: Ids = _NONE) -> Writers:
    """Return what is to be stopped: all that runs of it now, and what was stopped `already` by a run that died.

    Nobody where nothing is deployed. Raises ConfigError for a writer that no server has.
    """
    releases = together(each(hosts, lambda host: _release(settings, host)))
    serving = {name: release for name, release in releases.items() if release is not None}
    named = settings.config.restore.writers
    known = {service for release in serving.values() for service in release.services}
    if serving and (unknown := [name for name in named or () if name not in known]):
        raise ConfigError(
            f"[restore] writers: no server runs {unknown[0]!r}; they run: {', '.join(sorted(known))}"
        )
    holding = settings.config.datastores.services

    def stops(release: Release, service: str) -> bool:
        if service in holding or service not in release.services:
            return False
        if named is not None:
            return service in named
        proxy = release.proxy.service if release.proxy else None
        return service != proxy and not release.services[service].once

    def look(host: Host) -> tuple[tuple[Container, ...], tuple[Container, ...]]:
        here, release = _containers(settings, host), serving[host.name]
        at_work = tuple(c for c in here if c.state in ("running", "restarting"))
        idle = tuple(c for c in here if c.id in already.get(host.name, ()) and c not in at_work)
        return (
            (*(c for c in at_work if stops(release, c.service)), *idle),
            tuple(c for c in at_work if c.service in holding),
        )

    found = together(each({name: hosts[name] for name in serving}, look))
    return Writers(
        serving,
        {name: stopped for name, (stopped, _) in found.items()},
        {name: held for name, (_, held) in found.items()},
    )


def stop(run: Run, hosts: Mapping[str, Host], found: Writers) -> None:
    """Stop them on all servers at once, each with its own grace period; those that stand still already stay so."""

    def one(host: Host) -> None:
        run.reporter.step(host.name, f"stop {_services(found.stopped[host.name])}")
        must(run, host, _docker("stop", found.stopped[host.name], run.settings.config.timeout))

    together(each(_of(hosts, found.stopped), one))


def start(run: Run, hosts: Mapping[str, Host], found: Writers) -> None:
    """Start them again, and let each proxy look up where they are: an address may be another's now."""

    def one(host: Host) -> None:
        run.reporter.step(host.name, f"start {_services(found.stopped[host.name])}")
        must(run, host, _docker("start", found.stopped[host.name], run.settings.config.timeout))

    together(each(_of(hosts, found.stopped), one))
    if not any(found.stopped.values()):
        return

    def look_up(host: Host) -> None:
        proxy = found.releases[host.name].proxy
        if proxy is not None:
            must(run, host, resolve_again(run.settings.project, proxy))

    together(each({name: hosts[name] for name in found.releases}, look_up))


def gate(run: Run, hosts: Mapping[str, Host], found: Writers) -> None:
    """Wait until what was stopped, and what holds the data, is healthy; raises GateFailed where it is not."""

    gated = {name: (*found.holding[name], *found.stopped[name]) for name in found.releases}

    def one(host: Host) -> None:
        release, containers = found.releases[host.name].scaled(), gated[host.name]
        known = {c.id: c.restarts for c in containers}
        for service in dict.fromkeys(c.service for c in containers):
            spec = release.services.get(service)
            if spec is None or not spec.replicas:
                continue
            run.reporter.step(host.name, f"wait until {service} is healthy")
            now = _containers(run.settings, host)
            cancellation = run.interruption.cancellation
            wait_healthy(host, run.settings.project, spec, now, cancellation, restarts=known)

    together(each(_of(hosts, gated), one))


def _release(settings: Settings, host: Host) -> Release | None:
    path = quote(f"{layout_of(settings).current}/release.json")
    text = host.run(Command(f"cat {path} 2>/dev/null || true", title="which release serves here")).stdout
    return Release.from_json(text) if text.strip() else None


def _containers(settings: Settings, host: Host) -> tuple[Container, ...]:
    result = host.run(containers_query(settings.project))
    if not result.ok:
        raise FailedUnchanged(f"Docker does not answer: {result.last_lines}", target=host.name)
    return parse_containers(result.stdout)


def _services(containers: tuple[Container, ...]) -> str:
    return ", ".join(sorted({c.service for c in containers}))


def _docker(word: str, containers: tuple[Container, ...], timeout: float) -> Command:
    ids = " ".join(quote(c.id) for c in containers)
    return Command(
        f"docker {word} {ids} >/dev/null",
        changes="containers",
        timeout=timeout,
        title=f"docker {word} {' '.join(c.name for c in containers)}",
    )


def _of(hosts: Mapping[str, Host], containers: Mapping[str, tuple[Container, ...]]) -> dict[str, Host]:
    """Return the hosts on which there is one of the containers."""
    return {name: hosts[name] for name, found in containers.items() if found}

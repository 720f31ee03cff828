"""The health gate: fresh containers are probed from outside, through the host, until they pass in a row."""

from __future__ import annotations

import http.client
import time
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType

from ops.commands import Command, quote
from ops.engines.facts import Container, containers_query, parse_containers
from ops.engines.release import HealthSpec, ServiceSpec, ended_well
from ops.errors import OpsError
from ops.gates.http import request
from ops.hosts import Cancellation, Host

__all__ = ["GateFailed", "probe", "soak", "wait_healthy"]

LOG_LINES = 20
LOOK_EVERY = 1.0  # seconds between looks at Docker's own state while probes fail
PROBE_TIMEOUT = 3.0
STEADY = 2.0  # seconds that a container has to stay up where nothing but its running can be asked

_NEVER: Mapping[str, int] = MappingProxyType({})


class GateFailed(OpsError):
    """A container crashed, was restarted, or did not become healthy; the message ends with its last lines."""


def wait_healthy(
    host: Host,
    project: str,
    spec: ServiceSpec,
    containers: Sequence[Container],
    cancellation: Cancellation,
    leaving: Collection[str] = (),
    restarts: Mapping[str, int] = _NEVER,
) -> tuple[Container, ...]:
    """Wait until the service's containers of this definition pass their probes; return all containers as last seen.

    Containers whose ids are among `leaving` do not count; `restarts` is how often those from before the run had
    been restarted by then. Raises GateFailed when one exits, is restarted, or is not healthy after `spec.health.timeout` seconds.
    """
    health = spec.health
    steady = min(STEADY, health.timeout / 2)
    since: dict[str, float] = {}
    deadline = time.monotonic() + health.timeout
    seen = tuple(containers)
    passed: dict[str, int] = {}
    looked = time.monotonic()
    while True:
        wanted = _wanted(spec, seen, leaving)
        _stop_at_crash(host, spec, wanted, restarts)
        results = {c.id: probe(host, c, health) for c in wanted}
        young = [c for c in wanted if _blind(c, health) and looked - since.setdefault(c.id, looked) < steady]
        for identity, fault in results.items():
            passed[identity] = passed.get(identity, 0) + 1 if fault is None else 0
        needed = health.passes if health.kind in ("http", "tcp") else 1
        if len(wanted) >= spec.replicas and not young and all(passed[c.id] >= needed for c in wanted):
            return seen
        if time.monotonic() > deadline:
            raise _late(host, spec, wanted, results)
        cancellation.wait(health.interval)
        failing = any(results.values()) or len(wanted) < spec.replicas
        slow = time.monotonic() - looked > LOOK_EVERY
        if (failing and (health.kind not in ("http", "tcp") or slow)) or (young and slow):
            seen = _look(host, project)
            looked = time.monotonic()


def soak(
    host: Host,
    project: str,
    spec: ServiceSpec,
    containers: Sequence[Container],
    cancellation: Cancellation,
    leaving: Collection[str] = (),
) -> tuple[Container, ...]:
    """Watch the service's containers of this definition for `spec.health.soak` seconds.

    Raises GateFailed at the first restart, exit, or probe that fails twice in a row.
    """
    seen = tuple(containers)
    baseline = {c.id: c.restarts for c in _wanted(spec, seen, leaving)}
    end = time.monotonic() + spec.health.soak
    failed: dict[str, int] = {}
    while True:
        seen = _look(host, project)
        wanted = _wanted(spec, seen, leaving)
        _stop_at_crash(host, spec, wanted, baseline)
        if len(wanted) < spec.replicas:
            raise GateFailed(
                f"{spec.name}: {spec.replicas - len(wanted)} container(s) vanished during the soak",
                target=host.name,
            )
        results = {c.id: probe(host, c, spec.health) for c in wanted}
        for identity, fault in results.items():
            failed[identity] = failed.get(identity, 0) + 1 if fault else 0
        if any(count >= 2 for count in failed.values()):
            raise _late(host, spec, wanted, results, "turned unhealthy during the soak")
        left = end - time.monotonic()
        if left <= 0:
            return seen
        cancellation.wait(min(max(spec.health.interval, 0.3), left))


def probe(host: Host, container: Container, health: HealthSpec) -> str | None:
    """Probe one container once; return None when it passes, else the reason in a few words."""
    if health.kind == "completed":
        return None if container.state == "exited" else f"it is {container.state}, not at its end"
    if health.kind in ("docker", "running"):
        if container.health and health.kind == "docker":
            return None if container.health == "healthy" else f"Docker's healthcheck says {container.health}"
        return None if container.running else f"it is {container.state}"
    address = (
        container.addresses[0] if container.addresses else "127.0.0.1"
    )  # a container on the host's own network
    port = health.port or 80
    try:
        if health.kind == "tcp":
            host.connect(address, port, timeout=PROBE_TIMEOUT).close()
            return None
        answer = request(host, address, port, health.path, timeout=PROBE_TIMEOUT)
    except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: what cannot be sent
        return f"{address}:{port} {_words(error)}"
    return None if 200 <= answer.status < 400 else f"{health.path} answers {answer.status}"


def _blind(container: Container, health: HealthSpec) -> bool:
    """Return whether nothing but its running tells that a container is good."""
    return health.kind == "running" or (health.kind == "docker" and not container.health)


def _wanted(spec: ServiceSpec, containers: Sequence[Container], leaving: Collection[str]) -> list[Container]:
    return [
        c for c in containers if c.service == spec.name and c.config == spec.config and c.id not in leaving
    ]


def _look(host: Host, project: str) -> tuple[Container, ...]:
    result = host.run(containers_query(project))
    if not result.ok:
        raise OpsError(f"docker does not answer: {result.last_lines}", target=host.name)
    return parse_containers(result.stdout)


def _stop_at_crash(
    host: Host, spec: ServiceSpec, containers: Sequence[Container], baseline: Mapping[str, int]
) -> None:
    for container in containers:
        if ended_well(spec, container):
            continue
        crashed = container.state in ("exited", "dead", "restarting") or container.restarts > baseline.get(
            container.id, 0
        )
        if crashed:
            again = " and was started again by Docker" if container.restarts else ""
            code = _exit_code(host, container)
            raise GateFailed(
                f"{container.name} ended with exit code {code}{again}{_last_lines(host, container)}",
                target=host.name,
            )


def _exit_code(host: Host, container: Container) -> str:
    """Docker forgets the code of a container that it started again; the event of its end still has it."""
    if not container.running:
        return str(container.exit_code)
    chosen = f"--filter container={quote(container.id)} --filter event=die"
    result = host.run(
        Command(
            f"docker events --since 1h --until $(date +%s.%N) {chosen} --format '{{{{.Actor.Attributes.exitCode}}}}'",
            timeout=20,
            title="docker events: how it ended",
        )
    )
    codes = result.stdout.split()
    return codes[-1] if codes else "unknown"


def _late(
    host: Host,
    spec: ServiceSpec,
    containers: Sequence[Container],
    results: dict[str, str | None],
    what: str = "",
) -> GateFailed:
    bad = next((c for c in containers if results.get(c.id)), None)
    if bad is None:
        return GateFailed(
            f"{spec.name}: {len(containers)} of {spec.replicas} containers are there after {spec.health.timeout:g} s",
            target=host.name,
        )
    verdict = what or f"not healthy after {spec.health.timeout:g} s"
    return GateFailed(f"{bad.name} {verdict}: {results[bad.id]}{_last_lines(host, bad)}", target=host.name)


def _last_lines(host: Host, container: Container) -> str:
    result = host.run(
        Command(f"docker logs --tail {LOG_LINES} {quote(container.id)} 2>&1", timeout=20, title="docker logs")
    )
    lines = result.stdout.strip().splitlines()[-LOG_LINES:]
    if not lines:
        return "; it wrote nothing"
    return "; its last lines:\n" + "\n".join(f"    {line}" for line in lines)


def _words(error: Exception) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "refuses the connection"
    if isinstance(error, TimeoutError):
        return "does not answer in time"
    return str(error) or type(error).__name__

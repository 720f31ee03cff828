"""What forbids a deploy, found before anything is touched, all of it at once."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from ops.config import Settings
from ops.deploy.neighbours import neighbours
from ops.deploy.survey import Survey
from ops.engines.definitions import altered
from ops.engines.desired import Desired
from ops.engines.facts import HostFacts
from ops.engines.once import why_once
from ops.engines.ports import published_ports
from ops.engines.release import Release, ServiceSpec
from ops.engines.services import services_of
from ops.errors import ConfigError, FailedUnchanged, OpsError, UsageError

__all__ = ["LEAST_FREE", "migration_place", "preflight", "warnings"]

LEAST_FREE = 512 * 1024 * 1024  # bytes; less, and a pull fails half-way on most stacks
OLDEST_DOCKER, OLDEST_COMPOSE = (20, 10), (2, 20)
CLOCK_OFF = 30.0  # seconds
LABEL = 63  # the longest name that DNS knows, Docker's own too


def preflight(
    settings: Settings, surveys: Mapping[str, Survey], wanted: Mapping[str, Desired]
) -> list[OpsError]:
    """Return every reason not to deploy; empty when there is none."""
    found: list[OpsError] = []
    for name, survey in surveys.items():
        found += _machine(name, survey.facts)
        found += _records(name, survey.facts)
        if name not in wanted:
            continue
        plan = wanted[name]
        found += list(plan.problems)
        found += _ports(name, settings, survey.facts, plan.model["services"])
        found += _rolling(settings, name, plan)
        found += neighbours(settings, name, survey.facts, plan)
    return list({(str(error), error.next_step): error for error in found}.values())


def warnings(
    settings: Settings,
    surveys: Mapping[str, Survey],
    wanted: Mapping[str, Desired],
    operator_clock: float,
) -> list[str]:
    """Return what deserves a look although it forbids nothing."""
    found = []
    for name, survey in surveys.items():
        if name in wanted:
            found += _by_hand(settings, name, survey.facts, wanted[name])
        off = survey.facts.clock - operator_clock
        if abs(off) > CLOCK_OFF:
            found.append(
                f"{name}: its clock is {abs(off):.0f} s {'ahead of' if off > 0 else 'behind'} this machine's"
            )
    return found


def _by_hand(settings: Settings, server: str, facts: HostFacts, plan: Desired) -> list[str]:
    """What changed of networks and volumes since the release that serves, and no deploy brings about."""
    import yaml

    serving = yaml.safe_load(facts.compose_yaml) or {}
    found = []
    for kind, data in (("networks", ""), ("volumes", "save its data, ")):
        for name, (real, keys) in altered(serving, plan.model, kind).items():
            what = kind[:-1]
            away = "" if what == "network" else f"docker volume rm {real}, "
            found.append(
                f"{server}: {what} {name} changed ({', '.join(keys)}), and Docker cannot change one in place: it stays "
                f"as it is. To have it made anew: {data}inv stack.down {settings.options}, {away}then deploy again"
            )
    return found


def migration_place(
    settings: Settings, chosen: Sequence[str], surveys: Mapping[str, Survey]
) -> list[OpsError]:
    """Return why `[migrate]` cannot run on any of the servers that a deploy is for; empty when it can."""
    config = settings.config
    if config.migrate is None:
        return []
    service = config.migrate.service
    written = [survey.rendered[1]["services"] for survey in surveys.values() if survey.rendered]
    if written and not any(service in services for services in written):
        return [
            ConfigError(f"[migrate] service = {service!r} is not in the compose files, or its profile is off")
        ]
    places = [name for name in config.servers if services_of(config, name, (service,))]
    if set(places) & set(chosen):
        return []
    if not places:
        roles = ", ".join(config.services[service].roles)
        return [
            ConfigError(
                f"[migrate] service {service} runs on no server",
                next_step=f"give a server one of its roles: {roles}",
            )
        ]
    return [
        UsageError(
            f"the migration runs in service {service}, which is on {' and '.join(places)}: this deploy leaves it out",
            next_step=f"deploy one that has it along: --servers {','.join((places[0], *chosen))}",
        )
    ]


def _machine(name: str, facts: HostFacts) -> list[OpsError]:
    found: list[OpsError] = []
    for what, version, oldest in (
        ("Docker", facts.docker, OLDEST_DOCKER),
        ("Compose", facts.compose, OLDEST_COMPOSE),
    ):
        numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
        if numbers < oldest:
            least = ".".join(map(str, oldest))
            found.append(
                ConfigError(
                    f"{what} {version} is older than {least}", target=name, next_step="inv servers.prepare"
                )
            )
    for path, free in facts.free.items():
        if free < LEAST_FREE:
            found.append(
                FailedUnchanged(
                    f"disk full: {free // 2**20} MiB free at {path}, {LEAST_FREE // 2**20} MiB are needed",
                    target=name,
                    next_step=f"make room on {name}: docker system df; docker image prune",
                )
            )
    return found


def _records(name: str, facts: HostFacts) -> list[OpsError]:
    """All kept releases are read again at the end, to prune: too late to find one that cannot be read."""
    found: list[OpsError] = []
    for release, text in facts.releases.items():
        try:
            Release.from_json(text)
        except ConfigError as error:
            found.append(
                ConfigError(f"release {release}: {error.message}", target=name, next_step=error.next_step)
            )
    return found


def _published(service: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    found = []
    for port in service.get("ports") or ():
        if port.get("published"):
            low, _, high = str(port["published"]).partition("-")
            for number in range(int(low), int(high or low) + 1):
                found.append((port.get("host_ip") or "0.0.0.0", str(number), port.get("protocol") or "tcp"))
    return found


def _ports(name: str, settings: Settings, facts: HostFacts, services: Mapping[str, Any]) -> list[OpsError]:
    found: list[OpsError] = []
    for (one, first), (two, second) in combinations(services.items(), 2):
        clash = sorted(
            {a[1] for a in _published(first) for b in _published(second) if _collide(a, b)}, key=int
        )
        if clash:
            ports = " and ".join(clash)
            found.append(
                ConfigError(
                    f"services {one} and {two} both publish {'port' if len(clash) == 1 else 'ports'} {ports}",
                    next_step=f"let one of them keep the port{'s' if len(clash) > 1 else ''}: remove `ports:` of {one} or {two}",
                )
            )
    for service, definition in services.items():
        for address, number, protocol in _published(definition):
            for other in facts.bystanders:
                if other.project != settings.project and _listens(other.ports, address, number, protocol):
                    owner = f"project {other.project}" if other.project else "no compose project"
                    found.append(
                        ConfigError(
                            f"port {number} of service {service} is taken by container {other.name} ({owner})",
                            target=name,
                        )
                    )
    return found


def _collide(a: tuple[str, str, str], b: tuple[str, str, str]) -> bool:
    anywhere = {"0.0.0.0", "::", ""}
    return a[1:] == b[1:] and (a[0] == b[0] or a[0] in anywhere or b[0] in anywhere)


def _listens(ports: str, address: str, number: str, protocol: str) -> bool:
    return any(
        _collide((theirs.address, number, theirs.protocol), (address, number, protocol))
        for theirs in published_ports(ports)
        if int(number) in theirs.numbers
    )


def _not_behind_the_proxy(settings: Settings, spec: ServiceSpec, plan: Desired) -> str:
    """Return why new containers of a service could not stand beside the old; empty where they can."""
    definition = plan.model["services"][spec.name]
    if spec.once:
        return "it runs once and ends"
    for volume in definition.get("volumes") or ():
        if volume.get("type") == "volume" and not volume.get("source"):
            return f"what is in its anonymous volume {volume.get('target')} would be lost with each container"
    if plan.proxy is None or plan.proxy.service not in plan.model["services"]:
        return ""
    proxy = plan.model["services"][plan.proxy.service]
    if proxy.get("network_mode") == "host":
        return (
            f"the proxy {plan.proxy.service} is on the host's network, which does not know containers by name"
        )
    theirs, ours = (set(one.get("networks") or {}) for one in (proxy, definition))
    if theirs and ours and not theirs & ours:
        return f"it shares no network with the proxy {plan.proxy.service}"
    name = f"{settings.project}-{spec.name}-9999"
    if len(name) > LABEL:
        return f"its containers' names ({name}) are longer than the {LABEL} characters that can be looked up"
    return ""


def _rolling(settings: Settings, name: str, plan: Desired) -> list[OpsError]:
    found: list[OpsError] = []
    for service, spec in plan.services.items():
        definition = plan.model["services"][service]
        reason = why_once(definition) if spec.replicas > 1 or spec.strategy == "rolling" else ""
        if spec.strategy == "rolling" and not reason:
            reason = _not_behind_the_proxy(settings, spec, plan)
        if reason:
            rolls = spec.strategy == "rolling"
            what = "cannot roll" if rolls else f"cannot have {spec.replicas} replicas"
            way = 'strategy = "recreate"' if rolls else "replicas = 1"
            found.append(
                ConfigError(
                    f"service {service} {what}: {reason}",
                    next_step=f"set services.{service}.{way}, or remove the reason from the compose file",
                )
            )
        if spec.strategy == "rolling" and plan.proxy is None and name in settings.config.servers:
            found.append(
                ConfigError(
                    f"service {service} rolls, but the proxy does not run on this server", target=name
                )
            )
    return found

"""The questions before any change, and everything that forbids one, told together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ops.config import Settings, Version, missing
from ops.config.servers import chosen_servers, state_host_of
from ops.deploy.images import known_pins, served_pins
from ops.deploy.planning import desires, wishes
from ops.deploy.preflight import migration_place, preflight
from ops.deploy.survey import Survey, survey
from ops.engines.desired import Desired
from ops.engines.release import Release
from ops.errors import OpsError, gathered
from ops.gates.smoke import untrusted
from ops.hosts import Host
from ops.runs.journal import now

__all__ = ["Examined", "base_release", "examine"]


@dataclass(frozen=True)
class Examined:
    """What was found: surveys and wishes by server, and the pins that need no registry; `asked` holds the surveys of
    servers too that this deploy is not for (the state host), that of the state host first."""

    surveys: Mapping[str, Survey]
    wanted: Mapping[str, Desired]
    pins: Mapping[str, str]
    asked: Mapping[str, Survey] = field(default_factory=dict)


def examine(
    settings: Settings, hosts: Mapping[str, Host], version: Version, servers: tuple[str, ...]
) -> Examined:
    """Ask the servers and check everything. Raises Problem (or its only finding) with all that forbids a deploy."""
    problems: list[OpsError] = [*missing(settings), *untrusted(settings)]
    if problems:
        raise gathered(problems)
    found, unreachable = survey(settings, hosts, version.version)
    chosen = chosen_servers(settings, servers)
    problems += [error for name, error in unreachable.items() if name in chosen]
    surveys = {name: found[name] for name in chosen if name in found}
    order = dict.fromkeys((state_host_of(settings, None), *settings.config.servers))
    asked = {name: found[name] for name in order if name in found}
    pins = known_pins(wishes(settings, surveys, version.version), surveys, served_pins(asked))
    wanted = desires(settings, surveys, version.version, pins)
    problems += migration_place(settings, chosen, surveys)
    problems += preflight(settings, surveys, wanted)
    if problems:
        raise gathered(problems)
    return Examined(surveys, wanted, pins, asked)


def base_release(settings: Settings, version: Version, release_id: str, run_id: str) -> Release:
    """Return a release record without services, for each server to fill."""
    return Release(
        id=release_id,
        version=version.version,
        revision=version.revision,
        created=now(),
        run_id=run_id,
        stack=settings.stack,
        environment=settings.environment,
        project=settings.project,
        services={},
    )

"""The plan of a deploy: a pure value made of the survey; printing it changes nothing, carrying it out is another's."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ops.config import Settings
from ops.deploy.bundle import describe
from ops.deploy.images import Wish
from ops.deploy.survey import Survey, current_release, layout_of, view_of
from ops.engines.compose import compose_yaml
from ops.engines.desired import Desired, desired
from ops.engines.release import Release
from ops.engines.services import image_reference, services_of
from ops.runs.releases import switch_for
from ops.strategies.steps import simulate
from ops.strategies.switch import Effect, effects, plan_switch

__all__ = ["DeployPlan", "HostPlan", "batches", "desires", "host_plan", "plan_deploy", "wishes"]


@dataclass(frozen=True)
class HostPlan:
    """What happens on one server: effects by service, steps with their commands as text, the compose difference."""

    server: str
    previous: str | None
    effects: tuple[Effect, ...]
    steps: tuple[tuple[str, tuple[str, ...]], ...]
    difference: str

    @property
    def changes(self) -> bool:
        """True when anything on the server would differ afterwards."""
        return bool(self.steps)


@dataclass(frozen=True)
class DeployPlan:
    """What a deploy would do. `order` is the batches of servers; `pulls` the images that registries would be asked for."""

    stack: str
    environment: str
    version: str
    revision: str | None
    hosts: Mapping[str, HostPlan]
    order: tuple[tuple[str, ...], ...]
    pulls: tuple[str, ...]
    migrate: str | None
    warnings: tuple[str, ...] = ()

    @property
    def nothing_to_do(self) -> bool:
        """True when every server already runs this version with this content."""
        return not any(plan.changes for plan in self.hosts.values()) and all(
            plan.previous is not None for plan in self.hosts.values()
        )


def secret_values(settings: Settings) -> dict[str, str]:
    """Return the secrets' texts, for hashes, stdin and 0600 files."""
    return {name: settings.values.text(name) or "" for name in settings.values.secret_names}


def desires(
    settings: Settings, surveys: Mapping[str, Survey], version: str, pins: Mapping[str, str]
) -> dict[str, Desired]:
    """Return what each surveyed server shall run."""
    layout, values = layout_of(settings), secret_values(settings)
    return {
        name: desired(
            settings, name, survey.rendered, layout, version=version, pins=pins, secret_values=values
        )
        for name, survey in surveys.items()
        if survey.rendered is not None
    }


def wishes(settings: Settings, surveys: Mapping[str, Survey], version: str) -> list[Wish]:
    """Return the images that the servers need, each once."""
    found: dict[str, Wish] = {}
    for name, survey in surveys.items():
        services = survey.rendered[1]["services"] if survey.rendered else {}
        for service in services_of(settings.config, name, services):
            reference, versioned = image_reference(settings, service, services[service], version)
            if not reference:
                continue
            policy = services[service].get("pull_policy") or ""
            before = found.get(reference, Wish(reference, (), False, policy))
            servers = (*before.servers, name) if name not in before.servers else before.servers
            found[reference] = Wish(
                reference, servers, before.versioned or versioned, before.policy or policy
            )
    return list(found.values())


def host_plan(settings: Settings, server: str, survey: Survey, wanted: Desired, release: Release) -> HostPlan:
    """Return one server's plan towards a release."""
    view, switch = view_of(survey), switch_for(settings, release)
    steps = plan_switch(release, switch, view)
    shown = tuple(
        (title, tuple(command.shown for command in commands)) for title, commands in simulate(steps, view)
    )
    current = current_release(survey)
    before, after = survey.facts.compose_yaml, compose_yaml(wanted.model, settings.project)
    lines = difflib.unified_diff(
        before.splitlines(),
        after.splitlines(),
        current.id if current else "nothing",
        release.version,
        lineterm="",
        n=2,
    )
    return HostPlan(
        server=server,
        previous=current.id if current else None,
        effects=tuple(_with_reason(effect, current, release) for effect in effects(release, switch, view)),
        steps=shown,
        difference="\n".join(lines),
    )


def _with_reason(effect: Effect, current: Release | None, release: Release) -> Effect:
    """Name the secrets of a service where one of their values is all that changed: no difference shows that."""
    before = current.services.get(effect.service) if current else None
    after = release.services.get(effect.service)
    if before is None or after is None or before.base != after.base or before.config == after.config:
        return effect
    return replace(effect, text=f"{effect.text} (a new value of {' or '.join(after.secrets)})")


def plan_deploy(
    settings: Settings,
    surveys: Mapping[str, Survey],
    wanted: Mapping[str, Desired],
    base: Release,
    pulls: Sequence[str],
    warnings: Sequence[str] = (),
) -> DeployPlan:
    """Return the plan for all servers; `base` carries the release's id and version."""
    layout = layout_of(settings)
    plans = {}
    for name, goal in wanted.items():
        survey = surveys[name]
        release = replace(describe(goal, layout, base), previous=survey.facts.current)
        plans[name] = host_plan(settings, name, survey, goal, release)
    migrate = settings.config.migrate
    return DeployPlan(
        stack=settings.stack,
        environment=settings.environment,
        version=base.version,
        revision=base.revision,
        hosts=plans,
        order=batches(settings, {name: tuple(goal.services) for name, goal in wanted.items()}, wanted),
        pulls=tuple(pulls),
        migrate=f"docker compose run --rm {migrate.service} {' '.join(migrate.command)}" if migrate else None,
        warnings=tuple(dict.fromkeys([*warnings, *(w for goal in wanted.values() for w in goal.warnings)])),
    )


def batches(
    settings: Settings, services: Mapping[str, Sequence[str]], wanted: Mapping[str, Desired | Release]
) -> tuple[tuple[str, ...], ...]:
    """Return the servers in groups that are switched together: those that others depend on first, then by `batch`."""
    needs: dict[str, set[str]] = {name: set() for name in services}
    for name, goal in wanted.items():
        for spec in goal.services.values():
            for dependency in spec.depends_on:
                if dependency not in goal.services:
                    needs[name] |= {
                        other for other, theirs in services.items() if other != name and dependency in theirs
                    }
    size = _batch_size(settings.config.batch, len(services))
    done: set[str] = set()
    found: list[tuple[str, ...]] = []
    left = list(services)
    while left:
        ready = [name for name in left if needs[name] <= done] or left
        for at in range(0, len(ready), size):
            found.append(tuple(ready[at : at + size]))
        done |= set(ready)
        left = [name for name in left if name not in done]
    return tuple(found)


def _batch_size(batch: int | str, servers: int) -> int:
    if isinstance(batch, int):
        return batch
    return max(1, math.floor(servers * int(batch.rstrip("%")) / 100))

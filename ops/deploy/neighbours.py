"""What else runs on a server: this stack under another name, other environments, and names that both would share."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

from ops.config import Settings
from ops.deploy.survey import layout_of
from ops.deploy.wayback import strangers
from ops.engines.desired import Desired
from ops.engines.facts import Bystander, HostFacts
from ops.errors import ConfigError, OpsError

__all__ = ["neighbours"]

_PROJECT = "com.docker.compose.project"


def neighbours(settings: Settings, name: str, facts: HostFacts, plan: Desired) -> list[OpsError]:
    """Return every reason why a deploy would miss its own data on a server, or touch what belongs to others."""
    return [
        *_from_elsewhere(settings, name, facts),
        *_project_of_another(settings, name, facts),
        *_foreign(settings, name, facts, plan),
        *_shared_names(settings, name, facts, plan.model),
        *_names(settings, name, facts, plan.model["services"]),
    ]


def _from_elsewhere(settings: Settings, name: str, facts: HostFacts) -> list[OpsError]:
    """Containers that Opsbook started, and no `current` that says so: the data of their folder would be left behind."""
    places = sorted({c.working_dir for c in strangers(facts) if c.config and c.working_dir})
    current = layout_of(settings).current
    return [
        ConfigError(
            f"containers of this environment come from {place}, and {current} is not there",
            target=name,
            next_step=f"set `base` of ops.toml back to where it was; if only the link is gone: ln -s {place} {current}",
        )
        for place in places
    ]


def _project_of_another(settings: Settings, name: str, facts: HostFacts) -> list[OpsError]:
    """One project name for two environments on one server: each deploy would replace the other's containers."""
    own = (settings.stack, settings.environment)
    others = {
        (other.stack, other.environment)
        for other in facts.bystanders
        if other.project == settings.project and other.environment and (other.stack, other.environment) != own
    }
    return [
        ConfigError(
            f"compose project {settings.project!r} is stack {stack}, environment {environment} here; a deploy of "
            f"{settings.environment} would replace its containers",
            target=name,
            next_step=f"give each environment a project name of its own: {_line(settings, '…')}",
        )
        for stack, environment in sorted(others)
    ]


def _foreign(settings: Settings, name: str, facts: HostFacts, plan: Desired) -> list[OpsError]:
    """The same stack under another project name: a deploy would start it anew with empty volumes.

    Labels of this very environment prove it. Else service names, an image and the project's name make it likely; an
    explicit `project` in ops.toml answers that question.
    """
    if any(c.service in plan.services for c in facts.containers):
        return []
    if settings.project in {labels.get(_PROJECT) for labels in facts.volumes.values()}:
        return []
    own = (settings.stack, settings.environment)
    suspects: dict[str, set[str]] = {}
    for project in sorted({other.project for other in facts.bystanders} - {"", settings.project}):
        theirs = [other for other in facts.bystanders if other.project == project]
        owners = {(other.stack, other.environment) for other in theirs if other.environment}
        if own in owners or (
            not owners and settings.config.project is None and _alike(settings, theirs, plan)
        ):
            suspects[project] = {other.service for other in theirs if other.service in plan.services}
    managed = {other.project for other in facts.bystanders if other.environment}
    for volume, labels in facts.volumes.items():
        project = labels.get(_PROJECT, "")
        ours = labels.get("com.docker.compose.volume", "") in (plan.model.get("volumes") or {})
        if (
            ours
            and settings.config.project is None
            and project not in managed
            and project in _usual(settings)
        ):
            suspects.setdefault(project, set()).add(f"volume {volume}")
    return [
        ConfigError(
            f"this stack seems to run here already as project {project!r} ({', '.join(sorted(what))}); deployed as "
            f"{settings.project!r} it would start beside it with empty volumes",
            target=name,
            next_step=f"to adopt it with its data, {_line(settings, project)}\n"
            f"if it is another stack, the same with {settings.project!r} lets both run",
        )
        for project, what in suspects.items()
    ]


def _alike(settings: Settings, theirs: Sequence[Bystander], plan: Desired) -> bool:
    """Whether containers of a project that no Opsbook started look like this stack: many stacks have an nginx."""
    names = {other.service for other in theirs}
    shared = any(
        other.service in plan.services
        and _repository(other.image) == _repository(plan.services[other.service].image)
        for other in theirs
    )
    whole = names <= plan.services.keys() or plan.services.keys() <= names
    return shared and (whole or theirs[0].project in _usual(settings))


def _usual(settings: Settings) -> set[str]:
    """Project names that plain Compose gives to a stack by its folder."""
    return {settings.stack, settings.folder.name, settings.folder.name.replace("-", "")}


def _line(settings: Settings, project: str) -> str:
    """Return what to add to ops.toml, and where, for an environment's project name: TOML allows a table's header once."""
    header, line = f"[environments.{settings.environment}]", f'project = "{project}"'
    try:
        tomllib.loads(f"{settings.file.read_text()}\n{header}\n{line}\n")
    except tomllib.TOMLDecodeError:
        return f"add below {header} in ops.toml:\n{line}"
    return f"add at the end of ops.toml:\n{header}\n{line}"


def _repository(image: str) -> str:
    return (
        image.partition("@")[0].rpartition(":")[0] or image
        if ":" in image.rpartition("/")[2]
        else image.partition("@")[0]
    )


def _shared_names(
    settings: Settings, name: str, facts: HostFacts, model: Mapping[str, Any]
) -> list[OpsError]:
    """A volume or network with a fixed name that another project made: two environments would share it."""
    found: list[OpsError] = []
    for kind, present in (("volumes", facts.volumes), ("networks", facts.networks)):
        for key, definition in (model.get(kind) or {}).items():
            real = (definition or {}).get("name") or key
            if (definition or {}).get("external"):
                if real not in present:
                    found.append(
                        ConfigError(
                            f"the external {kind[:-1]} {real} does not exist",
                            target=name,
                            next_step=f"docker {kind[:-1]} create {real}   (on {name})",
                        )
                    )
                continue
            owner = present.get(real, {}).get(_PROJECT, "")
            if real in present and owner != settings.project:
                found.append(
                    ConfigError(
                        f"{kind[:-1]} {real} belongs to {f'project {owner}' if owner else 'no project'}; {settings.project} would share it by name",
                        target=name,
                        next_step=f"remove `name:` of {kind[:-1]} {key} in the compose file, or declare it external",
                    )
                )
    return found


def _names(settings: Settings, name: str, facts: HostFacts, services: Mapping[str, Any]) -> list[OpsError]:
    taken = {other.name: other for other in facts.bystanders if other.project != settings.project}
    return [
        ConfigError(
            f"container_name {definition['container_name']!r} of service {service} is taken by another project",
            target=name,
        )
        for service, definition in services.items()
        if definition.get("container_name") in taken
    ]

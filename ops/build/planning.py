"""What a build would do: which images, in which order, and where each of them goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from ops.build.client import private_folder
from ops.build.commands import build_command, push_command
from ops.build.definitions import define, one_for_each_name
from ops.build.rendering import resolved_model
from ops.build.sections import Definition
from ops.config import Settings, Version, git_revision
from ops.errors import UsageError
from ops.hosts import Host
from ops.runs.journal import now

__all__ = ["Planned", "Prepared", "Way", "plan", "prepare"]

Way = Literal["stays here", "registry", "throw-away registry"]


@dataclass(frozen=True)
class Prepared:
    """A build, ready to run: one definition for each image name, and where each image goes.

    `references` maps every service to its image's name; services may share one.
    """

    version: Version
    definitions: tuple[Definition, ...]
    references: Mapping[str, str]
    ways: Mapping[str, Way]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Planned:
    """One image that a build would make, and the commands that would run, as people read them."""

    service: str
    reference: str
    way: Way
    commands: tuple[str, ...]


def plan(
    settings: Settings, host: Host, version: Version, *, services: Sequence[str] = (), push: bool = False
) -> tuple[Planned, ...]:
    """Return what `build` would do with the same arguments; the engine is not touched. Raises as `build` does."""
    with private_folder() as folder:
        prepared = prepare(settings, host, version, services, push, folder)
    found = []
    for each in prepared.definitions:
        way = prepared.ways[each.reference]
        commands = [
            build_command(each, push=way == "registry", environment={}, metadata="", secrets={}).shown
        ]
        if way == "throw-away registry":
            commands.append(push_command(each.reference, {}).shown)
        found.append(
            Planned(each.service, each.reference, way, tuple(settings.redactor(text) for text in commands))
        )
    return tuple(found)


def prepare(
    settings: Settings, host: Host, version: Version, services: Sequence[str], push: bool, folder: Path
) -> Prepared:
    """Read the compose files and decide everything; `folder` is private and takes the values meanwhile.

    Raises UsageError, ConfigError or Problem for what cannot be built as asked.
    """
    whole = replace(version, revision=version.revision or git_revision(settings.folder))
    model = resolved_model(settings, host, whole.version, folder)
    definitions, warnings = define(settings, model, whole, now(), services)
    ways = {each.reference: _way(settings, each.reference, push) for each in definitions}
    for each in definitions:
        if len(each.platforms) > 1 and ways[each.reference] != "registry":
            raise UsageError(
                f"an image for {', '.join(each.platforms)} can only be pushed to a registry, not kept in one engine",
                target=each.service,
                next_step="add --push, with [build] registry in ops.toml, or build for one platform",
            )
    references = {each.service: each.reference for each in definitions}
    return Prepared(whole, one_for_each_name(definitions), references, ways, warnings)


def _way(settings: Settings, reference: str, push: bool) -> Way:
    build = settings.config.build
    if not build.registry and reference.startswith(f"127.0.0.1:{build.forward_port}/"):
        return "throw-away registry"
    return "registry" if push else "stays here"

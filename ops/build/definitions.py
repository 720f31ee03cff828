"""From the compose files to what is built, and what forbids it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ops.build.exposure import exposed_secrets
from ops.build.options import unused_keys
from ops.build.sections import Definition, bases, read_section
from ops.config import Settings, Version
from ops.errors import ConfigError, OpsError, Problem, UsageError

__all__ = ["define", "one_for_each_name"]


def define(
    settings: Settings, model: Mapping[str, Any], version: Version, created: str, services: Sequence[str]
) -> tuple[tuple[Definition, ...], tuple[str, ...]]:
    """Return what is to be built for `services` (none: all with `build:`) and what they need, and warnings.

    `created` is RFC 3339. Raises UsageError for a service that is not there or builds nothing, ConfigError or
    Problem for what cannot be built, a secret on the command line among it.
    """
    everything: Mapping[str, Any] = model.get("services") or {}
    buildable = {name: service for name, service in everything.items() if service.get("build") is not None}
    _known(services, everything, buildable)
    found: dict[str, Definition] = {}
    faults: list[OpsError] = []
    warnings: list[str] = []
    waiting = list(services or buildable)
    while waiting:
        name = waiting.pop(0)
        if name in found:
            continue
        faults += exposed_secrets(settings, name, buildable[name]["build"])
        definition = read_section(settings, name, buildable, model, version, created, faults)
        found[name] = definition
        waiting += [base for base in bases(buildable[name]["build"]).values() if base in buildable]
        warnings += unused_keys(name, buildable[name]["build"], definition.reference)
    faults += _twice(found)
    if faults:
        raise faults[0] if len(faults) == 1 else Problem(faults)
    return tuple(found[name] for name in buildable if name in found), tuple(warnings)


def one_for_each_name(definitions: Sequence[Definition]) -> tuple[Definition, ...]:
    """Given definitions, return one for each image name: services may share an image, which is built once."""
    return tuple({each.reference: each for each in reversed(definitions)}.values())[::-1]


def _known(services: Sequence[str], everything: Mapping[str, Any], buildable: Mapping[str, Any]) -> None:
    for name in services:
        if name not in buildable:
            why = (
                "has no build: in the compose files" if name in everything else "is not in the compose files"
            )
            known = ", ".join(buildable) or "none"
            raise UsageError(f"service {name} {why}", next_step=f"services that are built: {known}")


def _twice(found: Mapping[str, Definition]) -> list[OpsError]:
    """Services under one image name have to be one image, or the last one built would be all of them."""
    faults: list[OpsError] = []
    seen: dict[str, Definition] = {}
    for each in found.values():
        first = seen.setdefault(each.reference, each)
        unlike = replace(each, service=first.service, labels=first.labels) != first
        if unlike:
            said = (
                f"{first.service} and {each.service} are built differently and would both be {each.reference}"
            )
            faults.append(
                ConfigError(said, next_step="give one of them another services.<name>.image in ops.toml")
            )
    return faults

"""Whether what a person asks of a deployed stack can be meant; told before anything is touched."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ops.engines.once import why_once
from ops.errors import UsageError
from ops.runs.releases import Serving

__all__ = ["check_known", "check_replicas"]


def check_known(present: Mapping[str, Serving], services: Iterable[str]) -> None:
    """Raise UsageError for a service that no server's release has."""
    known = sorted({name for found in present.values() if found.release for name in found.release.services})
    for service in services:
        if service not in known:
            raise UsageError(f"unknown service {service}; known: {', '.join(known)}")


def check_replicas(present: Mapping[str, Serving], service: str, replicas: int) -> None:
    """Raise UsageError for a number below 0, and for more than one of what can run only once on a server."""
    if replicas < 0:
        raise UsageError(f"--replicas {replicas}: must be 0 or more")
    for name, found in present.items():
        if replicas < 2 or found.release is None or service not in found.release.services:
            continue
        proxy = found.release.proxy
        if proxy is not None and proxy.service == service:
            raise UsageError(f"{service} is the proxy; it runs once on each server")
        if reason := why_once(_definition(found, service)):
            raise UsageError(f"service {service} cannot have {replicas} replicas: {reason}", target=name)


def _definition(found: Serving, service: str) -> Mapping[str, Any]:
    """Return a service as the compose.yaml of the serving release has it."""
    import yaml

    model = yaml.load(found.facts.compose_yaml, getattr(yaml, "CSafeLoader", yaml.SafeLoader)) or {}
    definition: Mapping[str, Any] = (model.get("services") or {}).get(service) or {}
    return definition

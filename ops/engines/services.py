"""What ops.toml and the compose files say together of one service: where it runs, its image, count, health gate."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ops.config.models import StackConfig
from ops.config.services import Service
from ops.config.settings import Settings
from ops.engines.layout import Layout
from ops.engines.release import HealthSpec

__all__ = ["awaited_ends", "grace", "health_gate", "holds", "image_reference", "replicas", "services_of"]


def services_of(config: StackConfig, server: str, services: Iterable[str]) -> tuple[str, ...]:
    """Return the names of the services that run on a server: those without roles, and those that share one.

    A server without roles runs them all.
    """
    roles = set(config.servers[server].roles)
    found = []
    for name in services:
        wanted = set(config.services[name].roles) if name in config.services else set()
        if not wanted or not roles or wanted & roles:
            found.append(name)
    return tuple(found)


def image_reference(
    settings: Settings, name: str, service: Mapping[str, Any], version: str
) -> tuple[str, bool]:
    """Return a service's image reference and whether it follows the version.

    ops.toml's `image` wins; else a service with `build:` is named `<registry>/<stack>/<service>:<version>`; else
    the compose file's own reference stands.
    """
    config = settings.config
    written = config.services[name].image if name in config.services else ""
    if written:
        return written.replace("{version}", version), "{version}" in written
    if service.get("build") is not None:
        registry = config.build.registry or f"127.0.0.1:{config.build.forward_port}"
        return f"{registry.rstrip('/')}/{settings.stack}/{name}:{version}", True
    return service.get("image") or "", False


def holds(service: Mapping[str, Any], volumes: Mapping[str, Any], layout: Layout) -> tuple[str, ...]:
    """Return what a service has for itself on a server: volumes and data folders that it writes to, fixed host ports."""
    found = []
    for mount in service.get("volumes") or ():
        source = mount.get("source")
        if not source or mount.get("read_only"):
            continue
        if mount.get("type") == "volume":
            found.append(f"volume {(volumes.get(source) or {}).get('name') or source}")
        elif mount.get("type") == "bind" and source.startswith(f"{layout.root}/"):
            found.append(f"path {source}")
    for port in service.get("ports") or ():
        published = str(port.get("published") or "")
        if published.isdigit():
            found.append(f"port {published}/{port.get('protocol') or 'tcp'}")
    return tuple(found)


def replicas(service: Mapping[str, Any], options: Service) -> int:
    """Return how many containers a service has: ops.toml wins over `deploy.replicas`, that over `scale`."""
    if options.replicas is not None:
        return options.replicas
    written = ((service.get("deploy") or {}).get("replicas"), service.get("scale"))
    return next((int(count) for count in written if count is not None), 1)


def awaited_ends(services: Mapping[str, Any]) -> set[str]:
    """Return the services whose end others wait for: they run once, `depends_on` says service_completed_successfully."""
    return {
        name
        for service in services.values()
        for name, how in (service.get("depends_on") or {}).items()
        if how.get("condition") == "service_completed_successfully"
    }


def health_gate(options: Service, *, once: bool) -> HealthSpec:
    """Return a service's health gate; its kind follows from what ops.toml gives, and from whether it runs `once`."""
    health = options.health
    kind = health.kind
    port = health.port or options.port
    if kind == "auto":
        kind = "http" if health.path else "tcp" if health.port else "completed" if once else "docker"
    return HealthSpec(
        kind, health.path or "/", port, health.passes, health.interval, health.timeout, health.soak
    )


def grace(service: Mapping[str, Any]) -> float:
    """Return the seconds that a container has to stop ("1m30s" in the compose format); Docker's own default is 10."""
    duration = service.get("stop_grace_period")
    if not isinstance(duration, str):
        return 10.0
    units = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001, "us": 1e-6, "ns": 1e-9}
    return sum(
        float(number) * units[unit] for number, unit in re.findall(r"([0-9.]+)(ms|us|ns|h|m|s)", duration)
    )

"""Which servers of ops.toml a command is for."""

from __future__ import annotations

from collections.abc import Mapping

from ops.config.models import Server
from ops.config.settings import Settings
from ops.errors import UsageError

__all__ = ["chosen_servers", "state_host_of"]


def state_host_of(settings: Settings, override: str | None) -> str:
    """Return the server with lock and journal. Raises UsageError for an unknown one, or where there is no server."""
    servers = _servers(settings)
    name = override or settings.config.state_host or next(iter(servers))
    if name not in servers:
        raise UsageError(f"unknown server {name}; known: {', '.join(servers)}")
    return name


def chosen_servers(settings: Settings, names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the servers that a command is for: all, or those named. Raises UsageError for an unknown one, or where there
    is no server."""
    servers = _servers(settings)
    unknown = [name for name in names if name not in servers]
    if unknown:
        raise UsageError(f"unknown server {unknown[0]}; known: {', '.join(servers)}")
    return names or tuple(servers)


def _servers(settings: Settings) -> Mapping[str, Server]:
    if not settings.config.servers:
        raise UsageError(
            f"{settings.file} names no server for {settings.environment}",
            next_step="add [servers.NAME] with an address",
        )
    return settings.config.servers

"""What an environment's compose files come to for one server, by Compose itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ops.commands import Command, Secret
from ops.config import Settings, stack_sources
from ops.config.dotenv import compose_form
from ops.engines.rendering import render_command, sentinel, told_paths
from ops.engines.services import services_of
from ops.errors import ConfigError

__all__ = ["peer_addresses", "refusal", "resolvable", "resolve_command"]


def peer_addresses(settings: Settings, server: str, services: Mapping[str, Any]) -> dict[str, str]:
    """Return OPS_HOST_<SERVICE> for the services that run on other servers only: the first such server's address."""
    config = settings.config
    if len(config.servers) < 2:
        return {}
    found = {}
    for name, service in config.services.items():
        if not service.roles or name not in services:
            continue
        at = [key for key in config.servers if name in services_of(config, key, (name,))]
        if at and server not in at:
            target = config.servers[at[0]]
            found[f"OPS_HOST_{name.upper().replace('-', '_')}"] = target.private_address or target.address
    return found


def resolvable(settings: Settings) -> list[tuple[str, bytes]]:
    """Return the compose and env files by path in the stack folder, with stand-ins where secrets are written out."""
    sentinels = {name: sentinel(name) for name in settings.values.secret_names}
    return [(source.path, source.content) for source in stack_sources(settings, replace=sentinels)]


def resolve_command(
    settings: Settings, sources: Sequence[tuple[str, bytes]], server: str, version: str
) -> Command:
    """Return the command that resolves `resolvable` files as that server gets them; see `render_command`."""
    values = {
        name: sentinel(name) if isinstance(value, Secret) or name in settings.values.secret_names else value
        for name, value in settings.values.items()
    }
    values |= {name: sentinel(name) for name in settings.values.secret_names}
    values |= peer_addresses(settings, server, settings.config.services)
    values |= {"OPS_VERSION": version, "OPS_STACK": settings.stack, "OPS_ENVIRONMENT": settings.environment}
    files = [path.relative_to(settings.folder).as_posix() for path in settings.compose_files]
    dotenv = compose_form({name: str(value) for name, value in values.items()})
    return render_command(sources, files, settings.config.profiles, settings.project, dotenv)


def refusal(text: str) -> ConfigError:
    """Given what Compose says of files that it refuses, return the error."""
    return ConfigError(
        f"docker compose refuses the compose files: {told_paths(text)}",
        next_step="docker compose config   in the stack folder finds it too",
    )

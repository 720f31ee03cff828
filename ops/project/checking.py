"""Everything about a stack folder that can be judged without a server."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ops.commands import Command
from ops.config import missing
from ops.config.closure import read_files
from ops.config.folder import load_yaml
from ops.engines.resolving import refusal, resolvable, resolve_command
from ops.errors import ConfigError, OpsError
from ops.gates.smoke import untrusted

if TYPE_CHECKING:
    from ops.commands import Result
    from ops.config import Settings

__all__ = ["Checked", "check"]


@dataclass(frozen=True)
class Checked:
    """What was found: `problems` stop a deploy, `warnings` do not; `secrets` counts those with a value, of `wanted`.

    `compose` says whether Compose itself was asked.
    """

    stack: str
    environment: str
    problems: tuple[OpsError, ...]
    warnings: tuple[str, ...]
    services: tuple[str, ...]
    secrets: int
    wanted: int
    compose: bool

    @property
    def ok(self) -> bool:
        """True when nothing stops a deploy."""
        return not self.problems


def check(settings: Settings, render: Callable[[Command], Result] | None = None) -> Checked:
    """Given loaded settings, return what is wrong beyond the schema: values, files, names of services.

    `render` runs a command on this machine; with it, and with nothing else wrong, Compose resolves the files as for
    the first server.
    """
    problems: list[OpsError] = [*_unready(settings), *missing(settings), *untrusted(settings)]
    sources: list[tuple[str, bytes]] = []
    try:
        sources = resolvable(settings)
    except ConfigError as error:
        problems += [ConfigError(line) for line in error.message.splitlines()]
    services = _services(settings)
    if services:
        problems += _unknown_services(settings, services)
    asked = render is not None and not problems and render(Command("docker compose version")).ok
    if render is not None and asked:
        server = next(iter(settings.config.servers))
        result = render(resolve_command(settings, sources, server, "1"))
        problems += [] if result.ok else [refusal(result.last_lines)]
    return Checked(
        stack=settings.stack,
        environment=settings.environment,
        problems=tuple(problems),
        warnings=settings.warnings,
        services=services,
        secrets=sum(1 for secret in settings.values.secrets if secret.reveal()),
        wanted=len(settings.values.secret_names),
        compose=asked,
    )


def _unready(settings: Settings) -> Iterator[ConfigError]:
    if not settings.config.servers:
        yield ConfigError(
            f"{settings.file} names no server for {settings.environment}",
            next_step="add [servers.NAME] with an address",
        )
    if settings.config.backup_before_deploy and not settings.config.datastores.every:
        yield ConfigError(
            f"{settings.file}: backup_before_deploy is set, and nothing is named that could be backed up",
            next_step="add [datastores.postgres.NAME] or [datastores.files.NAME], or take it out",
        )


def _services(settings: Settings) -> tuple[str, ...]:
    """Return the names of the services in all compose files, broken ones left aside."""
    names: dict[str, None] = {}
    closure = read_files(settings)
    for path in closure.compose_files:
        if path in closure.bases:
            continue
        try:
            data = load_yaml(path.read_bytes(), str(path))
        except (ConfigError, OSError):
            continue
        found = data.get("services") if isinstance(data, dict) else None
        names |= dict.fromkeys(str(name) for name in (found if isinstance(found, dict) else ()))
    return tuple(names)


def _unknown_services(settings: Settings, services: tuple[str, ...]) -> list[ConfigError]:
    config = settings.config
    places = {f"services.{name}": name for name in config.services}
    if config.proxy:
        places["proxy.service"] = config.proxy.service
    if config.migrate:
        places["migrate.service"] = config.migrate.service
    problems = []
    for place, name in places.items():
        if name not in services:
            near = difflib.get_close_matches(name, services, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(services)}"
            problems.append(
                ConfigError(f"{settings.file}: {place}: no service {name} in the compose files; {hint}")
            )
    return problems

"""The compose files as Compose itself resolves them on this machine, with stand-ins where secrets belong."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ops.commands import Command, Result, quote
from ops.commands.quoting import quote_all
from ops.config import Settings
from ops.config.dotenv import compose_form
from ops.engines.rendering import parse_model, sentinel
from ops.errors import ConfigError, FailedUnchanged
from ops.hosts import Host

__all__ = ["interpolation", "resolved_model"]

_NO_DOCKER, _NO_COMPOSE, _NO_BUILDX = 71, 72, 73

# What the shell exports would win over the values of the environment, so it takes no part.
_COMPOSE = 'env -i HOME="$HOME" PATH="$PATH" ${DOCKER_CONFIG:+DOCKER_CONFIG="$DOCKER_CONFIG"} docker compose'


def interpolation(settings: Settings, version: str) -> str:
    """Return the dotenv file for `docker compose config`; secrets have stand-ins, with or without a value.

    So a machine that only builds needs none of the secrets that the containers get.
    """
    values = {name: str(value) for name, value in settings.values.items()}
    values |= {name: sentinel(name) for name in settings.values.secret_names}
    values |= {"OPS_VERSION": version, "OPS_STACK": settings.stack, "OPS_ENVIRONMENT": settings.environment}
    return compose_form(values)


def resolved_model(settings: Settings, host: Host, version: str, folder: Path) -> Mapping[str, Any]:
    """Return what `docker compose config` makes of the stack's files; `folder` is private and takes the values.

    Relative paths come out absolute, as Compose resolves them in the stack folder. Raises ConfigError with
    Compose's own words when it refuses the files, FailedUnchanged where Docker, Compose or buildx is missing.
    """
    file = folder / "interpolation.env"
    file.touch(mode=0o600)
    file.write_text(interpolation(settings, version), encoding="utf-8")
    words = quote_all(("--env-file", str(file), *settings.compose_arguments, "config", "--format", "json"))
    script = (
        f"command -v docker >/dev/null || exit {_NO_DOCKER}\n"
        f"docker compose version >/dev/null 2>&1 || exit {_NO_COMPOSE}\n"
        f"docker buildx version >/dev/null 2>&1 || exit {_NO_BUILDX}\n"
        f"cd {quote(str(settings.folder))} && {_COMPOSE} {words}"
    )
    result = host.run(Command(script, title="docker compose config"))
    if not result.ok:
        raise _failure(result)
    return parse_model(result.stdout)


def _failure(result: Result) -> ConfigError | FailedUnchanged:
    missing = {
        _NO_DOCKER: ("Docker", "install Docker with buildx and Compose, or build where they are"),
        _NO_COMPOSE: ("`docker compose`", "install Docker's Compose plugin, version 2"),
        _NO_BUILDX: ("`docker buildx`", "install Docker's buildx plugin"),
    }
    if result.status in missing:
        what, how = missing[result.status]
        return FailedUnchanged(f"a build needs {what} on this machine, and it is not there", next_step=how)
    return ConfigError(f"docker compose refuses the compose files: {result.last_lines}")

"""From a folder and an environment's name to settings."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from ops.config.closure import read_files
from ops.config.keeping import warnings
from ops.config.names import declared_names
from ops.config.overrides import validate
from ops.config.settings import Settings
from ops.config.stacks import find_stack
from ops.config.values import gather, unset_for_hooks, with_service_files
from ops.errors import ConfigError, UsageError

__all__ = ["load", "read_toml"]

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_NOTHING: Mapping[str, object] = MappingProxyType({})


def load(
    environment: str | None,
    *,
    stack: str | None = None,
    start: Path | None = None,
    overrides: Mapping[str, object] = _NOTHING,
) -> Settings:
    """Given an environment's name, return the settings of the stack that is meant (see `find_stack`).

    `overrides` is laid over the table of the environment, as options of the command line do. Raises
    UsageError for an unknown stack or environment, ConfigError for everything that is wrong in ops.toml or a
    dotenv file.
    """
    folder = find_stack(stack, start.resolve() if start else _here())
    file = folder / "ops.toml"
    table = read_toml(file)
    environments = _environments(table.pop("environments", {}), str(file))
    chosen = _chosen(environment, tuple(environments), str(file))
    config = validate(table, environments, chosen, overrides, str(file))
    name = config.stack or folder.name
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f'{file}: the folder name "{name}" cannot be the stack\'s name; add stack = "…" (lower case)'
        )
    settings = Settings(
        folder=folder,
        stack=name,
        environment=chosen,
        project=config.project or f"{name}-{chosen}",
        config=config,
        values=gather(folder, chosen, declared_names(folder, config)),
        environments=tuple(environments),
    )
    service_files = read_files(settings).env_files
    values = with_service_files(settings, service_files)
    files = dict.fromkeys((*settings.env_files, *(file.path for file in service_files if not file.raw)))
    told = (*warnings(folder, tuple(files), values), *unset_for_hooks(config, values))
    return replace(settings, values=values, warnings=told)


def _here() -> Path:
    try:
        return Path.cwd().resolve()
    except OSError as error:
        raise UsageError(
            f"the current folder cannot be used: {error.strerror}", next_step="go to another folder"
        ) from error


def read_toml(file: Path) -> dict[str, object]:
    """Return the tables of a TOML file. Raises ConfigError with file and line for bad syntax."""
    try:
        text = file.read_text(encoding="utf-8")
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        at = re.search(r"\(at line (\d+), column (\d+)\)", str(error))
        what = str(error).partition(" (at ")[0]
        line = at[1] if at else str(len(text.splitlines()))
        raise ConfigError(
            f"{file}:{line}: {what[:1].lower()}{what[1:]}", next_step=f"mend line {line} of {file}"
        ) from error
    except RecursionError as error:
        raise ConfigError(f"{file}: tables or lists stand too deep in one another") from error
    except (UnicodeDecodeError, OSError) as error:
        raise ConfigError(f"{file}: cannot be read: {error}") from error


def _environments(tables: object, file: str) -> dict[str, dict[str, object]]:
    if not isinstance(tables, dict):
        raise ConfigError(f"{file}: environments: must be a table of tables, such as [environments.staging]")
    lines = []
    for name, table in tables.items():
        if not _NAME.fullmatch(name):
            lines.append(
                f'{file}: environments: "{name}" cannot be a name; use lower-case letters, digits, - and _'
            )
        if not isinstance(table, dict):
            lines.append(f"{file}: environments.{name}: must be a table, such as [environments.{name}]")
    if lines:
        raise ConfigError("\n".join(lines))
    return tables


def _chosen(environment: str | None, known: tuple[str, ...], file: str) -> str:
    if not known:
        raise UsageError(
            f"{file} names no environment",
            next_step="add a table such as [environments.staging]; it may be empty",
        )
    if environment in known:
        return str(environment)
    said = f"unknown environment {environment}" if environment else "no environment named"
    # Which one is meant is only guessed from what was typed: what is pasted without a look must not hit another.
    near = difflib.get_close_matches(environment or "", known, n=1)
    step = f"add --env {known[0]}" if len(known) == 1 else "add --env with one of them"
    raise UsageError(
        f"{said}; known: {', '.join(known)}", next_step=f"did you mean --env {near[0]}?" if near else step
    )

"""What `docker compose config` needs on another machine, with sentinels where secrets stand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from ops.config.closure import EnvFile, read_files
from ops.config.folder import content_of, yaml_files
from ops.errors import ConfigError

if TYPE_CHECKING:
    from ops.config.settings import Settings

__all__ = ["Source", "stack_sources"]

_NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Source:
    """One file to ship: its path relative to the stack folder, and its bytes."""

    path: str
    content: bytes


def stack_sources(settings: Settings, *, replace: Mapping[str, str] = _NOTHING) -> tuple[Source, ...]:
    """Return the YAML files of the stack folder and the dotenv files that they name, sorted by path.

    Dotenv files are written anew in the form that Compose reads back exactly; names in `replace` get the
    value given there, so that sentinels travel in place of secrets. Dotenv files that no compose file names
    stay at home. Raises ConfigError, one line each, for files that are missing, broken or outside the stack
    folder, and for a secret that has another value in a service's file than the one this environment uses.
    """
    closure = read_files(settings)
    faults = list(closure.faults)
    contents: dict[Path, bytes] = {}
    for path in (*yaml_files(settings.folder), *closure.compose_files):
        if path.is_file():
            try:
                contents[path] = content_of(path)
            except ConfigError as error:
                faults.append(str(error))
    for file in closure.env_files:
        try:
            values = file.read()
        except ConfigError as error:
            faults.append(str(error))
            continue
        faults += _conflicts(settings, file, values)
        contents[file.path] = file.written({name: replace.get(name, value) for name, value in values.items()})
    if faults:
        raise ConfigError("\n".join(faults))
    named = {path.relative_to(settings.folder).as_posix(): content for path, content in contents.items()}
    return tuple(Source(path, named[path]) for path in sorted(named))


def _conflicts(settings: Settings, file: EnvFile, values: Mapping[str, str]) -> list[str]:
    """A secret goes by its name, so one name cannot stand for two values; .env files are overridden."""
    if file.path.parent == settings.folder and file.path.name in (".env", f".env.{settings.environment}"):
        return []
    name_of_file = file.path.relative_to(settings.folder).as_posix()
    return [
        f"{name_of_file}: secret {name} has another value here than in {settings.values.origins[name]}; "
        "give the two different names"
        for name, value in values.items()
        if name in settings.values.secret_names
        and value
        and name in settings.values
        and value != settings.values.text(name)
    ]

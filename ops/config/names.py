"""Which names a stack declares: only those are taken from the process environment."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ops.config.folder import content_of, load_yaml, parse_yaml, scalars, yaml_files
from ops.config.interpolation import Reference, references
from ops.errors import ConfigError

if TYPE_CHECKING:
    from ops.config.models import Hook, StackConfig

__all__ = [
    "Declared",
    "Required",
    "declared_names",
    "hook_names",
    "interpolated",
    "named_in_config",
    "ping_names",
    "ping_of",
    "required_by",
    "secret_in_config",
    "service_names",
    "variables_of",
]

_ENV = re.compile(r"env:([A-Za-z_][A-Za-z0-9_]*)")


@dataclass(frozen=True)
class Declared:
    """`names` may come from the process environment; `secret` are those among them that are masked."""

    names: frozenset[str]
    secret: frozenset[str]


@dataclass(frozen=True)
class Required:
    """A `${NAME:?message}` in a compose file; `may_be_empty` is true for `${NAME?message}`."""

    name: str
    message: str
    file: Path
    may_be_empty: bool


def declared_names(folder: Path, config: StackConfig) -> Declared:
    """Return the names that compose files, `env:NAME` strings of ops.toml and `[secrets] required` name."""
    secret = secret_in_config(config)
    names = secret | set(named_in_config(config.model_dump(exclude={"hooks"})))
    for path in yaml_files(folder):
        names |= {reference.name for reference in interpolated(path)}
        names |= variables_of(path, "configs")
    by_file = {name for path in yaml_files(folder) for name in variables_of(path, "secrets")}
    # What a hook is given may be a token; a name that others use as well is what it is there.
    for_hooks = {name for hook in config.hooks for name in hook_names(hook)} - names - by_file
    masked = secret | by_file | for_hooks | ping_names(config)
    return Declared(frozenset(names | by_file | for_hooks), frozenset(masked))


def secret_in_config(config: StackConfig) -> set[str]:
    """Return the names that ops.toml itself makes secret: those required, passwords of registries, private keys, the bucket's key."""
    secret = set(config.secrets.required)
    for registry in config.registries.values():
        secret |= set(_ENV.findall(registry.password))
    if config.backup.s3 is not None:
        secret |= set(_ENV.findall(config.backup.s3.secret_key))
    for server in config.servers.values():
        if server.key.startswith("env:"):
            secret |= set(_ENV.findall(server.key))
    return secret


def ping_of(config: StackConfig, action: str) -> str:
    """Return what ops.toml names as the URL that is pinged for an action; empty where none is."""
    pings = config.backup.ping
    if pings is None:
        return ""
    urls = {
        "backup.full": pings.url,
        "backup.incremental": pings.incremental,
        "backup.verify": pings.verify,
        "restore.drill": pings.drill,
    }
    return urls.get(action, "")


def ping_names(config: StackConfig) -> set[str]:
    """Return the names whose values are URLs of pings: secret, and nothing but a ping misses them."""
    return set(named_in_config(config.backup.ping.model_dump())) if config.backup.ping is not None else set()


def hook_names(hook: Hook) -> set[str]:
    """Return the names whose values a hook is given."""
    return {text.removeprefix("env:") for text in hook.environment.values() if text.startswith("env:")}


def service_names(folder: Path) -> set[str]:
    """Return the services that any YAML file of a stack folder defines: of every environment, profiles on or off."""
    found: set[str] = set()
    for path in yaml_files(folder):
        try:
            data = load_yaml(content_of(path), str(path))
        except ConfigError:
            continue  # as in variables_of
        services = data.get("services") if isinstance(data, dict) else None
        found |= set(map(str, services)) if isinstance(services, dict) else set()
    return found


def variables_of(path: Path, kind: str) -> set[str]:
    """Return the variables from which a compose file's `secrets:` or `configs:` take their values."""
    try:
        data = load_yaml(content_of(path), str(path))
    except ConfigError:
        return set()  # a template, or a fault that whoever reads the compose files tells
    definitions = data.get(kind) if isinstance(data, dict) else None
    found = definitions.values() if isinstance(definitions, dict) else ()
    return {str(each["environment"]) for each in found if isinstance(each, dict) and each.get("environment")}


def named_in_config(value: object) -> Iterator[str]:
    """Given a part of the configuration, return the names in its `env:NAME` strings."""
    if isinstance(value, str):
        if match := _ENV.fullmatch(value):
            yield match[1]
    elif isinstance(value, dict):
        for inner in value.values():
            yield from named_in_config(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from named_in_config(inner)


def interpolated(path: Path) -> tuple[Reference, ...]:
    """Return the references in one YAML file; one that is no YAML (a template) is read as plain text.

    Raises ConfigError where the file cannot be read.
    """
    content = content_of(path)
    try:
        texts = list(scalars(parse_yaml(content, str(path))))
    except ConfigError:
        texts = [content.decode(errors="replace")]
    return tuple(reference for text in texts for reference in references(text))


def required_by(files: tuple[Path, ...]) -> tuple[Required, ...]:
    """Given compose files, return what they refuse to do without, each name once, the strictest wish."""
    found: dict[str, Required] = {}
    for path in files:
        if not path.is_file():
            continue
        for reference in interpolated(path):
            if reference.operator in (":?", "?") and not reference.nested:
                wish = Required(reference.name, reference.argument, path, reference.operator == "?")
                known = found.get(wish.name)
                if known is None or (known.may_be_empty and not wish.may_be_empty):
                    found[wish.name] = wish
    return tuple(found.values())

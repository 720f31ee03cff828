"""Values for names: process environment over .env.<environment> over .env, secrets as Secret."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ops.commands import Secret
from ops.config import dotenv
from ops.config.folder import yaml_files
from ops.config.names import (
    Declared,
    hook_names,
    ping_names,
    required_by,
    secret_in_config,
    variables_of,
)
from ops.errors import ConfigError

if TYPE_CHECKING:
    from ops.config.closure import EnvFile
    from ops.config.models import StackConfig
    from ops.config.settings import Settings

__all__ = ["Values", "gather", "missing", "unset_for_hooks", "with_service_files"]

PROCESS = "process environment"


@dataclass(frozen=True)
class Values(Mapping[str, "str | Secret"]):
    """Names and their values; `origins` says where each came from, `secret_names` which are masked."""

    entries: Mapping[str, str | Secret]
    origins: Mapping[str, str]
    secret_names: frozenset[str] = frozenset()

    def __getitem__(self, name: str) -> str | Secret:
        return self.entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def text(self, name: str) -> str | None:
        """Return the text of a value, revealed; None when it has none. For stdin and 0600 files only."""
        value = self.entries.get(name)
        return value.reveal() if isinstance(value, Secret) else value

    def resolve(self, written: str) -> str | Secret:
        """Given a string of ops.toml, return it, or for `env:NAME` the value of that name.

        Raises ConfigError when the name has no value.
        """
        if not written.startswith("env:"):
            return written
        name = written.removeprefix("env:")
        if name not in self.entries:
            raise ConfigError(
                f"{name} has no value, and ops.toml asks for env:{name}", next_step=f"set {name}"
            )
        return self.entries[name]

    def plain(self, written: str) -> str:
        """Return what `resolve` does, revealed. For stdin, 0600 files and clients only."""
        value = self.resolve(written)
        return value.reveal() if isinstance(value, Secret) else value

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """All secrets that have a value."""
        return tuple(value for value in self.entries.values() if isinstance(value, Secret))

    @property
    def revealed(self) -> dict[str, str]:
        """All names with their text, secrets revealed. For stdin and 0600 files only."""
        return {name: self.text(name) or "" for name in self.entries}


def gather(
    folder: Path, environment: str, declared: Declared, environ: Mapping[str, str] = os.environ
) -> Values:
    """Return the values of one environment. Raises ConfigError for bad syntax in a dotenv file."""
    texts: dict[str, str] = {}
    origins: dict[str, str] = {}
    for file in (".env", f".env.{environment}"):
        if (folder / file).is_file():
            for name, value in dotenv.read(folder / file).items():
                texts[name], origins[name] = value, file
    for name in sorted(declared.names & environ.keys()):
        if any(
            "\ud800" <= character <= "\udfff" for character in environ[name]
        ):  # how Python holds other bytes
            raise ConfigError(f"{name} in the {PROCESS} is not UTF-8 text", next_step=f"set {name} anew")
        texts[name], origins[name] = environ[name], PROCESS
    entries = {name: Secret(text) if name in declared.secret else text for name, text in texts.items()}
    return Values(entries, origins, declared.secret)


def with_service_files(settings: Settings, files: Sequence[EnvFile]) -> Values:
    """Return the values, secrets without one filled from the files that services name under `env_file:`."""
    values = settings.values
    entries, origins = dict(values.entries), dict(values.origins)
    for file in files:
        for name, text in file.read().items():
            if name in values.secret_names and not values.text(name) and text and name not in entries:
                entries[name] = Secret(text)
                origins[name] = file.path.relative_to(settings.folder).as_posix()
    return Values(entries, origins, values.secret_names)


def missing(settings: Settings) -> list[ConfigError]:
    """Return one error for each required secret, each `${NAME:?…}` and each `env:NAME` of a login or of a hook whose
    failure counts, without a value, all at once."""
    places = f"looked in the {PROCESS}, .env.{settings.environment} and .env of {settings.folder}"
    errors: list[ConfigError] = []
    values = settings.values
    # What only a file under `secrets:` names may be for a build alone; a service that uses it misses it at its deploy.
    named = {name for path in yaml_files(settings.folder) for name in variables_of(path, "secrets")}
    of_hooks = {name for hook in settings.config.hooks for name in hook_names(hook)}
    required = set(settings.config.secrets.required)
    needed = secret_in_config(settings.config)
    optional = (named - required) | (of_hooks - needed) | (ping_names(settings.config) - needed)
    for name in sorted(values.secret_names - optional):
        if not values.text(name):
            errors.append(
                ConfigError(f"secret {name} has no value; {places}", next_step=_how(name, settings))
            )
    for wish in required_by(settings.compose_files):
        text = values.text(wish.name)
        if wish.name in values.secret_names or text or (wish.may_be_empty and text is not None):
            continue
        why = f" ({wish.message})" if wish.message else ""
        said = f"{wish.name} has no value, and {wish.file.name} requires it{why}; {places}"
        errors.append(ConfigError(said, next_step=_how(wish.name, settings)))
    for registry, entry in settings.config.registries.items():
        name = entry.username.removeprefix("env:")
        if name != entry.username and not values.text(name):
            said = f"registries.{registry}.username asks for env:{name}, which has no value; {places}"
            errors.append(ConfigError(said, next_step=_how(name, settings)))
    for number, hook in enumerate(settings.config.hooks):
        if hook.on_error == "fail" and hook.on != "failure":
            said = f"hooks[{number}] ({hook.on} {hook.phase})"
            errors += [
                ConfigError(
                    f"{said} asks for env:{name}, which has no value; {places}",
                    next_step=_how(name, settings),
                )
                for name in sorted(hook_names(hook) - values.keys() - secret_in_config(settings.config))
            ]
    return errors


def unset_for_hooks(config: StackConfig, values: Values) -> tuple[str, ...]:
    """Return a line for each name without a value that hooks ask for whose failure is only a warning."""
    return tuple(
        f"hooks[{number}] asks for env:{name}, which has no value: the hook will not run"
        for number, hook in enumerate(config.hooks)
        if hook.on_error == "warn" or hook.on == "failure"
        for name in sorted(hook_names(hook) - values.keys())
    )


def _how(name: str, settings: Settings) -> str:
    return (
        f"set {name} in {settings.folder / f'.env.{settings.environment}'}, or in this command's environment"
    )

"""Passwords of private registries."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from ops.commands import Redactor, Secret
from ops.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from ops.config.settings import Settings

__all__ = ["registry_password"]

TIMEOUT = 30.0


def registry_password(settings: Settings, registry: str, *, timeout: float = TIMEOUT) -> Secret:
    """Return the password of one registry of ops.toml, from its variable or from its `password_command`.

    The command runs in the stack folder; one trailing line break is dropped. Raises UsageError for a registry
    that ops.toml does not have, ConfigError when there is no password, with the command's stderr.
    """
    known = settings.config.registries
    if registry not in known:
        raise UsageError(f"no registry {registry} in ops.toml; known: {', '.join(known) or 'none'}")
    entry = known[registry]
    if entry.password:
        value = settings.values.resolve(entry.password)
        return value if isinstance(value, Secret) else Secret(value)
    return Secret(_printed(settings, registry, entry.password_command, timeout))


def _printed(settings: Settings, registry: str, argv: tuple[str, ...], timeout: float) -> str:
    where = f"password_command of registry {registry}"
    try:
        done = subprocess.run(
            argv,
            cwd=settings.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ConfigError(f"{where} did not end within {timeout:g} s") from error
    except OSError as error:
        raise ConfigError(f"{where} cannot be run: {argv[0]}: {error.strerror}") from error
    if done.returncode != 0:
        said = "\n".join(done.stderr.decode(errors="replace").strip().splitlines()[-5:])
        printed = Secret(done.stdout.decode(errors="replace").strip())
        told = Redactor([*settings.values.secrets, printed])(said)
        raise ConfigError(f"{where} failed with status {done.returncode}: {told or 'it said nothing'}")
    try:
        password = done.stdout.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{where} printed something that is not UTF-8 text") from error
    if not password:
        raise ConfigError(f"{where} printed nothing")
    return password

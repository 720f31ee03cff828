"""Finds secrets where a build would show them: on a command line, in labels, in the image's history."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from ops.config import Settings
from ops.engines.rendering import sentinel
from ops.errors import ConfigError

__all__ = ["exposed_secrets", "hidden"]

_TELLING = 16  # a shorter secret (postgres, changeme) stands in paths and host names by chance
_STAND_IN = re.compile(sentinel("([A-Za-z_][A-Za-z0-9_]*?)"))


def exposed_secrets(settings: Settings, service: str, build: object) -> list[ConfigError]:
    """Given a `build:` section with stand-ins for secrets, return one error for each place that holds one.

    A long secret that was written out in the files, in place of its name, is found by its text.
    """
    long = {
        name: text
        for name in settings.values.secret_names
        if len(text := settings.values.text(name) or "") >= _TELLING
    }
    found = []
    for path, text in _texts(build, "build"):
        names = [*_STAND_IN.findall(text), *(name for name, value in long.items() if value in text)]
        found += [hidden(path, name, service) for name in dict.fromkeys(names)]
    return found


def hidden(path: str, name: str, service: str) -> ConfigError:
    """Return the error for a secret in a place where a build would show it."""
    return ConfigError(
        f"{path} holds the secret {name}, which would stand on a command line and in the image's history",
        target=service,
        next_step=f"give it as a BuildKit secret: `secrets: {{build_secret: {{environment: {name}}}}}` at the top of the "
        "compose file, `build.secrets: [build_secret]` in the service, and\n"
        "RUN --mount=type=secret,id=build_secret … in its Dockerfile",
    )


def _texts(value: object, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _texts(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner, path)
    elif isinstance(value, str):
        yield path, value

"""Finds secrets where a build would show them: on a command line, in labels, in the image's history."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from ops.config import Settings
from ops.engines.rendering import sentinel
from ops.errors import ConfigError

__all__ = ["exposed_secrets", "hidden"]

_STAND_IN = re.compile(sentinel("([A-Za-z_][A-Za-z0-9_]*?)"))


def exposed_secrets(settings: Settings, service: str, build: object) -> list[ConfigError]:
    """Given a `build:` section with stand-ins for secrets, return one error for each place that holds one.

    A secret that was written out in the files, in place of its name, is found by its text.
    """
    found = []
    for path, text in _texts(build, "build"):
        names = dict.fromkeys(_STAND_IN.findall(text))
        if not names and settings.redactor(text) != text:
            names = {
                name: None
                for name in settings.values.secret_names
                if (settings.values.text(name) or "\0") in text
            }
            names = names or {"(one of them)": None}
        found += [hidden(path, name, service) for name in names]
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

"""Secrets in commands: arguments of a process, which every user of a server can read."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from ops.config.settings import Settings
from ops.engines.rendering import sentinel_names

__all__ = ["leaks"]

_KEY = re.compile(r"\s*(command|entrypoint|healthcheck|environment|env_file|volumes|image|ports)\s*:")


def leaks(name: str, service: Mapping[str, Any], settings: Settings) -> list[str]:
    """Return a warning for each secret in a service's command, entrypoint or healthcheck, with its line if found."""
    found = []
    health = (service.get("healthcheck") or {}).get("test")
    for where, value in (
        ("command", service.get("command")),
        ("entrypoint", service.get("entrypoint")),
        ("healthcheck", health),
    ):
        for secret in sentinel_names(json.dumps(value)):
            found.append(
                f"service {name}: the {where} holds the secret {secret}{_line_of(settings, secret, where)}; every process "
                "listing on the server shows it: give it as an environment variable or a file"
            )
    return found


def _line_of(settings: Settings, secret: str, where: str) -> str:
    pattern = re.compile(r"\$\{?" + re.escape(secret) + r"\b")
    for path in settings.compose_files:
        lines = path.read_text().split("\n") if path.is_file() else []
        inside = ""
        for number, line in enumerate(lines, 1):
            key = _KEY.match(line)
            inside = key[1] if key else inside
            if pattern.search(line) and inside == where:
                return f" ({path.name}:{number})"
    return ""

"""Logins to private registries, as the text of a Docker config.json."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ops.config.registries import registry_password

if TYPE_CHECKING:
    from ops.config.settings import Settings

__all__ = ["DOCKER_HUB", "credentials", "registry_of"]

DOCKER_HUB = "docker.io"


def credentials(settings: Settings, references: Iterable[str]) -> str | None:
    """Return the text of a Docker config.json with the logins that references need; None where none does.

    It holds passwords: for stdin and 0600 files only. Raises ConfigError when a login has no password.
    """
    auths = {}
    for registry in sorted({registry_of(reference) for reference in references}):
        entry = settings.config.registries.get(registry)
        if entry is None:
            continue
        username = settings.values.resolve(entry.username)
        user = username if isinstance(username, str) else username.reveal()
        password = registry_password(settings, registry)
        pair = base64.b64encode(f"{user}:{password.reveal()}".encode()).decode()
        key = "https://index.docker.io/v1/" if registry == DOCKER_HUB else registry
        auths[key] = {"auth": pair}
    return json.dumps({"auths": auths}) if auths else None


def registry_of(reference: str) -> str:
    """Return the registry that an image reference names; without one it is Docker Hub."""
    first, slash, _ = reference.partition("/")
    return first if slash and ("." in first or ":" in first or first == "localhost") else DOCKER_HUB

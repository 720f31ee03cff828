"""Logins that a build needs: of the registries that it pushes to, and of those that base images come from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from ops.build.sections import Definition
from ops.config import Settings
from ops.config.logins import DOCKER_HUB, credentials, registry_of
from ops.errors import ConfigError

__all__ = ["build_logins"]


def build_logins(
    settings: Settings, definitions: Sequence[Definition], pushed: Iterable[str]
) -> tuple[str | None, tuple[str, ...]]:
    """Return the text of a Docker config.json (None where no login is known), and warnings.

    It holds passwords: for a 0600 file only. Raises ConfigError when a login for a push has no password; one for
    base images, which may be public, is left out with a warning.
    """
    references = list(pushed)
    needed = credentials(settings, references)
    auths = json.loads(needed)["auths"] if needed else {}
    warnings = []
    served = {registry_of(reference) for reference in references}
    for registry in settings.config.registries:
        if registry in served or not _is_base(registry, definitions):
            continue
        try:
            found = credentials(settings, [f"{registry}/"])
        except ConfigError as error:
            warnings.append(f"base images are pulled from {registry} without a login: {error.message}")
            continue
        auths |= json.loads(found)["auths"] if found else {}
    return (json.dumps({"auths": auths}) if auths else None), tuple(warnings)


def _is_base(registry: str, definitions: Sequence[Definition]) -> bool:
    """A name in a Dockerfile, its arguments or named contexts; Docker Hub is where names without a registry are."""
    return registry == DOCKER_HUB or any(registry in _texts(each) for each in definitions)


def _texts(definition: Definition) -> str:
    path = Path(definition.dockerfile)
    text = (
        path.read_text(encoding="utf-8", errors="replace") if definition.dockerfile and path.is_file() else ""
    )
    values = [value for pairs in (definition.args, definition.contexts) for _, value in pairs]
    return "\n".join([text, definition.inline, *values])

"""What ops.toml, the dotenv files and the process environment say, checked before anything runs.

Names are resolved on first use, so that listing the tasks imports neither pydantic nor PyYAML.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ops.config.loading import load
    from ops.config.models import StackConfig
    from ops.config.registries import registry_password
    from ops.config.settings import Settings
    from ops.config.sources import Source, stack_sources
    from ops.config.values import Values, missing
    from ops.config.versions import Version, git_revision, resolve_version

__all__ = [
    "Settings",
    "Source",
    "StackConfig",
    "Values",
    "Version",
    "git_revision",
    "load",
    "missing",
    "registry_password",
    "resolve_version",
    "stack_sources",
]

_HOMES = {
    "Settings": "settings",
    "Source": "sources",
    "StackConfig": "models",
    "Values": "values",
    "Version": "versions",
    "git_revision": "versions",
    "load": "loading",
    "missing": "values",
    "registry_password": "registries",
    "resolve_version": "versions",
    "stack_sources": "sources",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)

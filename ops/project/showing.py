"""The configuration in effect, with where each value comes from; secrets stay masked."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ops.config.writing import toml_lines

if TYPE_CHECKING:
    from pathlib import Path

    from ops.config import Settings

__all__ = ["Shown", "show"]


@dataclass(frozen=True)
class Shown:
    """`config` is ops.toml after all overrides; `values` is name to (text or `***`, origin)."""

    stack: str
    environment: str
    project: str
    folder: str
    compose_files: tuple[str, ...]
    config: Mapping[str, object]
    values: Mapping[str, tuple[str, str]]

    @property
    def text(self) -> str:
        """The same as TOML-like text for people."""
        files = ", ".join(self.compose_files)
        lines = [
            f"# stack {self.stack}, environment {self.environment}, compose project {self.project}",
            f"# {self.folder}: {files}",
            *toml_lines(self.config),
        ]
        if self.values:
            lines += ["", "# values, the strongest source of each"]
            width = max(len(name) for name in self.values)
            lines += [
                f"# {name:<{width}} = {text}  ({origin})" for name, (text, origin) in self.values.items()
            ]
        return "\n".join(lines)


def show(settings: Settings) -> Shown:
    """Given loaded settings, return the configuration in effect and the values, secrets as `***`."""
    values = settings.values
    hide = settings.redactor
    shown = {}
    config = settings.config.model_dump(mode="json", exclude_none=True)
    asked = re.findall(r'"env:([A-Za-z_][A-Za-z0-9_]*)"', json.dumps(config))
    for name in sorted(values.keys() | values.secret_names | set(asked)):
        if not values.text(name):
            shown[name] = ("", values.origins.get(name, "no value"))
        else:
            shown[name] = (hide(str(values[name])), values.origins[name])
    return Shown(
        stack=settings.stack,
        environment=settings.environment,
        project=settings.project,
        folder=str(settings.folder),
        compose_files=tuple(_name(settings, path) for path in settings.compose_files),
        config=config,
        values=shown,
    )


def _name(settings: Settings, path: Path) -> str:
    """A file outside the folder is shown too; `config.check` says that it cannot be shipped."""
    folder = settings.folder
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)

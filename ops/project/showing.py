"""The configuration in effect, with where each value comes from; secrets stay masked."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

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
            *_toml(self.config, ""),
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


def _toml(table: Mapping[str, object], prefix: str) -> Iterator[str]:
    """Yield plain keys first, then tables, as TOML wants them; empty tables and lists of tables fall away."""
    for key, value in table.items():
        if not isinstance(value, Mapping) and not _is_tables(value):
            yield f"{_key(key)} = {json.dumps(value, ensure_ascii=False)}"
    for key, value in table.items():
        path = f"{prefix}{_key(key)}"
        if isinstance(value, Mapping) and value:
            if any(not isinstance(inner, Mapping) for inner in value.values()):
                yield ""
                yield f"[{path}]"
            yield from _toml(value, f"{path}.")
        elif isinstance(value, list) and _is_tables(value):
            for entry in value:
                yield ""
                yield f"[[{path}]]"
                yield from _toml(entry, f"{path}.")


def _is_tables(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(entry, Mapping) for entry in value)


def _key(key: str) -> str:
    return key if key.replace("_", "").replace("-", "").isalnum() and key.isascii() else json.dumps(key)

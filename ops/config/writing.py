"""Configuration as text again: TOML, and the dotenv files that Opsbook itself reads."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

__all__ = ["dotenv_text", "toml_lines"]


def dotenv_text(values: Mapping[str, str]) -> str:
    """Given names and values, return the file that `ops.config.dotenv` reads back exactly."""
    written = {name: value.replace("\\", "\\\\").replace("'", "\\'") for name, value in values.items()}
    return "".join(f"{name}='{value}'\n" for name, value in written.items())


def toml_lines(table: Mapping[str, object], prefix: str = "") -> Iterator[str]:
    """Yield plain keys first, then tables, as TOML wants them; empty tables and lists of tables fall away."""
    for key, value in table.items():
        if not isinstance(value, Mapping) and not _is_tables(value):
            yield f"{_key(key)} = {_value(value)}"
    for key, value in table.items():
        path = f"{prefix}{_key(key)}"
        if isinstance(value, Mapping) and value:
            if any(not isinstance(inner, Mapping) for inner in value.values()):
                yield ""
                yield f"[{path}]"
            yield from toml_lines(value, f"{path}.")
        elif isinstance(value, list) and _is_tables(value):
            for entry in value:
                yield ""
                yield f"[[{path}]]"
                yield from toml_lines(entry, f"{path}.")


def _is_tables(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(entry, Mapping) for entry in value)


def _key(key: str) -> str:
    return key if key.replace("_", "").replace("-", "").isalnum() and key.isascii() else json.dumps(key)


def _value(value: object) -> str:
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")

"""Dotenv files: one reader for what people write, one writer for what Compose reads back.

python-dotenv and Compose differ in quotes, `$`, newlines and backslashes; so no file that a person wrote is
handed to Compose, and nothing that was written for Compose is read here.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from pathlib import Path

from ops.config.interpolation import references
from ops.errors import ConfigError

__all__ = ["compose_form", "parse", "read", "read_differently"]

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "$": "$$", "\n": "\\n", "\r": "\\r"})


def read(path: Path) -> dict[str, str]:
    """Given a dotenv file, return its names and values, `$` taken literally; a name without `=` is absent.

    Raises ConfigError with file and line for a line that is no assignment, or a file that is not UTF-8.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text (byte {error.start})") from error
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    return parse(text, str(path))


def parse(text: str, name: str) -> dict[str, str]:
    """Given the text of a dotenv file and the name to say in errors, return what `read` returns."""
    from dotenv.parser import parse_stream

    values: dict[str, str] = {}
    for binding in parse_stream(io.StringIO(text)):
        if binding.error:
            lead = binding.original.string
            line = binding.original.line + lead[: len(lead) - len(lead.lstrip())].count("\n")
            raise ConfigError(
                f"{name}:{line}: this line is not NAME=value, or its quotes are not closed",
                next_step=f"mend line {line} of {name}",
            )
        if binding.key is None or binding.value is None:
            continue
        if not _NAME.fullmatch(binding.key):
            raise ConfigError(f"{name}:{binding.original.line}: {binding.key!r} is not a name for a variable")
        if "\0" in binding.value:
            raise ConfigError(f"{name}:{binding.original.line}: a value cannot hold a NUL byte")
        values[binding.key] = binding.value
    return values


def read_differently(text: str) -> tuple[str, ...]:
    """Given the text of a dotenv file, return the names whose `$` Compose itself would interpolate."""
    from dotenv.parser import parse_stream

    found = []
    for binding in parse_stream(io.StringIO(text)):
        if binding.key and binding.value and ("$$" in binding.value or any(references(binding.value))):
            written = binding.original.string.partition("=")[2].lstrip()
            if not written.startswith("'"):
                found.append(binding.key)
    return tuple(dict.fromkeys(found))


def compose_form(values: Mapping[str, str]) -> str:
    """Given names and values, return the file that Compose reads back exactly, as --env-file and `env_file:`.

    Raises ValueError for what such a file cannot hold: a NUL byte, or a name that is not one.
    """
    lines = []
    for name, value in values.items():
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a name for a variable")
        if "\0" in value:
            raise ValueError(f"the value of {name} holds a NUL byte")
        lines.append(f'{name}="{value.translate(_ESCAPES)}"\n')
    return "".join(lines)

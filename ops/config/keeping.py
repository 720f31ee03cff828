"""What is unwise about how the values are kept; it is told and stops nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ops.commands import Secret
from ops.commands.redaction import SHORTEST
from ops.config import dotenv
from ops.config.values import Values
from ops.errors import ConfigError

__all__ = ["warnings"]


def warnings(folder: Path, files: Sequence[Path], values: Values) -> tuple[str, ...]:
    """Given the dotenv files in use and the values, return one line for each thing that deserves a look."""
    return (
        *_short(values),
        *_open_to_others(folder, files, values),
        *_dollars(folder, files),
        *_leaks(values),
    )


def _short(values: Values) -> Iterator[str]:
    for name in sorted(values.secret_names):
        text = values.text(name)
        if text and len(text) < SHORTEST:
            yield f"secret {name} is shorter than {SHORTEST} characters and cannot be masked in output"


def _open_to_others(folder: Path, files: Sequence[Path], values: Values) -> Iterator[str]:
    for path in files:
        mode = path.stat().st_mode & 0o777
        if not mode & 0o077:
            continue
        try:
            texts = dotenv.read(path)
        except ConfigError:
            continue  # told by whoever needs the file
        held = [name for name in sorted(values.secret_names) if texts.get(name)]
        if held:
            name = path.relative_to(folder).as_posix()
            yield f"{name} holds {', '.join(held)} and others may read it (mode {mode:04o}): chmod 600 {path}"


def _dollars(folder: Path, files: Sequence[Path]) -> Iterator[str]:
    for path in files:
        for name in dotenv.read_differently(path.read_text(encoding="utf-8-sig", errors="replace")):
            yield (
                f"{path.relative_to(folder).as_posix()}: the $ in {name} is taken literally, where plain "
                "docker compose would interpolate it; single quotes make both agree"
            )


def _leaks(values: Values) -> Iterator[str]:
    for name, value in values.entries.items():
        for inner in sorted(values.secret_names):
            text = values.text(inner)
            if isinstance(value, Secret) or not text or len(text) < SHORTEST:
                continue
            if text in value and text != value:
                yield f"{name} contains the value of secret {inner}: list {name} under [secrets] required too"

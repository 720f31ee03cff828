"""Lays the table of one environment over the rest and checks the outcome against the schema."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import ValidationError

from ops.config.mistakes import Place, dotted, said
from ops.config.models import StackConfig
from ops.errors import ConfigError

__all__ = ["merge", "validate"]

Table = dict[str, object]


def merge(base: Mapping[str, object], over: Mapping[str, object]) -> Table:
    """Given two tables, return the second laid over the first: tables merge, lists and scalars replace."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = (
            merge(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
        )
    return merged


def validate(
    base: Table,
    environments: Mapping[str, Table],
    environment: str,
    overrides: Mapping[str, object],
    file: str,
) -> StackConfig:
    """Return the configuration of one environment; unknown keys are looked for in all of them.

    Raises ConfigError with one line for each mistake: file, dotted path, what is wrong.
    """
    lines: list[str] = []
    chosen: StackConfig | None = None
    try:
        chosen = StackConfig.model_validate(merge(merge(base, environments[environment]), overrides))
    except ValidationError as error:
        lines += _lines(error, environments[environment], environment, file, unknown_only=False)
    others: list[tuple[str, Table]] = [("", {})]
    others += [(name, table) for name, table in environments.items() if name != environment]
    for name, table in others:
        try:
            StackConfig.model_validate(merge(base, table))
        except ValidationError as error:
            lines += _lines(error, table, name, file, unknown_only=True)
    if lines or chosen is None:
        raise ConfigError("\n".join(dict.fromkeys(lines)))
    return chosen


def _lines(
    error: ValidationError, table: Table, environment: str, file: str, *, unknown_only: bool
) -> list[str]:
    lines = []
    for detail in error.errors():
        unknown = detail["type"] == "extra_forbidden"
        if unknown_only and not unknown:
            continue
        place, texts = said(detail, StackConfig)
        path = dotted(("environments", environment, *place) if _stands_in(table, place) else place)
        for text in texts:
            lines.append(f"{file}: {path}: {text}" if path else f"{file}: {text}")
    return lines


def _stands_in(table: object, place: Place) -> bool:
    """True when the place is written in this very table; a list counts whole, since it replaces."""
    if not place:
        return False
    for part in place:
        if isinstance(table, Mapping) and part in table:
            table = table[str(part)]
        else:
            return isinstance(table, list) and isinstance(part, int)
    return True

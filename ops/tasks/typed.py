"""Options as they were typed: one that was given and is empty is refused, and a number that is none has one clear line.

An empty option is most often a variable that CI did not set. Taken for the default it would mean all servers, or
another version than the one that was meant.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from invoke.parser.argument import Argument
from invoke.tasks import Task

from ops.errors import UsageError

__all__ = ["Typed", "values"]


class Typed(Task):  # type: ignore[type-arg]  # generic in name only: Invoke's decorator takes the bare class
    """A task that gets None for an option that was not given, and a number as its text."""

    def get_arguments(self, ignore_unknown_help: bool | None = None) -> list[Argument]:
        """Return the options for Invoke's parser."""
        return [_as_typed(argument) for argument in super().get_arguments(ignore_unknown_help)]


class _Number(Argument):
    """A whole number for `--help`, a text for the parser: its own conversion ends with a traceback."""

    def set_value(self, value: Any, cast: bool = True) -> None:
        super().set_value(value, cast=False)


def _as_typed(argument: Argument) -> Argument:
    if argument.kind is int:
        return _Number(
            names=argument.names,
            kind=int,
            default=argument.default,
            help=argument.help,
            attr_name=argument.attr_name,
        )
    if argument.default == "":
        argument.default = None
    return argument


def values(body: Callable[..., object], options: Mapping[str, object]) -> dict[str, Any]:
    """Given what was typed, return what the body takes: without options that were not given, numbers as numbers.

    Raises UsageError for an option that is empty, and for a number that is none.
    """
    parameters = inspect.signature(body).parameters
    found: dict[str, Any] = {}
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        if value is None:
            continue
        if isinstance(value, str) and not value.strip():
            raise UsageError(f"{flag} is empty", next_step=f"give it a value, or leave {flag} out")
        found[name] = value
        if isinstance(value, str) and name in parameters and type(parameters[name].default) is int:
            try:
                found[name] = int(value)
            except ValueError:
                raise UsageError(f"{flag} takes a whole number, not {value!r}") from None
    return found

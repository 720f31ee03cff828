"""Turns what pydantic finds into one plain line for each mistake, with the nearest known key."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from pydantic import BaseModel

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

__all__ = ["Place", "dotted", "known_keys", "said"]

Place = tuple[int | str, ...]

_KINDS = {
    "string_type": "must be text in quotes",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "tuple_type": "must be a list",
    "dict_type": "must be a table",
    "model_type": "must be a table",
    "model_attributes_type": "must be a table",
    "missing": "is required",
}
_LIMITS = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}


def said(error: ErrorDetails, model: type[BaseModel]) -> tuple[Place, tuple[str, ...]]:
    """Given one of pydantic's errors, return where it is and what is wrong there, in plain words."""
    place, kind, context = _place(error["loc"]), error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        known = known_keys(model, place[:-1])
        near = difflib.get_close_matches(str(place[-1]), known, n=1)
        return place, (
            f"unknown key; did you mean {near[0]}?" if near else f"unknown key; known: {', '.join(known)}",
        )
    if kind == "value_error":
        return place, tuple(str(context["error"]).split("; "))
    if kind == "literal_error":
        return place, (
            f"must be {context['expected'].replace(chr(39), chr(34))}, not {_shown(error['input'])}",
        )
    if kind == "string_pattern_mismatch":
        return place, (f"{_shown(error['input'])} must match {context['pattern']}",)
    if kind in ("too_short", "too_long", "string_too_short"):
        return place, ("must not be empty" if context.get("min_length") == 1 else error["msg"].lower(),)
    for limit, words in _LIMITS.items():
        if limit in context:
            return place, (f"must be {words} {context[limit]}, not {_shown(error['input'])}",)
    if kind == "finite_number":
        return place, (f"must be a number that ends, not {error['input']}",)
    if kind in _KINDS:
        what = _KINDS[kind]
        return place, (what if kind == "missing" else f"{what}, not {_kind(error['input'])}",)
    return place, (error["msg"][:1].lower() + error["msg"][1:],)


def known_keys(model: type[BaseModel], place: Place) -> tuple[str, ...]:
    """Given a model and a place in it, return the keys that the table there may have."""
    found: object = model
    for part in place:
        if _is_model(found):
            info = found.model_fields.get(str(part))
            if info is None:
                return ()
            found = _table(info.annotation)
        else:
            found = _table(_element(found))
    if not _is_model(found):
        return ()
    keys = tuple(found.model_fields)
    return keys if place else (*keys, "environments")


def dotted(place: Iterable[int | str]) -> str:
    """Given a place, return it as it is spoken of: `smoke[0].path`."""
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _place(location: Place) -> Place:
    """Drop what pydantic adds to a path: the mark of a key."""
    return tuple(part for part in location if part != "[key]")


def _is_model(found: object) -> typing.TypeGuard[type[BaseModel]]:
    return isinstance(found, type) and issubclass(found, BaseModel)


def _table(annotation: object) -> object:
    """Strip `| None` and Annotated from an annotation."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        members = [member for member in typing.get_args(annotation) if member is not type(None)]
        return _table(members[0])
    if typing.get_origin(annotation) is typing.Annotated:
        return _table(typing.get_args(annotation)[0])
    return annotation


def _element(annotation: object) -> object:
    """Return what a dict or a tuple holds."""
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) is dict:
        return arguments[1]
    return arguments[0] if arguments else None


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, str):
        return "text"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, Mapping):
        return "a table"
    return "a list" if isinstance(value, list | tuple) else type(value).__name__


def _shown(value: object) -> str:
    return (
        f'"{value}"'
        if isinstance(value, str)
        else str(value).lower()
        if isinstance(value, bool)
        else str(value)
    )

"""Compose's `$NAME` and `${NAME…}` in text: which names it uses, which it requires, what it becomes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

__all__ = ["Reference", "references", "substitute"]

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OPERATORS = (":-", ":?", ":+", "-", "?", "+")


@dataclass(frozen=True)
class Reference:
    """One use of a name; `operator` is `:-`, `?` and so on or empty, `argument` what follows it.

    `nested` is true inside the argument of another reference.
    """

    name: str
    operator: str = ""
    argument: str = ""
    nested: bool = False


def _split(text: str) -> Iterator[str | Reference]:
    """Yield plain text and references in order; `$$` is plain text `$`, a lone `$` stays."""
    at = 0
    while (dollar := text.find("$", at)) >= 0:
        if dollar > at:
            yield text[at:dollar]
        after = dollar + 1
        if text[after : after + 1] == "$":
            yield "$"
            at = after + 1
        elif match := _NAME.match(text, after):
            yield Reference(match[0])
            at = match.end()
        elif text[after : after + 1] == "{" and (braced := _braced(text, after + 1)):
            reference, at = braced
            yield reference
        else:
            yield "$"
            at = after
    if at < len(text):
        yield text[at:]


def _braced(text: str, start: int) -> tuple[Reference, int] | None:
    """Read what stands after `${`; None when it is no reference, as in a Go template."""
    match = _NAME.match(text, start)
    if not match:
        return None
    depth, end = 1, match.end()
    while end < len(text):
        if text.startswith("${", end):
            depth += 1
            end += 1
        elif text[end] == "}":
            depth -= 1
            if depth == 0:
                break
        end += 1
    else:
        return None
    rest = text[match.end() : end]
    operator = next((candidate for candidate in _OPERATORS if rest.startswith(candidate)), "")
    if rest and not operator:
        return None
    return Reference(match[0], operator, rest[len(operator) :]), end + 1


def references(text: str) -> Iterator[Reference]:
    """Given text of a compose file, return each reference in it, nested ones after the one they stand in."""
    for part in _split(text):
        if isinstance(part, Reference):
            yield part
            for inner in references(part.argument):
                yield Reference(inner.name, inner.operator, inner.argument, nested=True)


def substitute(text: str, value_of: Callable[[str], str | None]) -> str:
    """Given text and a way to look names up, return what Compose makes of it; an unset name becomes empty."""
    done = []
    for part in _split(text):
        if isinstance(part, str):
            done.append(part)
            continue
        value = value_of(part.name)
        present = bool(value) if part.operator.startswith(":") else value is not None
        if part.operator.endswith("+"):
            done.append(substitute(part.argument, value_of) if present else "")
        elif part.operator.endswith("-") and not present:
            done.append(substitute(part.argument, value_of))
        else:
            done.append(value or "")
    return "".join(done)

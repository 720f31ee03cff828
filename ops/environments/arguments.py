"""What a program hands to the library, looked at before anything is asked or done."""

from __future__ import annotations

from collections.abc import Sequence

from ops.errors import UsageError

__all__ = ["listed", "text"]


def listed(name: str, given: Sequence[str]) -> tuple[str, ...]:
    """Return names as a tuple; raises UsageError for one text in place of a list, and for what is no text in it."""
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise UsageError(f"{name} is a list of names, not {given!r}", next_step=f'write {name}=["app"]')
    for one in given:
        if not isinstance(one, str) or not one:
            raise UsageError(f"{name} holds {one!r}, which is no name")
    return tuple(given)


def text(name: str, given: str | None) -> None:
    """Raise UsageError for what is neither None nor a text, and for an empty one: it must not mean the default."""
    if given is not None and (not isinstance(given, str) or not given.strip()):
        raise UsageError(f"{name} is a text, not {given!r}", next_step=f'write {name}="1.5", or leave it out')

"""The one place where text becomes part of a shell script."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

__all__ = ["quote", "quote_all"]


def quote(text: str) -> str:
    """Given any text without NUL, return it as one word of a POSIX shell.

    Raises ValueError for a NUL byte, which no shell word can hold.
    """
    if "\0" in text:
        raise ValueError("a shell word cannot hold a NUL byte")
    return shlex.quote(text)


def quote_all(words: Iterable[str]) -> str:
    """Given argv, return it as one shell line."""
    return " ".join(quote(word) for word in words)

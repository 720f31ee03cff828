"""The stack folder itself: checked, shown, and made from a compose project that exists."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ops.project.checking import Checked, check
    from ops.project.initialising import Initialised, init
    from ops.project.showing import Shown, show

__all__ = ["Checked", "Initialised", "Shown", "check", "init", "show"]

_HOMES = {
    "Checked": "checking",
    "Initialised": "initialising",
    "Shown": "showing",
    "check": "checking",
    "init": "initialising",
    "show": "showing",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)

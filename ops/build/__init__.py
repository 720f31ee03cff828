"""Images that a stack builds itself: made on the operator's machine, pushed to a registry or served through SSH.

Names are resolved on first use, so that listing the tasks imports none of it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ops.build.building import build
    from ops.build.planning import plan
    from ops.build.results import Built, BuiltImage
    from ops.build.throwaway import serve_images

__all__ = ["Built", "BuiltImage", "build", "plan", "serve_images"]

_HOMES = {
    "Built": "results",
    "BuiltImage": "results",
    "build": "building",
    "plan": "planning",
    "serve_images": "throwaway",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)

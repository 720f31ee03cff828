"""All collections, one for each feature."""

from __future__ import annotations

import atexit
import gc
from pathlib import Path

from invoke.collection import Collection

import ops

__all__ = ["namespace"]


def _collections() -> Collection:
    if (Path(ops.__file__).parent / "charm.py").exists():
        raise SystemExit(
            "Another distribution that imports as `ops` (Canonical's framework for charms) is installed in this Python "
            "environment.\nNext: install opsbook into an environment of its own: python3 -m venv .venv && .venv/bin/pip install opsbook"
        )
    from ops.tasks import backup, build, config, deploy, restore, sandbox, servers, stack

    root = Collection()
    root.add_task(config.init)
    root.add_collection(Collection("config", config.check, config.show))
    for module in (backup, build, deploy, restore, sandbox, servers, stack):
        name = module.__name__.rpartition(".")[2]
        root.add_collection(Collection.from_module(module, name=name))
    return root


namespace = _collections()
# Python looks through all objects for garbage once more before it ends: a sixth of the time of a short task.
atexit.register(gc.freeze)

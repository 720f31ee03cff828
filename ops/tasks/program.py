"""The `opsbook` command: the same tasks from any folder, without a tasks.py."""

from __future__ import annotations

import importlib.metadata

from invoke.program import Program

from ops.tasks.namespace import namespace

__all__ = ["main"]


def main() -> None:
    """Run the program; ends the process with the task's exit code."""
    version = importlib.metadata.version("opsbook")
    Program(name="Opsbook", binary="opsbook", namespace=namespace, version=version).run()

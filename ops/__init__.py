"""Runbooks for docker-compose stacks on a few servers: `from ops import environment`.

The tasks at the terminal are the same calls: `environment("production", stack="demo").deploy(version="1.4.2")`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ops.environments import Environment, environment

__all__ = ["Environment", "environment"]


def __getattr__(name: str) -> object:
    # Resolved on first use: `inv --list` imports neither pydantic nor an SSH client.
    if name in __all__:
        from ops import environments

        return getattr(environments, name)
    raise AttributeError(f"module 'ops' has no attribute {name!r}")

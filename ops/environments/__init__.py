"""The library's door: one object for a stack in an environment, its features combined."""

from ops.environments.environment import Environment, environment

__all__ = ["Environment", "environment"]

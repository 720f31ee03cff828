"""The tasks: parse, call, print. `from ops.tasks import namespace` is all that a tasks.py needs."""

from ops.tasks.namespace import namespace

__all__ = ["namespace"]

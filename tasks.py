"""`inv --list` shows what there is; `inv TASK --help` what it takes."""

from ops.tasks import namespace

__all__ = ["namespace"]

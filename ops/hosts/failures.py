"""What a host raises beyond `Unreachable`."""

from __future__ import annotations

from ops.commands import Result
from ops.errors import FailedUnchanged, OpsError, Unreachable

__all__ = ["Cancelled", "CommandFailed", "ConnectionLost", "TimedOut"]


class CommandFailed(OpsError):
    """A command ended with a status other than 0; `result` holds what it wrote."""

    def __init__(self, what: str, result: Result, *, target: str, next_step: str | None = None) -> None:
        detail = f": {result.last_lines}" if result.last_lines else ""
        super().__init__(
            f"{what} failed with status {result.status}{detail}", target=target, next_step=next_step
        )
        self.result = result


class TimedOut(FailedUnchanged):
    """A command took longer than its timeout and was ended on the host."""


class ConnectionLost(Unreachable):
    """The connection broke or fell silent while a command ran; what became of the command is not known."""


class Cancelled(Exception):
    """The run was interrupted; raised in every thread that is waiting on a host."""

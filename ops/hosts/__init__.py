"""Where commands run: SSH servers, this machine, the read-only face of either, the strict fake of the tests."""

from ops.hosts.base import Connection, Host
from ops.hosts.cancellation import Cancellation
from ops.hosts.failures import Cancelled, CommandFailed, ConnectionLost, TimedOut

__all__ = ["Cancellation", "Cancelled", "CommandFailed", "Connection", "ConnectionLost", "Host", "TimedOut"]

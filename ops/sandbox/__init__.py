"""Throw-away servers to deploy to: containers with sshd and a Docker engine, a registry with TLS, all on one
network.
"""

from ops.sandbox.lifecycle import add, down, issue_certificate, remove, status, up
from ops.sandbox.power import kill, pause, reset, restart, resume, start
from ops.sandbox.record import Sandbox, Server

__all__ = [
    "Sandbox",
    "Server",
    "add",
    "down",
    "issue_certificate",
    "kill",
    "pause",
    "remove",
    "reset",
    "restart",
    "resume",
    "start",
    "status",
    "up",
]

"""Runs commands of Opsbook through a real shell on this machine."""

from __future__ import annotations

import subprocess

from ops.commands import Command, Result
from ops.hosts.fake import FakeHost

__all__ = ["ShellHost", "run"]


def run(command: Command, shell: str = "sh") -> Result:
    """Run one command and return its result."""
    done = subprocess.run(
        [shell, "-c", command.script], input=command.stdin, capture_output=True, check=False
    )
    status = done.returncode if done.returncode >= 0 else 128 - done.returncode
    return Result(status, done.stdout.decode(), done.stderr.decode())


class ShellHost(FakeHost):
    """A host whose commands run here, through a shell; the rest is as with the fake."""

    def __init__(self, name: str = "web1", shell: str = "sh") -> None:
        super().__init__(name)
        self._shell = shell

    def run(self, command: Command) -> Result:
        self._cancellation.check()
        self.commands.append(command)
        return run(command, self._shell)

    def get(self, path: str) -> bytes:
        return self.run(Command(f"cat {path}")).stdout.encode()

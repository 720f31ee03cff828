"""A stack folder of one test, the `opsbook` command in it, and the servers that this run has."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ops import sandbox as boxes

ROOT = Path(__file__).parents[2]

# Tests that run at the same time take another set each: app1, app2, app3 stand in for web1, web2, db1.
SETS = {"gw0": "web1,web2,db1", "gw1": "app1,app2,app3"}
OWN_SET = SETS.get(os.environ.get("PYTEST_XDIST_WORKER", "gw0"))
SERVERS = tuple(os.environ.get("OPS_TEST_SET", OWN_SET or "").split(","))
assert len(SERVERS) == 3, "there are two sets of servers, for one or two workers"
SECRET = "correct-horse $battery\"'\\staple"


def on_this_set(text: str, sandbox: boxes.Sandbox) -> str:
    """Return an ops.toml with the names and addresses of the servers that this run has."""
    for name, own in zip(("web1", "web2", "db1"), SERVERS, strict=True):
        fixed = {"web1": "172.30.77.11", "web2": "172.30.77.12", "db1": "172.30.77.21"}[name]
        text = text.replace(f"{name}.sandbox", f"{own}.sandbox").replace(fixed, sandbox.server(own).address)
    return text.replace("../../.sandbox/ssh_config", str(sandbox.ssh_config))


@dataclass
class Stack:
    """A stack folder of its own for one test, and the `opsbook` command run in it."""

    folder: Path
    environment: str
    variables: dict[str, str] = field(default_factory=dict)

    def command(self, *words: str, env: bool = True) -> list[str]:
        """Return the argv of a task; `--env` is added behind its name."""
        name, *rest = words
        chosen = ["--env", self.environment] if env else []
        return [sys.executable, "-m", "ops.tasks", name, *chosen, *rest]

    def run(self, *words: str, status: int | None = 0, env: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a task to its end; with a status, the exit code must be that one."""
        done = subprocess.run(
            self.command(*words, env=env),
            cwd=self.folder,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=300,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        if status is not None:
            told = f"{' '.join(words)} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
            assert done.returncode == status, told
        return done

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start a task and return its process."""
        return subprocess.Popen(
            self.command(*words),
            cwd=self.folder,
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )

    def json(self, *words: str, status: int = 0) -> dict[str, object]:
        """Run a task with --json and return its document."""
        found: dict[str, object] = json.loads(self.run(*words, "--json", status=status).stdout)
        return found

    @property
    def environ(self) -> dict[str, str]:
        """The environment of the command."""
        return {**os.environ, "PYTHONPATH": str(ROOT), **self.variables}

    def edit(self, name: str, change: Callable[[str], str]) -> None:
        """Change a file of the folder."""
        path = self.folder / name
        path.write_text(change(path.read_text()))

"""The sandbox's servers for tests, images in its registry, and stacks to deploy on them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ops import sandbox as boxes

ROOT = Path(__file__).parents[2]

# Tests that run at the same time take another set each: OPS_TEST_SET=app1,app2,app3 stands in for web1, web2, db1.
SERVERS = tuple(os.environ.get("OPS_TEST_SET", "web1,web2,db1").split(","))
SECRET = "correct-horse $battery\"'\\staple"


@pytest.fixture(scope="session")
def sandbox() -> boxes.Sandbox:
    """The running sandbox with its three servers; without Docker these tests say so and do not run."""
    found = subprocess.run(["docker", "info"], capture_output=True, check=False)
    if found.returncode != 0:
        reason = "no Docker engine answers here; scripts/test installs one"
        if os.environ.get("OPS_REQUIRE_SANDBOX"):
            pytest.fail(reason)
        pytest.skip(reason)
    there = boxes.up(("web1",), say=lambda text: None)
    for name in SERVERS:
        there = there if any(server.name == name for server in there.servers) else _added(name)
    return boxes.up(SERVERS, say=lambda text: None)


def _added(name: str) -> boxes.Sandbox:
    boxes.add(name)
    return boxes.status()


def on_this_set(text: str, sandbox: boxes.Sandbox) -> str:
    """Return an ops.toml with the names and addresses of the servers that this run has."""
    for name, own in zip(("web1", "web2", "db1"), SERVERS, strict=True):
        fixed = {"web1": "172.30.77.11", "web2": "172.30.77.12", "db1": "172.30.77.21"}[name]
        text = text.replace(f"{name}.sandbox", f"{own}.sandbox").replace(fixed, sandbox.server(own).address)
    return text.replace("../../.sandbox/ssh_config", str(sandbox.ssh_config))


@pytest.fixture
def servers(sandbox: boxes.Sandbox) -> boxes.Sandbox:
    """The three servers, emptied of what an earlier test left."""
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(boxes.reset, SERVERS))
    return sandbox


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


@pytest.fixture
def demo(servers: boxes.Sandbox, images: Callable[..., None], tmp_path: Path) -> Callable[..., Stack]:
    """Make a copy of the demo stack for an environment; `toml` is laid over its ops.toml as text behind it."""

    def make(environment: str = "staging", toml: str = "", name: str = "demo") -> Stack:
        folder = tmp_path / name
        shutil.copytree(ROOT / "compose" / "demo", folder, ignore=shutil.ignore_patterns(".env", ".ops"))
        text = on_this_set((folder / "ops.toml").read_text(), servers)
        (folder / "ops.toml").write_text(toml + "\n" + text)
        quoted = SECRET.replace("\\", "\\\\").replace("'", "\\'")
        (folder / ".env").write_text(
            f"DB_PASSWORD='{quoted}'\nREGISTRY_USERNAME={servers.username}\nREGISTRY_PASSWORD={servers.password}\n"
        )
        (folder / ".env").chmod(0o600)
        return Stack(folder, environment)

    return make


@pytest.fixture(scope="session")
def images(sandbox: boxes.Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., None]:
    """Build and push the demo's web image, as it is or with its source changed; each version once a session."""
    done: set[str] = set()
    logins = tmp_path_factory.mktemp("docker")
    import base64

    pair = base64.b64encode(f"{sandbox.username}:{sandbox.password}".encode()).decode()
    (logins / "config.json").write_text(json.dumps({"auths": {sandbox.registry: {"auth": pair}}}))

    def build(version: str, change: Callable[[str], str] | None = None, repository: str = "demo/web") -> None:
        if version in done:
            return
        folder = tmp_path_factory.mktemp("build")
        shutil.copytree(ROOT / "compose" / "demo" / "web", folder / "web")
        if change is not None:
            path = folder / "web" / "app.py"
            text = path.read_text()
            assert change(text) != text, "the change changes nothing"
            path.write_text(change(text))
        subprocess.run(
            [
                *("docker", "buildx", "build", "--push", "-q", "--build-arg", f"VERSION={version}"),
                *("-t", f"{sandbox.registry}/{repository}:{version}", str(folder / "web")),
            ],
            env={
                **os.environ,
                "DOCKER_HOST": f"unix://{sandbox.builder_socket}",
                "DOCKER_CONFIG": str(logins),
            },
            check=True,
            capture_output=True,
            timeout=600,
        )
        done.add(version)

    return build


@pytest.fixture(autouse=True)
def told_apart(request: pytest.FixtureRequest) -> Iterator[None]:
    """Nothing of one test's process environment reaches the next."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)

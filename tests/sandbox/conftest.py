"""The sandbox's servers for tests, images in its registry, and stacks to deploy on them."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from stacks import ROOT, SECRET, SERVERS, Stack, on_this_set

from ops import sandbox as boxes


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


@pytest.fixture
def servers(sandbox: boxes.Sandbox) -> boxes.Sandbox:
    """The three servers, emptied of what an earlier test left."""
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(boxes.reset, SERVERS))
    return sandbox


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
    """Build and push the demo's web image, as it is or with its source changed; each version once for all workers."""
    # A tag that moved under the other worker would be another version to it.
    base = tmp_path_factory.getbasetemp()
    done = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "pushed"
    done.mkdir(exist_ok=True)
    logins = tmp_path_factory.mktemp("docker")
    import base64

    pair = base64.b64encode(f"{sandbox.username}:{sandbox.password}".encode()).decode()
    (logins / "config.json").write_text(json.dumps({"auths": {sandbox.registry: {"auth": pair}}}))

    def build(version: str, change: Callable[[str], str] | None = None, repository: str = "demo/web") -> None:
        mark = done / f"{repository}:{version}".replace("/", "_")
        with (done / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not mark.exists():
                push(version, change, repository)
                mark.touch()

    def push(version: str, change: Callable[[str], str] | None, repository: str) -> None:
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

    return build


@pytest.fixture(autouse=True)
def told_apart(request: pytest.FixtureRequest) -> Iterator[None]:
    """Nothing of one test's process environment reaches the next."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)

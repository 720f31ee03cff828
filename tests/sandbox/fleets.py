"""Stacks that outlive one test of a file, and looks at what stands on a server, past Opsbook itself."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from stacks import ROOT, SERVERS, Stack, on_this_set

from ops import sandbox as boxes
from ops.sandbox.layout import layout

__all__ = ["Seen", "address", "containers", "demo_copy", "emptied", "on", "own_name", "query", "until"]


@dataclass(frozen=True)
class Seen:
    """A container as Docker tells it."""

    id: str
    name: str
    service: str
    started_at: str
    image: str


def own_name(server: str) -> str:
    """Return the sandbox's name of a server that the demo calls web1, web2 or db1."""
    return dict(zip(("web1", "web2", "db1"), SERVERS, strict=True))[server]


def address(server: str) -> str:
    """Return the address of a server."""
    return boxes.status().server(own_name(server)).address


def emptied(*servers: str) -> boxes.Sandbox:
    """Return the sandbox with these servers emptied."""
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(boxes.reset, map(own_name, servers)))
    return boxes.status()


def on(server: str, script: str, *, stdin: bytes = b"", status: int | None = 0) -> str:
    """Run a script on a server as its root and return what it wrote; its exit status must be the given one."""
    found = subprocess.run(
        ["docker", "exec", "-i", layout().container(own_name(server)), "sh", "-c", script],
        input=stdin,
        capture_output=True,
        timeout=180,
        check=False,
    )
    told = found.stdout.decode(errors="replace")
    if status is not None:
        said = f"{script} ended with {found.returncode}: {told}{found.stderr.decode(errors='replace')}"
        assert found.returncode == status, said
    return told


def containers(server: str, project: str, service: str = "") -> list[Seen]:
    """Return the containers of a compose project on a server, one-off ones left out, by name."""
    filters = [f"--filter label=com.docker.compose.project={project}"]
    filters += [f"--filter label=com.docker.compose.service={service}"] if service else []
    listed = f"docker ps -aq --filter label=com.docker.compose.oneoff=False {' '.join(filters)}"
    script = f'ids=$({listed}) || exit; [ -z "$ids" ] || docker inspect $ids'
    documents = json.loads(on(server, script) or "[]")
    found = [
        Seen(
            one["Id"],
            one["Name"].lstrip("/"),
            one["Config"]["Labels"]["com.docker.compose.service"],
            one["State"]["StartedAt"],
            one["Config"]["Image"],
        )
        for one in documents
    ]
    return sorted(found, key=lambda one: one.name)


def query(server: str, project: str, sql: str, service: str = "postgres", *, status: int | None = 0) -> str:
    """Return what PostgreSQL answers to a query, rows by line; the container is found by its labels."""
    (database,) = containers(server, project, service)
    psql = f"docker exec -i {database.id} psql -h 127.0.0.1 -U demo -d demo -AtqX -v ON_ERROR_STOP=1"
    return on(server, psql, stdin=sql.encode(), status=status).strip()


def until(what: str, found: Callable[[], object], *, seconds: float = 60.0) -> None:
    """Ask again and again until the answer is true; fail with `what` past the deadline."""
    end = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < end, f"{what}: not within {seconds:g} s"
        time.sleep(0.2)


def demo_copy(folder: Path, sandbox: boxes.Sandbox, environment: str) -> Stack:
    """Return a copy of the demo stack in a folder of its own, as long-lived as that folder."""
    shutil.copytree(ROOT / "compose" / "demo", folder, ignore=shutil.ignore_patterns(".env", ".ops"))
    text = on_this_set((folder / "ops.toml").read_text(), sandbox)
    (folder / "ops.toml").write_text(text)
    (folder / ".env").write_text(
        "DB_PASSWORD=a-long-enough-password\n"
        f"REGISTRY_USERNAME={sandbox.username}\nREGISTRY_PASSWORD={sandbox.password}\n"
    )
    (folder / ".env").chmod(0o600)
    return Stack(folder, environment)

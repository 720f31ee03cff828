"""Containers as the sandbox wants them: made once, left alone while they are as wanted, made anew when they
are not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ops.errors import UsageError
from ops.sandbox.docker import docker
from ops.sandbox.layout import LABEL, Layout

__all__ = ["Container", "Found", "ensure", "found", "one", "remove"]


@dataclass(frozen=True)
class Container:
    """One to be run: `name` without the sandbox's prefix, `options` the words before the image."""

    name: str
    address: str
    image: str
    options: tuple[str, ...]
    role: str

    def made(self, layout: Layout) -> str:
        """Return what tells this container from one that was run with other options."""
        words = [self.address, self.image, *self.options, str(layout.directory), str(layout.subnet)]
        return hashlib.sha256("\0".join(words).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Found:
    """One that exists: `state` in Docker's words (running, paused, exited, created)."""

    name: str
    address: str
    role: str
    state: str
    made: str
    directory: Path


def found(layout: Layout) -> dict[str, Found]:
    """Return the sandbox's containers by name, whatever their state.

    Raises UsageError when they belong to another checkout, which still exists and uses them; what it left
    stopped is replaced.
    """
    labels = "\t".join(
        f'{{{{.Label "{LABEL}.{name}"}}}}' for name in ("name", "address", "role", "made", "directory")
    )
    listed = docker("ps", "--all", "--filter", f"label={LABEL}.name", "--format", f"{{{{.State}}}}\t{labels}")
    containers = {}
    for line in listed.splitlines():
        state, name, address, role, made, directory = line.split("\t")
        containers[name] = Found(name, address, role, state, made, Path(directory))
    used = any(container.state in ("running", "paused") for container in containers.values())
    for container in containers.values():
        if used and container.directory != layout.directory and container.directory.is_dir():
            raise UsageError(
                f"this machine's sandbox belongs to {container.directory}",
                next_step=f"OPS_SANDBOX_DIR={container.directory} inv sandbox.down, or use that one",
            )
    return containers


def one(layout: Layout, name: str) -> Found:
    """Given a server's name, return its container as found; raises UsageError when there is none."""
    there = found(layout).get(name)
    if there is None or there.role != "server":
        raise UsageError(
            f"the sandbox has no server {name}", next_step="inv sandbox.status lists those that it has"
        )
    return there


def ensure(
    layout: Layout, wanted: Container, existing: Mapping[str, Found], say: Callable[[str], None]
) -> None:
    """Given a container and those that exist, make it run: unpause, start, run, or replace one made
    differently.
    """
    name = layout.container(wanted.name)
    there = existing.get(wanted.name)
    if there and there.made == wanted.made(layout):
        if there.state == "paused":
            docker("unpause", name)
        elif there.state != "running":
            say(f"Starting {wanted.name} again.")
            docker("start", name)
        return
    if there:
        say(f"Replacing {wanted.name}: its image or its options changed.")
        remove(layout, wanted.name)
    labels = {
        LABEL: "1",
        f"{LABEL}.name": wanted.name,
        f"{LABEL}.address": wanted.address,
        f"{LABEL}.role": wanted.role,
        f"{LABEL}.made": wanted.made(layout),
        f"{LABEL}.directory": str(layout.directory),
    }
    place = ("--network", layout.network, "--ip", wanted.address, "--network-alias", f"{wanted.name}.sandbox")
    docker(
        "run",
        *("--detach", "--name", name, "--hostname", wanted.name),
        *place,
        *(word for key, value in labels.items() for word in ("--label", f"{key}={value}")),
        *(word for host, address in layout.hosts.items() for word in ("--add-host", f"{host}:{address}")),
        *wanted.options,
        wanted.image,
    )


def remove(layout: Layout, *names: str) -> None:
    """Given names, remove their containers with the volumes that only they use; one that is not there is no
    error.
    """
    if names:
        docker("rm", "--force", "--volumes", *map(layout.container, names))

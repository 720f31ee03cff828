"""What a sandbox is, for those who use it, and its record in `sandbox.json`."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ops.sandbox import certificates
from ops.sandbox.containers import Found
from ops.sandbox.images import Kind
from ops.sandbox.layout import Layout
from ops.sandbox.registry import MIRROR, REGISTRY, USERNAME

__all__ = ["Memory", "Sandbox", "Server", "describe", "recall", "write"]


@dataclass(frozen=True)
class Server:
    """One throw-away server; `state` is in Docker's words (running, paused, exited)."""

    name: str
    host: str
    address: str
    state: str


@dataclass(frozen=True)
class Sandbox:
    """A sandbox as it stands: its servers, and what a deployer needs to reach them and the registry.

    `images` is None before the first `up`; `mirror` is the host that stands before Docker Hub, where there
    is one.
    """

    directory: Path
    servers: tuple[Server, ...]
    images: Kind | None
    registry: str
    username: str
    password: str = field(repr=False)
    mirror: str | None
    builder_socket: Path

    @property
    def ssh_config(self) -> Path:
        """Return the path of the ssh configuration with one entry for each server."""
        return self.directory / "ssh_config"

    @property
    def ssh_key(self) -> Path:
        """Return the path of the private key that every account accepts."""
        return self.directory / "ssh_key"

    @property
    def known_hosts(self) -> Path:
        """Return the path of the file with the servers' host keys."""
        return self.directory / "known_hosts"

    @property
    def ca_certificate(self) -> Path:
        """Return the path of the sandbox's own authority's certificate."""
        return self.directory / "ca.crt"

    def server(self, name: str) -> Server:
        """Given a name, return that server; raises KeyError when the sandbox has none of that name."""
        for each in self.servers:
            if each.name == name:
                return each
        raise KeyError(name)


@dataclass(frozen=True)
class Memory:
    """What must stay the same from one `up` to the next: the kind of images, once decided, and the
    registry's password.
    """

    images: Kind | None
    password: str


def recall(layout: Layout) -> Memory:
    """Return what `sandbox.json` remembers, or a fresh password and no decision where it does not exist."""
    file = layout.directory / "sandbox.json"
    if not file.is_file():
        return Memory(None, secrets.token_urlsafe(18))
    record = json.loads(file.read_text())
    return Memory(record["images"], record["registry"]["password"])


def describe(layout: Layout, memory: Memory, containers: Mapping[str, Found]) -> Sandbox:
    """Given what is remembered and what exists, return the sandbox."""
    servers = tuple(
        Server(each.name, f"{each.name}.sandbox", each.address, each.state)
        for each in sorted(containers.values(), key=lambda each: each.name)
        if each.role == "server"
    )
    mirror = MIRROR if memory.images == "look-alike" else None
    return Sandbox(
        directory=layout.directory,
        servers=servers,
        images=memory.images,
        registry=REGISTRY,
        username=USERNAME,
        password=memory.password,
        mirror=mirror,
        builder_socket=layout.builder_socket,
    )


def write(sandbox: Sandbox) -> None:
    """Given a sandbox, write its `sandbox.json`, readable by this user alone since the password is in it."""
    record = {
        "format": 1,
        "images": sandbox.images,
        "servers": {each.name: {"host": each.host, "address": each.address} for each in sandbox.servers},
        "registry": {"address": sandbox.registry, "username": sandbox.username, "password": sandbox.password},
        "mirror": sandbox.mirror,
        "builder_socket": str(sandbox.builder_socket),
        "ssh_config": str(sandbox.ssh_config),
        "ssh_key": str(sandbox.ssh_key),
        "known_hosts": str(sandbox.known_hosts),
        "ca_certificate": str(sandbox.ca_certificate),
    }
    certificates.write_private(
        sandbox.directory / "sandbox.json", json.dumps(record, indent=2).encode() + b"\n"
    )

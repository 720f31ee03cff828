"""The throw-away servers and the builder: containers with sshd and a Docker engine of their own."""

from __future__ import annotations

import os
import socket
import time

from ops.errors import FailedUnchanged
from ops.sandbox.containers import Container
from ops.sandbox.docker import DockerFailed, docker
from ops.sandbox.layout import Layout
from ops.sandbox.registry import MIRROR, REGISTRY

__all__ = ["RESERVED", "builder", "reset", "server", "wait"]

RESERVED = frozenset({"registry", "mirror", "builder"})
READY_SECONDS = 60
# Its engine stops its containers first, and they may take their ten seconds.
STOP_SECONDS = 20


def server(
    layout: Layout,
    name: str,
    address: str,
    image: str,
    *,
    key: str,
    authority: str,
    mirrored: bool,
    max_sessions: int,
) -> Container:
    """Given a name and its address, return the container of a server that accepts `key` and trusts
    `authority`.
    """
    environment = {**_environment(key, authority, mirrored), "MAX_SESSIONS": str(max_sessions)}
    return Container(name, address, image, _options(environment), "server")


def builder(layout: Layout, image: str, *, key: str, authority: str, mirrored: bool) -> Container:
    """Return the container whose Docker API this user reaches at `layout.builder_socket`."""
    folder = layout.builder_socket.parent
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    environment = {**_environment(key, authority, mirrored), "SOCKET_OWNER": str(os.getuid())}
    options = (*_options(environment), "--volume", f"{folder}:/run/operator")
    return Container("builder", layout.address("builder"), image, options, "builder")


def wait(layout: Layout, name: str, address: str) -> str:
    """Given a running server, return its host key, as in known_hosts, once its sshd and its Docker engine
    answer.

    Raises FailedUnchanged after 60 s, with the end of the server's log.
    """
    container = layout.container(name)
    deadline = time.monotonic() + READY_SECONDS
    try:
        said = docker("exec", container, "wait-until-ready", str(READY_SECONDS), seconds=READY_SECONDS + 10)
    except DockerFailed as error:
        log = docker("logs", "--tail", "5", container).strip()
        raise FailedUnchanged(
            f"the server did not become ready: {error}\n{log}",
            target=name,
            next_step=f"docker logs {container}",
        ) from None
    while not _greets(address):
        if time.monotonic() > deadline:
            raise FailedUnchanged(
                f"the server runs, but its sshd at {address}:22 cannot be reached from this machine",
                target=name,
                next_step="use an engine on this machine itself; Docker Desktop hides its addresses",
            )
        time.sleep(0.1)
    return " ".join(said.split()[:2])


def reset(layout: Layout, name: str) -> None:
    """Given a ready server, put it back to as it was delivered; images of official names stay.

    Raises FailedUnchanged when containers could not be removed.
    """
    try:
        docker("exec", layout.container(name), "reset", seconds=120)
    except DockerFailed as error:
        raise FailedUnchanged(
            f"the server could not be reset: {error}", target=name, next_step="remove and add it"
        ) from None


def _environment(key: str, authority: str, mirrored: bool) -> dict[str, str]:
    return {
        "AUTHORIZED_KEY": key,
        "REGISTRY_CA": authority,
        "REGISTRIES": f"{REGISTRY} {MIRROR}",
        "REGISTRY_MIRROR": f"https://{MIRROR}" if mirrored else "",
    }


def _options(environment: dict[str, str]) -> tuple[str, ...]:
    words = (word for name, value in environment.items() for word in ("--env", f"{name}={value}"))
    return ("--privileged", "--stop-timeout", str(STOP_SECONDS), *words)


def _greets(address: str) -> bool:
    try:
        with socket.create_connection((address, 22), timeout=2) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False

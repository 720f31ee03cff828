"""What happens to a single server in a rehearsal: reset, restart, start, pause, resume, kill."""

from __future__ import annotations

from ops.sandbox import containers, servers
from ops.sandbox.docker import docker
from ops.sandbox.layout import layout

__all__ = ["kill", "pause", "reset", "restart", "resume", "start"]


def reset(name: str) -> None:
    """Given a server's name, bring it to life and put it back to as it was delivered, but for images of
    official names.

    Raises UsageError when there is none, FailedUnchanged when its containers could not be removed.
    """
    place = layout()
    found = containers.one(place, name)
    if found.state == "paused":
        docker("unpause", place.container(name))
    elif found.state != "running":
        docker("start", place.container(name))
    if found.state != "running":
        servers.wait(place, name, found.address)
    servers.reset(place, name)


def restart(name: str) -> None:
    """Given a server's name, restart it as a reboot would, and return once it answers; its host keys stay."""
    _to_running(name, "restart")


def start(name: str) -> None:
    """Given the name of a server that was killed, start it, and return once it answers."""
    _to_running(name, "start")


def resume(name: str) -> None:
    """Given the name of a paused server, let it go on, and return once it answers."""
    _to_running(name, "unpause")


def pause(name: str) -> None:
    """Given a server's name, freeze it: connections stay open and nothing answers."""
    place = layout()
    docker("pause", place.container(containers.one(place, name).name))


def kill(name: str) -> None:
    """Given a server's name, end it at once, as a power cut would."""
    place = layout()
    docker("kill", place.container(containers.one(place, name).name))


def _to_running(name: str, verb: str) -> None:
    place = layout()
    found = containers.one(place, name)
    docker(verb, place.container(name))
    servers.wait(place, name, found.address)

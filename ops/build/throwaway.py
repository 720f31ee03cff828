"""A registry on the operator's machine for stacks that have none: there while images are pushed or pulled.

Its images are 127.0.0.1:<forward_port>/… for the engine here and for the servers, to which an SSH reverse forward
leads; engines need no certificate for 127.0.0.0/8.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import replace
from urllib.parse import urlsplit

from ops.build.registry_container import RegistryContainer, elsewhere, registry_image
from ops.build.users import Users, lock_folder
from ops.config import Settings
from ops.config.closure import read_files
from ops.config.folder import load_yaml
from ops.errors import FailedUnchanged, Locked, OpsError, Problem
from ops.hosts import Cancellation, Host
from ops.hosts.fleet import each

__all__ = ["serve_images", "throwaway_registry"]


def serve_images(
    settings: Settings, local: Host, cancellation: Cancellation | None = None
) -> Callable[[Mapping[str, Host]], AbstractContextManager[None]]:
    """Return what gives servers access to the images that were built here, for the time of their pulls.

    With a registry in ops.toml, or without a service that is built, it does nothing and needs no Docker here.
    Entering raises FailedUnchanged or Problem when the registry or a forward cannot be had.
    """
    needed = not settings.config.build.registry and _builds(settings)

    @contextmanager
    def serving(hosts: Mapping[str, Host]) -> Iterator[None]:
        if not needed:
            yield
            return
        with throwaway_registry(settings, local, cancellation), ExitStack() as forwards:
            _forward_all(hosts, settings.config.build.forward_port, forwards)
            yield

    return serving


@contextmanager
def throwaway_registry(
    settings: Settings, local: Host, cancellation: Cancellation | None = None
) -> Iterator[None]:
    """While open, a registry answers at 127.0.0.1:<forward_port> of this machine with the stack's own images.

    One that runs already, of this run's or another's, is used; the last user stops it. A container that a killed
    run left is replaced. Raises FailedUnchanged when the port is taken, the engine is on another machine or the
    registry's image cannot be had; Locked when another run does not come to an end with it.
    """
    cancellation = cancellation or Cancellation()
    port = settings.config.build.forward_port
    users = Users(lock_folder(), port)
    registry = RegistryContainer(local.with_cancellation(cancellation), settings.stack, port)
    # Whatever ends the run must not keep the registry from being cleared away.
    fresh = Cancellation()
    leaving = replace(registry, host=local.with_cancellation(fresh))
    _refuse_remote(registry)
    with users.turn(cancellation):
        users.join()
        try:
            _have_running(registry, users, cancellation)
        except BaseException:
            _part(leaving, users)
            raise
    try:
        yield
    finally:
        with suppress(Locked), users.turn(fresh):
            _part(leaving, users)
        users.leave()


def _part(registry: RegistryContainer, users: Users) -> None:
    """Use the registry no more; the last user removes it, and never one that is another's."""
    with suppress(OpsError):  # an engine that is gone took it along, and what stays the next run replaces
        if users.alone:
            found = registry.find()
            if found is not None and found.owner == str(os.getuid()) and found.stack == registry.stack:
                registry.remove()
    users.leave()


def _have_running(registry: RegistryContainer, users: Users, cancellation: Cancellation) -> None:
    found = registry.find()
    if found is not None:
        if found.owner != str(os.getuid()):
            raise _taken(registry, f"the throw-away registry of the user with id {found.owner or '?'}")
        if found.stack == registry.stack and found.running and registry.answers():
            return
        if found.stack != registry.stack and not users.alone:
            raise _taken(registry, f"the throw-away registry of stack {found.stack}, which is at work")
        registry.remove()
    image = registry_image()
    registry.fetch(image)
    if registry.port_is_taken():
        raise _taken(registry, "another program")
    registry.start(image)
    registry.wait(cancellation)


def _refuse_remote(registry: RegistryContainer) -> None:
    """An engine reached by SSH or another machine's address; one behind a socket shows itself by not answering."""
    where = urlsplit(registry.engine_address())
    loopback = where.hostname in ("localhost", "::1") or (where.hostname or "").startswith("127.")
    if where.scheme == "ssh" or (where.scheme in ("tcp", "http", "https") and not loopback):
        raise elsewhere(registry.port)


def _taken(registry: RegistryContainer, by: str) -> FailedUnchanged:
    return FailedUnchanged(
        f"port {registry.port} of this machine is taken by {by}",
        next_step="free it, or set another [build] forward_port in ops.toml and build anew (it is part of the image's name)",
    )


def _forward_all(hosts: Mapping[str, Host], port: int, forwards: ExitStack) -> None:
    """Open the reverse forward on every server at once; `forwards` closes each, also when others fail."""
    registering = threading.Lock()

    def forward(host: Host) -> None:
        opened = host.expose(port, port)
        opened.__enter__()
        with registering:
            forwards.push(opened)

    faults = [
        _refused(answer, port) for answer in each(hosts, forward).values() if isinstance(answer, OpsError)
    ]
    if faults:
        raise faults[0] if len(faults) == 1 else Problem(faults)


def _refused(error: OpsError, port: int) -> OpsError:
    if error.exit_code == FailedUnchanged.exit_code:
        other = f"or set [build] forward_port in ops.toml to a port other than {port}, and build anew"
        error.next_step = (
            f"{error.next_step},\n{other}" if error.next_step else f"free port {port} there, {other}"
        )
    return error


def _builds(settings: Settings) -> bool:
    """Return whether any service of the compose files is built, and not named otherwise in ops.toml."""
    for path in read_files(settings).compose_files:
        data = load_yaml(path.read_bytes(), path.name) if path.is_file() else None
        services = data.get("services") if isinstance(data, dict) else None
        for name, service in services.items() if isinstance(services, dict) else ():
            named = settings.config.services.get(name)
            if isinstance(service, dict) and "build" in service and not (named and named.image):
                return True
    return False

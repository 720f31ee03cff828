"""A sandbox comes up, grows or shrinks by a server, and goes down."""

from __future__ import annotations

import fcntl
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from ops.errors import UsageError
from ops.sandbox import certificates, containers, images, network, record, registry, servers, ssh_access
from ops.sandbox.containers import Container, Found
from ops.sandbox.docker import answers
from ops.sandbox.layout import Layout, layout
from ops.sandbox.record import Sandbox, Server

__all__ = [
    "add", "down", "issue_certificate", "remove", "status", "up",
]  # fmt: skip

DEFAULT_SERVERS = ("web1", "web2", "db1")
AT_ONCE = 8


def up(
    servers: Sequence[str] = DEFAULT_SERVERS, *, also: Sequence[str] = (), say: Callable[[str], None]
) -> Sandbox:
    """Given server names, return the sandbox once these, the registries and the builder answer.

    What runs as it should is left alone, what stopped is started, what is missing is made; other servers are
    not touched. `also` names images to have ready that are made on demand alone (`mongo`). `say` gets a line
    for each step that takes time. Raises UsageError for a name or a subnet that cannot be used,
    FailedUnchanged when a build or a server fails, OpsError when no Docker engine answers.
    """
    return _bring_up(servers, 10, say, also)


def add(name: str, *, max_sessions: int = 10, say: Callable[[str], None] = lambda line: None) -> Server:
    """Given a name, return that server, made where it does not exist; `max_sessions` is its sshd's limit for
    one connection.

    Errors as `up`.
    """
    return _bring_up([name], max_sessions, say).server(name)


def remove(name: str) -> None:
    """Given a server's name, remove it with its volumes; raises UsageError when there is none."""
    place = layout()
    with _alone(place):
        containers.remove(place, containers.one(place, name).name)
        _publish(place, record.recall(place), {})


def status() -> Sandbox:
    """Return the sandbox as it stands; it has no servers where none is up."""
    place = layout()
    return record.describe(place, record.recall(place), containers.found(place))


def issue_certificate(name: str, sans: Sequence[str] = ()) -> tuple[bytes, bytes]:
    """Given a name and more names or addresses, return (certificate, key) as PEM, signed by the sandbox's
    authority.
    """
    place = layout()
    place.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return certificates.issue(place.directory, name, sans)


def down(clean: bool = False, *, say: Callable[[str], None] = lambda line: None) -> None:
    """Remove the servers, the registries, the builder and the network; with `clean` also the images, the
    mirror and the folder.

    Keys, authority and password in the folder outlive a plain `down`, and so do built images: the next `up`
    is quick.
    """
    place = layout()
    with _alone(place):
        found = containers.found(place)
        if found:
            say(f"Removing {', '.join(sorted(found))}.")
        containers.remove(place, *found)
        network.remove(place)
        if clean:
            say(f"Removing the sandbox's images and {place.directory}.")
            answers("volume", "rm", registry.mirror_volume(place))
            images.remove()
            shutil.rmtree(place.builder_socket.parent, ignore_errors=True)
            shutil.rmtree(place.directory, ignore_errors=True)
        else:
            _publish(place, record.recall(place), {})


def _bring_up(
    names: Sequence[str], max_sessions: int, say: Callable[[str], None], also: Sequence[str] = ()
) -> Sandbox:
    place = layout()
    for name in names:
        if name in servers.RESERVED or not re.fullmatch(r"[a-z][a-z0-9-]{0,30}", name):
            raise UsageError(
                f"{name!r} cannot be a server's name", next_step="use small letters, digits and dashes: app1"
            )
    with _alone(place):
        existing = containers.found(place)
        remembered = record.recall(place)
        kind = images.decide(remembered.images, say)
        memory = record.Memory(kind, remembered.password)
        built = images.prepare(kind, say, also)
        network.create(place)
        wanted = _wanted(place, built, memory.password, names, max_sessions, existing)
        if missing := [each.name for each in wanted if each.name not in existing]:
            say(f"Starting {', '.join(missing)} ...")
        with ThreadPoolExecutor(AT_ONCE) as pool:
            _all([pool.submit(containers.ensure, place, each, existing, say) for each in wanted])
            filled = [pool.submit(registry.fill_mirror, place, built, say)] if built.look_alikes else []
            waits = {
                each.name: pool.submit(servers.wait, place, each.name, each.address)
                for each in wanted
                if each.role != "registry"
            }
            _all([*waits.values(), *filled])
        keys = {each.name: waits[each.name].result() for each in wanted if each.role == "server"}
        return _publish(place, memory, keys)


def _wanted(
    place: Layout, built: images.Images, password: str, names: Sequence[str], max_sessions: int,
    existing: Mapping[str, Found],
) -> list[Container]:  # fmt: skip
    key, authority = ssh_access.public_key(place.directory), certificates.authority(place.directory)
    mirrored = bool(built.look_alikes)
    wanted = [
        registry.private(place, built.registry, password),
        servers.builder(place, built.server, key=key, authority=authority, mirrored=mirrored),
    ]
    if mirrored:
        wanted.append(registry.mirror(place, built.registry))
    taken = {each.address for each in existing.values()}
    for name in dict.fromkeys(names):
        address = existing[name].address if name in existing else place.address(name, taken)
        taken.add(address)
        wanted.append(
            servers.server(
                place, name, address, built.server,
                key=key, authority=authority, mirrored=mirrored, max_sessions=max_sessions,
            )
        )  # fmt: skip
    return wanted


def _publish(place: Layout, memory: record.Memory, keys: Mapping[str, str]) -> Sandbox:
    sandbox = record.describe(place, memory, containers.found(place))
    addresses = {each.name: each.address for each in sandbox.servers}
    ssh_access.write_known_hosts(place.directory, addresses, keys)
    ssh_access.write_configuration(place.directory, addresses)
    record.write(sandbox)
    return sandbox


def _all(futures: Iterable[Future[str] | Future[None]]) -> None:
    # Each is waited for before the first failure goes up, so that nothing still runs behind the caller's
    # back.
    errors = [error for error in (future.exception() for future in futures) if error]
    if errors:
        raise errors[0]


@contextmanager
def _alone(place: Layout) -> Iterator[None]:
    # Two terminals may say `up` at once; the second one waits, and then finds everything done.
    place.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (place.directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield

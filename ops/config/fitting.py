"""Whether the parts of ops.toml fit together: what each of them allows and all together cannot work."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ops.config.models import StackConfig

__all__ = ["misfits"]

_VALUE = re.compile(r"env:[A-Za-z_][A-Za-z0-9_.-]*")
_BEFORE_THE_LOCK = (("before", "check"), ("after", "check"), ("before", "lock"))


def misfits(config: StackConfig) -> tuple[str, ...]:
    """Return what is wrong between the parts, a line each."""
    return (
        *_state_host(config),
        *_roles(config),
        *_services(config),
        *_hooks(config),
        *_datastores(config),
        *_overlapping(config),
    )


def _state_host(config: StackConfig) -> Iterator[str]:
    known = ", ".join(config.servers)
    if len(config.servers) > 1 and config.state_host is None:
        yield f"with more than one server, state_host must name one of: {known}"
    if config.state_host is not None and config.servers and config.state_host not in config.servers:
        yield f"state_host {config.state_host!r} is not one of the servers: {known}"


def _roles(config: StackConfig) -> Iterator[str]:
    if any(not server.roles for server in config.servers.values()):
        return  # a server without roles stands for all of them
    roles = {role for server in config.servers.values() for role in server.roles}
    wanted = {f"services.{name}.roles": service.roles for name, service in config.services.items()}
    wanted |= {f"smoke[{number}].roles": check.roles for number, check in enumerate(config.smoke)}
    for place, names in wanted.items():
        missing = [role for role in names if role not in roles]
        if missing and config.servers:
            yield f"{place}: no server has the role {missing[0]!r}"


def _services(config: StackConfig) -> Iterator[str]:
    for name, service in config.services.items():
        if service.strategy == "rolling":
            if config.proxy is None:
                yield f"services.{name}: strategy rolling needs a [proxy]"
            elif config.proxy.service == name:
                yield f"services.{name}: the proxy itself cannot roll; its strategy is recreate"
            if service.port is None:
                yield f"services.{name}: strategy rolling needs the container port that the proxy talks to (port = …)"
        health = service.health
        asked = health.kind in ("http", "tcp") or (health.kind == "auto" and health.path)
        if asked and health.port is None and service.port is None:
            kind = "http" if health.kind == "auto" else health.kind
            yield f"services.{name}.health: kind {kind} needs the container port that is probed (port = …)"


def _datastores(config: StackConfig) -> Iterator[str]:
    known = ", ".join(config.servers)
    for kind, name, store in config.datastores.every:
        if store.server is not None and config.servers and store.server not in config.servers:
            yield f"datastores.{kind}.{name}: {store.server!r} is not one of the servers: {known}"


def _overlapping(config: StackConfig) -> Iterator[str]:
    """A restore moves what lies in a folder: two of them must not have one in common."""
    stores = list(config.datastores.files.items())
    for number, (name, one) in enumerate(stores):
        for other, two in stores[number + 1 :]:
            if one.server != two.server and one.server is not None and two.server is not None:
                continue
            first, second = (f"{each.path.rstrip('/')}/" for each in (one, two))
            if first.startswith(second) or second.startswith(first):
                yield f"datastores.files: {name} and {other} have {max(first, second, key=len)} in common"


def _hooks(config: StackConfig) -> Iterator[str]:
    for number, hook in enumerate(config.hooks):
        for name, text in hook.environment.items():
            if text.startswith("env:") and not _VALUE.fullmatch(text):
                yield f'hooks[{number}].environment.{name}: "{text}" names no variable'
        if hook.where != "operator" and (hook.on, hook.phase) in _BEFORE_THE_LOCK:
            yield (
                f"hooks[{number}]: {hook.on} {hook.phase} nothing runs on a server, since the lock is not taken yet: "
                'where = "operator", or a later phase'
            )

"""All servers of an environment: opened from the config, used in parallel, closed together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from ops.config.models import Server, StackConfig
from ops.errors import OpsError, UsageError, gathered
from ops.hosts.base import Host
from ops.hosts.cancellation import Cancellation
from ops.hosts.failures import Cancelled
from ops.hosts.local import LocalHost
from ops.hosts.readonly import ReadOnlyHost
from ops.hosts.route import Endpoint, Settings, route
from ops.hosts.ssh import SSHHost

__all__ = ["Fleet", "each", "server_route", "together"]

T = TypeVar("T")
AT_ONCE = 32


class Fleet:
    """The hosts of `config.servers` by name, in its order; leaving the context closes their connections.

    Entering the context begins to dial, so that a handshake goes on beside what else is to be done first; what it
    meets is raised by a host's first verb. `only` picks some servers; `read_only` wraps each in the dry run's safety
    net. Raises UsageError for a name that is not among the servers.
    """

    def __init__(
        self,
        config: StackConfig,
        folder: Path,
        environment: str,
        cancellation: Cancellation | None = None,
        *,
        only: Iterable[str] | None = None,
        read_only: bool = False,
    ) -> None:
        cancellation = cancellation or Cancellation()
        self.hosts: dict[str, Host] = {}
        self._remote: list[SSHHost] = []
        for name in config.servers if only is None else only:
            host = _host(name, _server(config, name), config, folder, environment, cancellation)
            self.hosts[name] = ReadOnlyHost(host) if read_only else host
            if isinstance(host, SSHHost):
                self._remote.append(host)

    def __enter__(self) -> Fleet:
        for host in self._remote[:AT_ONCE]:
            host.begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __getitem__(self, name: str) -> Host:
        return self.hosts[name]

    def each(self, function: Callable[[Host], T], *, at_once: int = AT_ONCE) -> dict[str, T | OpsError]:
        """Run a function on every host in parallel; see `each`."""
        return each(self.hosts, function, at_once=at_once)

    def close(self) -> None:
        """End all connections, in parallel."""
        each(self.hosts, lambda host: host.close())


def each(
    hosts: Mapping[str, Host], function: Callable[[Host], T], *, at_once: int = AT_ONCE
) -> dict[str, T | OpsError]:
    """Run a function on hosts in parallel and return, by name, its result or the OpsError it raised.

    All come to their end before this returns. Raises Cancelled when one did, and any other exception as it is.
    """
    if not hosts:
        return {}
    outcomes: dict[str, T | OpsError] = {}
    others: list[BaseException] = []
    with ThreadPoolExecutor(min(at_once, len(hosts)), thread_name_prefix="ops-host") as pool:
        started = {name: pool.submit(function, host) for name, host in hosts.items()}
        for name, future in started.items():
            error = future.exception()
            if error is None:
                outcomes[name] = future.result()
            elif isinstance(error, OpsError):
                outcomes[name] = error
            else:
                others.append(error)
    for error in sorted(
        others, key=lambda one: isinstance(one, Cancelled)
    ):  # a bug is told before a cancellation
        raise error
    return outcomes


def together(outcomes: Mapping[str, T | OpsError]) -> dict[str, T]:
    """Return the results where all succeeded; raises the only failure as it is, or a Problem with all of them."""
    failures = [outcome for outcome in outcomes.values() if isinstance(outcome, OpsError)]
    if failures:
        raise gathered(failures)
    return {name: outcome for name, outcome in outcomes.items() if not isinstance(outcome, OpsError)}


def server_route(name: str, config: StackConfig, folder: Path) -> tuple[Endpoint, ...]:
    """Return the SSH endpoints that lead to a server, itself last; empty for `address = "local"`."""
    server = _server(config, name)
    if server.address == "local":
        return ()
    settings = Settings(
        ssh_config=_beside(folder, config.ssh_config), known_hosts=_beside(folder, config.known_hosts)
    )
    return route(
        server.address or name,
        user=server.user,
        port=server.port,
        key=server.key,
        jump=server.jump,
        folder=folder,
        settings=settings,
    )


def _host(
    name: str, server: Server, config: StackConfig, folder: Path, environment: str, cancellation: Cancellation
) -> Host:
    if server.address == "local":
        return LocalHost(name, sudo=server.sudo, cancellation=cancellation)
    return SSHHost(
        name,
        partial(server_route, name, config, folder),
        environment=environment,
        sudo=server.sudo,
        silence=config.silence,
        cancellation=cancellation,
    )


def _server(config: StackConfig, name: str) -> Server:
    if name not in config.servers:
        known = ", ".join(config.servers) or "none"
        raise UsageError(f"there is no server {name!r}; the servers are: {known}")
    return config.servers[name]


def _beside(folder: Path, name: str) -> Path | None:
    return (folder / Path(name).expanduser()).absolute() if name else None

"""What runs, and what it writes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ops.commands import Command, quote
from ops.commands.quoting import quote_all
from ops.config import Settings
from ops.engines.compose import in_release
from ops.engines.facts import Container
from ops.errors import OpsError, UsageError
from ops.hosts import Host
from ops.hosts.fleet import each
from ops.runs.releases import layout_of, serving
from ops.stack.asking import check_known

__all__ = ["Row", "execute", "logs", "processes"]


@dataclass(frozen=True)
class Row:
    """One container on one server."""

    server: str
    container: str
    service: str
    state: str
    health: str
    restarts: int
    image: str
    started_at: str


def processes(settings: Settings, hosts: Mapping[str, Host]) -> tuple[Row, ...]:
    """Return the stack's containers on all servers, by server, service and number."""
    return tuple(
        _row(name, container)
        for name, found in serving(settings, hosts).items()
        for container in found.facts.containers
    )


def logs(
    settings: Settings,
    hosts: Mapping[str, Host],
    services: tuple[str, ...],
    *,
    tail: int,
    follow: bool,
    write: Callable[[str], None],
) -> None:
    """Write log lines of services (all, if none is named), each with its server in front, as they come.

    `tail` is lines for each container. Raises UsageError for a service that runs nowhere.
    """
    present = serving(settings, hosts)
    check_known(present, services)
    layout = layout_of(settings)
    lock = threading.Lock()

    def one(host: Host) -> None:
        name = host.name
        release = present[name].release
        if release is None:
            return
        here = [service for service in services if service in release.services]
        if services and not here:
            return
        arguments = ["logs", "--no-color", "--tail", str(tail), *(["--follow"] if follow else []), *here]
        held = b""

        def take(data: bytes) -> None:
            nonlocal held
            *lines, held = (held + data).split(b"\n")
            with lock:
                for line in lines:
                    # Compose begins followed lines with "erase the line", terminal or not.
                    text = line.removeprefix(b"\x1b[2K").decode(errors="replace")
                    write(f"{name}  {settings.redactor(text)}")

        status = host.follow(
            Command(in_release(layout, release.id, *arguments), timeout=None, title="docker compose logs"),
            take,
        )
        if held:
            take(b"\n")
        if status != 0:
            raise OpsError(f"docker compose logs ended with status {status}", target=name)

    faults = [answer for answer in each(hosts, one).values() if isinstance(answer, OpsError)]
    if faults:
        raise faults[0]


def execute(
    settings: Settings, hosts: Mapping[str, Host], service: str, command: str, *, server: str | None
) -> int:
    """Run a command line in a container of a service, on the person's terminal; return its exit status.

    The first server that runs the service is used unless one is named. Raises UsageError where it runs nowhere.
    """
    present = serving(settings, hosts)
    check_known(present, (service,))
    for name, found in present.items():
        if server not in (None, name):
            continue
        running = [c for c in found.facts.containers if c.service == service and c.running]
        if running:
            inside = quote_all(["sh", "-c", command])
            # `-t` only where there is a terminal on this side: the far side asks its own stdin.
            script = f"[ -t 0 ] && t=-t || t=; exec docker exec -i $t {quote(running[0].id)} {inside}"
            return hosts[name].terminal(
                Command(
                    script,
                    changes=f"whatever {command!r} changes",
                    timeout=None,
                    title=f"docker exec {running[0].name} {inside}",
                )
            )
    raise UsageError(
        f"no container of {service} runs{f' on {server}' if server else ''}", next_step="inv stack.ps"
    )


def _row(server: str, container: Container) -> Row:
    return Row(
        server,
        container.name,
        container.service,
        container.state,
        container.health or "-",
        container.restarts,
        container.reference,
        container.started_at,
    )

"""Rolling: new containers beside the old, healthy before the proxy turns to them; the old leave when they are idle.

The order and its reasons are in docs/decisions/rolling.md. It never asks what the run before did: containers of the
wanted definition are kept, whoever started them. So the same plan deploys, scales, resumes and rolls back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ops.commands import Command, command, quote
from ops.engines.compose import up
from ops.engines.facts import Container
from ops.engines.nginx import (
    RESOLVES_FROM,
    parse_version,
    resting_upstream,
    upstream_text,
    version_query,
    workers_query,
    write_upstream,
)
from ops.engines.release import ProxySpec, ServiceSpec
from ops.strategies.context import Switch
from ops.strategies.steps import Act, Drain, Gate, Pause, Soak, Step, View

__all__ = ["WORKERS", "partition", "rest_again", "roll"]

NGINX, WORKERS = "nginx", "workers"


def partition(spec: ServiceSpec, view: View) -> tuple[tuple[Container, ...], tuple[Container, ...]]:
    """Return the service's containers that stay and those that go: the lowest numbers of the right definition stay."""
    good = [
        c for c in view.of(spec.name) if c.running and c.config == spec.config and c.health != "unhealthy"
    ]
    stay = tuple(good[: spec.replicas])
    return stay, tuple(c for c in view.of(spec.name) if c not in stay)


def roll(spec: ServiceSpec, switch: Switch, view: View) -> tuple[Step, ...]:
    """Given a service whose containers are not as defined, return the steps that replace them one for one."""
    proxy = switch.proxy
    stay, go = partition(spec, view)
    # Those that go are chosen once: what Docker says of a container later must not move it from one side to the other.
    leaving = frozenset(c.id for c in go)
    missing = spec.replicas - len(stay)
    steps: list[Step] = []
    if proxy is not None:
        steps.append(_ask_version(switch, proxy))
    dead = [c for c in go if c.state in ("exited", "dead", "created")]
    if dead:
        # `up --no-recreate` would start them again, whatever their definition.
        steps.append(
            Act(
                f"remove {_count(len(dead), 'stopped container')} of {spec.name}",
                lambda view: (_remove(dead),),
                refresh=True,
                expect=lambda view: view.without(dead),
            )
        )
    live = len(go) - len(dead)
    if missing:
        steps.append(
            Act(
                f"start {_count(missing, f'new {spec.name} container')}",
                _start(spec, switch, missing),
                refresh=True,
                expect=lambda view: view.started(spec, missing, switch.project),
            )
        )
    if spec.replicas:
        steps.append(
            Gate(
                f"wait until {_count(spec.replicas, f'{spec.name} container')} of this release are healthy",
                spec,
                leaving,
            )
        )
    if spec.health.soak and missing:
        # What crashes without any request is found before there is one: nginx never repeats a write that was in hand.
        steps.append(Soak(f"watch {spec.name} for {spec.health.soak:g} s", spec, leaving))
    if proxy is not None and live:
        steps += _turn(spec, switch, proxy, started=missing, leaving=leaving)
    if live:
        steps.append(
            Act(
                f"stop {_count(live, f'old {spec.name} container')}",
                lambda view: (_stop(spec, _sides(spec, view, leaving)[1]),),
                refresh=True,
                expect=lambda view: view.without(_sides(spec, view, leaving)[1]),
            )
        )
    if proxy is not None:
        steps.append(Act(f"upstream of {spec.name} at rest", _rest(spec, switch, proxy, leaving)))
    return tuple(steps)


def rest_again(specs: Sequence[ServiceSpec], switch: Switch) -> tuple[Step, ...]:
    """Return the steps that write settled services' upstreams in the words of the nginx that comes."""
    assert switch.proxy is not None
    if not specs:
        return ()
    resting = (
        Act(f"upstream of {spec.name} at rest", _rest(spec, switch, switch.proxy, frozenset()))
        for spec in specs
    )
    return (_ask_version(switch, switch.proxy), *resting)


def _ask_version(switch: Switch, proxy: ProxySpec) -> Act:
    query = version_query(switch.project, proxy, renewed=switch.proxy_renewed)
    return Act("ask nginx for its version", lambda view: (query,), note=NGINX)


def _turn(
    spec: ServiceSpec, switch: Switch, proxy: ProxySpec, *, started: int, leaving: frozenset[str]
) -> list[Step]:
    """Turn the proxy from old to new in two reloads: right after one, nginx has not yet resolved a new name."""
    steps: list[Step] = []
    soak = spec.health.soak if started else 0.0
    if started:
        steps.append(
            Act(
                f"proxy: old and new {spec.name}",
                _write(spec, switch, proxy, leaving, lambda stay, go: (stay + go, ())),
            )
        )
        steps.append(Pause("let nginx resolve the new names", proxy.settle))
    title = (
        f"proxy: new {spec.name} only" if started else f"proxy: without the {spec.name} containers that go"
    )
    steps.append(
        Act(
            title,
            _write(spec, switch, proxy, leaving, lambda stay, go: (stay, go if soak else ())),
            note=WORKERS,
        )
    )
    if soak:
        steps.append(Soak(f"watch {spec.name} at work for {soak:g} s, the old in reserve", spec, leaving))
        steps.append(
            Act(
                f"proxy: without the old {spec.name}",
                _write(spec, switch, proxy, leaving, lambda stay, go: (stay, ())),
                note=WORKERS,
            )
        )
    steps.append(
        Drain(
            f"wait until requests to the old {spec.name} are done",
            workers_query(switch.project, proxy),
            WORKERS,
            spec.drain,
            lambda view: _connections(spec, _sides(spec, view, leaving)[1]),
        )
    )
    return steps


def _start(spec: ServiceSpec, switch: Switch, missing: int) -> Callable[[View], tuple[Command, ...]]:
    def commands(view: View) -> tuple[Command, ...]:
        total = len(view.of(spec.name)) + missing
        return (
            up(
                switch.layout,
                switch.release,
                [spec.name],
                scale={spec.name: total},
                recreate=False,
                timeout=switch.timeout,
            ),
        )

    return commands


def _sides(
    spec: ServiceSpec, view: View, leaving: frozenset[str]
) -> tuple[tuple[Container, ...], tuple[Container, ...]]:
    """Return the service's containers that stay and those that go, as the plan chose them."""
    present = view.of(spec.name)
    return tuple(c for c in present if c.id not in leaving), tuple(c for c in present if c.id in leaving)


def _write(
    spec: ServiceSpec,
    switch: Switch,
    proxy: ProxySpec,
    leaving: frozenset[str],
    choose: Callable[
        [tuple[Container, ...], tuple[Container, ...]], tuple[tuple[Container, ...], tuple[Container, ...]]
    ],
) -> Callable[[View], tuple[Command, ...]]:
    def commands(view: View) -> tuple[Command, ...]:
        stay, go = _sides(spec, view, leaving)
        servers, backups = choose(stay, tuple(c for c in go if c.running))
        resolve = _resolves(view)
        near = _networks(view, proxy)
        text = upstream_text(
            spec, _hosts(servers, resolve, near), backups=_hosts(backups, resolve, near), resolve=resolve
        )
        return (write_upstream(switch.layout, switch.project, proxy, spec.name, text),)

    return commands


def _rest(
    spec: ServiceSpec, switch: Switch, proxy: ProxySpec, leaving: frozenset[str]
) -> Callable[[View], tuple[Command, ...]]:
    def commands(view: View) -> tuple[Command, ...]:
        stay, _ = _sides(spec, view, leaving)
        text = resting_upstream(spec, [c.name for c in stay], resolve=_resolves(view))
        return (write_upstream(switch.layout, switch.project, proxy, spec.name, text),)

    return commands


def _resolves(view: View) -> bool:
    return parse_version(view.notes.get(NGINX, "")) >= RESOLVES_FROM


def _networks(view: View, proxy: ProxySpec) -> frozenset[str]:
    return frozenset(name for c in view.of(proxy.service) if c.running for name, _ in c.networks)


def _hosts(containers: tuple[Container, ...], resolve: bool, near: frozenset[str]) -> list[str]:
    """Return how the proxy reaches containers: by name, or by an address on a network that it is on too."""
    if resolve:
        return [c.name for c in containers]
    return [
        next((address for name, address in c.networks if name in near), c.addresses[0])
        for c in containers
        if c.addresses
    ]


def _stop(spec: ServiceSpec, containers: tuple[Container, ...]) -> Command:
    ids = [c.id for c in containers]
    listed = " ".join(quote(i) for i in ids)
    names = " ".join(c.name for c in containers)
    return Command(
        f"docker stop -t {int(spec.grace)} {listed} >/dev/null && docker rm -f -v {listed} >/dev/null"
        if ids
        else "true",
        changes=f"old containers of {spec.name}",
        timeout=spec.grace + 60,
        title=f"docker stop -t {int(spec.grace)} {names}; docker rm {names}",
    )


def _remove(containers: list[Container]) -> Command:
    return command("docker", "rm", "-f", "-v", *(c.id for c in containers), changes="stopped containers")


def _connections(spec: ServiceSpec, containers: tuple[Container, ...]) -> Command:
    """Return the command that counts the connections still open to containers: lines in state 01 of their tcp tables."""
    port = f"{spec.port or 0:04X}"
    return Command(
        f"for i in {' '.join(quote(c.id) for c in containers) or 'none'}; do "
        "p=$(docker inspect --format '{{.State.Pid}}' $i) && cat /proc/$p/net/tcp /proc/$p/net/tcp6 2>/dev/null; done | "
        f"awk '$2 ~ /:{port}$/ && $4 == \"01\"' | wc -l",
        title="count open connections",
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"

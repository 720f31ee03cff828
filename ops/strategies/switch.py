"""The plan of one server: which services change, in which order, by which strategy, and what people will notice."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

from ops.commands import Command, quote
from ops.engines.facts import Container
from ops.engines.nginx import apply_configuration, workers_query
from ops.engines.release import Release, ServiceSpec
from ops.strategies.context import Switch
from ops.strategies.recreate import recreate, settled
from ops.strategies.rolling import WORKERS, rest_again, roll
from ops.strategies.steps import Act, Drain, Step, View

__all__ = ["STRATEGIES", "Effect", "changed_services", "effects", "levels", "plan_switch", "removal"]

STRATEGIES: Mapping[str, Callable[[ServiceSpec, Switch, View], tuple[Step, ...]]] = {
    "recreate": lambda spec, switch, view: recreate([spec], switch),
    "rolling": roll,
}


@dataclass(frozen=True)
class Effect:
    """What a service lives through, in one line."""

    service: str
    text: str
    changes: bool


def levels(services: Mapping[str, ServiceSpec], last: str | None = None) -> tuple[tuple[str, ...], ...]:
    """Return service names in groups, each group after those that it depends on; `last` (the proxy) at the end."""
    waiting = {
        name: {other for other in spec.depends_on if other in services} for name, spec in services.items()
    }
    if last in waiting:
        waiting[last] |= {name for name in waiting if name != last and last not in services[name].depends_on}
    found: list[tuple[str, ...]] = []
    while waiting:
        ready = tuple(sorted(name for name, needs in waiting.items() if not needs & waiting.keys()))
        ready = ready or tuple(sorted(waiting))  # Compose refuses circles; should one come, all go at once
        found.append(ready)
        for name in ready:
            del waiting[name]
    return tuple(found)


def changed_services(release: Release, view: View) -> tuple[str, ...]:
    """Return the services whose containers are not as the release defines them."""
    return tuple(name for name, spec in release.services.items() if not settled(spec, view))


def plan_switch(
    release: Release,
    switch: Switch,
    view: View,
    *,
    only: Collection[str] | None = None,
    proxy_changed: bool = False,
) -> tuple[Step, ...]:
    """Given a release and what runs, return the steps that bring the server to it; none where nothing differs.

    `only` limits it to some services (those that a migration needs). With `proxy_changed` the proxy's folders are
    brought to the release's content, behind the services that it speaks of.
    """
    proxy = switch.proxy.service if switch.proxy else None
    rolling = tuple(name for name, spec in release.services.items() if spec.strategy == "rolling")
    renewed = proxy is not None and not settled(release.services[proxy], view)
    switch = replace(switch, proxy_renewed=renewed)
    first, last = _orphans(release, view, only)
    steps: list[Step] = []
    if first:
        steps.append(_away(first, switch, "stop"))
    for group in levels(release.services, last=proxy):
        names = [name for name in group if only is None or name in only]
        if proxy in names and proxy_changed:
            steps.append(
                Act(
                    "proxy configuration",
                    lambda view: (
                        apply_configuration(
                            switch.layout, switch.project, release, rolling, renewed=switch.proxy_renewed
                        ),
                    ),
                    note=WORKERS,
                )
            )
            if last and switch.proxy and not renewed:
                query = workers_query(switch.project, switch.proxy)
                deadline = max((spec.drain for spec in release.services.values()), default=0.0)
                went = ", ".join(sorted({c.service for c in last}))
                steps.append(
                    Drain(
                        f"wait until requests to {went} are done",
                        query,
                        WORKERS,
                        deadline,
                        lambda view: Command("true", title="the number of connections is not known"),
                    )
                )
        if proxy in names and renewed and view.of(proxy):
            services = (release.services[name] for name in rolling)
            steps += rest_again([spec for spec in services if settled(spec, view)], switch)
        wanted = [release.services[name] for name in names if not settled(release.services[name], view)]
        steps += recreate([spec for spec in wanted if spec.strategy == "recreate"], switch)
        for spec in wanted:
            if spec.strategy != "recreate":
                steps += STRATEGIES[spec.strategy](spec, switch, view)
    if last:
        steps.append(_away(last, switch, "remove"))
    return tuple(steps)


def _orphans(
    release: Release, view: View, only: Collection[str] | None = None
) -> tuple[tuple[Container, ...], tuple[Container, ...]]:
    """Return the containers of services that the release does not have: those that are in the way of one, and the rest.

    Two databases on one volume would destroy it, and a port is there once; what is in nobody's way serves to the end.
    """
    orphans = tuple(c for c in view.containers if c.service not in release.services)
    wanted = _wanted(release, view, only)
    rest = tuple(c for c in orphans if not c.holds & wanted)
    return tuple(c for c in orphans if c.holds & wanted), rest if only is None else ()


def _wanted(release: Release, view: View, only: Collection[str] | None = None) -> set[str]:
    """Return what services that are about to start will hold."""
    return {
        held
        for name, spec in release.services.items()
        if (only is None or name in only) and not settled(spec, view)
        for held in spec.holds
    }


def _away(containers: tuple[Container, ...], switch: Switch, word: str) -> Act:
    names = ", ".join(sorted({c.service for c in containers}))
    return Act(
        f"{word} {names}",
        lambda view: (removal(containers, switch.timeout),),
        refresh=True,
        expect=lambda view: view.without(containers),
    )


def removal(containers: tuple[Container, ...], timeout: float) -> Command:
    """Return the command that stops containers, each with its own grace period, and removes them; volumes stay."""
    ids = " ".join(quote(c.id) for c in containers)
    names = " ".join(c.name for c in containers)
    return Command(
        f"docker stop {ids} >/dev/null; docker rm -f {ids} >/dev/null",
        changes="containers",
        timeout=timeout,
        title=f"docker stop {names}; docker rm {names}",
    )


def effects(
    release: Release, switch: Switch, view: View, *, proxy_changed: bool = False
) -> tuple[Effect, ...]:
    """Return for each service what the switch means to those who use it."""
    found = []
    proxy = switch.proxy.service if switch.proxy else None
    for name, spec in release.services.items():
        if settled(spec, view):
            reloaded = name == proxy and proxy_changed
            found.append(
                Effect(
                    name, "reloaded: new configuration, nobody waits" if reloaded else "untouched", reloaded
                )
            )
            continue
        present = view.of(name)
        if not present:
            text = f"started: {spec.replicas} new" if spec.replicas > 1 else "started"
        elif name == proxy:
            text = "recreated: about 4 s without it"
        elif spec.strategy == "rolling":
            same = [c for c in present if c.config == spec.config]
            text = f"rolling: none without it, {len(present)} -> {spec.replicas}"
            if len(same) == len(present):
                text = f"scaled {len(present)} -> {spec.replicas}: nobody waits"
        else:
            text = "recreated: about 2 s without it"
        found.append(Effect(name, text, True))
    wanted = _wanted(release, view)
    for name in sorted({c.service for c in view.containers} - release.services.keys()):
        text = "removed: no longer in the compose files"
        if held := sorted({held for c in view.of(name) for held in c.holds & wanted}):
            text = f"stopped first, and removed: its {', '.join(held)} is wanted by another service"
        found.append(Effect(name, text, True))
    return tuple(found)

"""The plan of one server: which services change, in which order, by which strategy, and what people will notice."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

from ops.commands import Command, quote
from ops.engines.facts import Container
from ops.engines.nginx import apply_configuration, configuration_changed, rests, workers_query
from ops.engines.release import ProxySpec, Release, ServiceSpec, ended_well
from ops.strategies.context import Switch
from ops.strategies.recreate import recreate, settled, watched
from ops.strategies.rolling import WORKERS, rest_again, roll
from ops.strategies.steps import Act, Drain, Step, View

__all__ = ["STRATEGIES", "Effect", "effects", "levels", "plan_switch", "removal"]

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


def plan_switch(
    release: Release, switch: Switch, view: View, *, only: Collection[str] | None = None
) -> tuple[Step, ...]:
    """Given a release and what stands on a server, return the steps that bring it there; none where nothing differs.

    `only` limits it to some services (those that a migration needs). The proxy's folders are brought to the release's
    content behind the services that they speak of. What a run that died has started passes the gate that it had not.
    """
    proxy = switch.proxy.service if switch.proxy else None
    rolling = tuple(name for name, spec in release.services.items() if spec.strategy == "rolling")
    renewed = proxy is not None and _due(release.services[proxy], switch, view)
    switch = replace(switch, proxy_renewed=renewed)
    first, last = _orphans(release, switch, view, only)
    steps: list[Step] = []
    if jobs := _under_way(release, switch, view):
        steps.append(_halt(jobs, switch))
    if first:
        steps.append(_away(first, switch, "stop"))
    for group in levels(release.services, last=proxy):
        names = [name for name in group if only is None or name in only]
        if proxy in names:
            steps += rest_again(_restless(release, switch, view), switch)
            steps += _configure(release, switch, view, rolling, last)
        wanted = [release.services[name] for name in names if _due(release.services[name], switch, view)]
        steps += recreate([spec for spec in wanted if spec.strategy == "recreate"], switch)
        for spec in wanted:
            if spec.strategy != "recreate":
                steps += STRATEGIES[spec.strategy](spec, switch, view)
        steps += watched(
            [release.services[name] for name in names if _unproven(release.services[name], view)]
        )
    if last:
        steps.append(_away(last, switch, "remove"))
    return tuple(steps)


def _due(spec: ServiceSpec, switch: Switch, view: View) -> bool:
    """Return whether a service's containers have to be brought to its definition."""
    return not settled(spec, view) and (switch.jobs or not spec.once)


def _under_way(release: Release, switch: Switch, view: View) -> tuple[Container, ...]:
    """Return what still runs of other versions' jobs where none is to run: a way back leaves none at work."""
    return tuple(
        c
        for spec in release.services.values()
        if spec.once and not switch.jobs
        for c in view.of(spec.name)
        if c.config != spec.config and c.state in ("running", "restarting")
    )


def _halt(containers: tuple[Container, ...], switch: Switch) -> Act:
    """Their containers stay, as those of jobs that ended: what they wrote is there to be read."""
    ids = " ".join(quote(c.id) for c in containers)
    names = " ".join(c.name for c in containers)
    command = Command(
        f"docker update --restart=no {ids} >/dev/null; docker stop {ids} >/dev/null",
        changes="containers",
        timeout=switch.timeout,
        title=f"docker update --restart=no {names}; docker stop {names}",
    )
    went = ", ".join(sorted({c.service for c in containers}))
    return Act(f"stop {went}", lambda view: (command,), refresh=True)


def _unproven(spec: ServiceSpec, view: View) -> bool:
    """Return whether a service runs as defined, but by no release that served: a run died before its gate was passed."""
    if not settled(spec, view) or spec.name in view.passed:
        return False
    if all(ended_well(spec, c) for c in view.of(spec.name)):
        return False
    served = view.serving.services.get(spec.name) if view.serving else None
    return served is None or served.config != spec.config


def _restless(release: Release, switch: Switch, view: View) -> list[ServiceSpec]:
    """Return the rolling services that stay as they are, and whose upstream does not: the nginx that comes may want
    other words, a run died between two of them, or ops.toml names another port or balance.
    """
    assert switch.proxy is not None
    renewed = switch.proxy_renewed and bool(view.of(switch.proxy.service))
    return [
        spec
        for spec in release.services.values()
        if spec.strategy == "rolling"
        and not _due(spec, switch, view)
        and (renewed or not _rests(spec, switch.proxy, view))
    ]


def _rests(spec: ServiceSpec, proxy: ProxySpec, view: View) -> bool:
    return view.content is None or rests(spec, [c.name for c in view.of(spec.name)], proxy, view.content)


def _configure(
    release: Release, switch: Switch, view: View, rolling: tuple[str, ...], last: tuple[Container, ...]
) -> list[Step]:
    """Return the steps that bring the proxy's folders to the release's content; none where they have it."""
    assert switch.proxy is not None
    if not _reconfigured(release, view):
        return []
    command = apply_configuration(
        switch.layout, switch.project, release, rolling, renewed=switch.proxy_renewed
    )
    steps: list[Step] = [Act("proxy configuration", lambda view: (command,), note=WORKERS)]
    if last and not switch.proxy_renewed:
        went = ", ".join(sorted({c.service for c in last}))
        steps.append(
            Drain(
                f"wait until requests to {went} are done",
                workers_query(switch.project, switch.proxy),
                WORKERS,
                max((spec.drain for spec in release.services.values()), default=0.0),
                lambda view: Command("true", title="the number of connections is not known"),
            )
        )
    return steps


def _reconfigured(release: Release, view: View) -> bool:
    return view.content is not None and configuration_changed(release, view.content)


def _orphans(
    release: Release, switch: Switch, view: View, only: Collection[str] | None = None
) -> tuple[tuple[Container, ...], tuple[Container, ...]]:
    """Return the containers of services that the release does not have: those that are in the way of one, and the rest.

    Two databases on one volume would destroy it, and a port is there once; what is in nobody's way serves to the end.
    """
    orphans = tuple(c for c in view.containers if c.service not in release.services)
    wanted = _wanted(release, switch, view, only)
    rest = tuple(c for c in orphans if not c.holds & wanted)
    return tuple(c for c in orphans if c.holds & wanted), rest if only is None else ()


def _wanted(release: Release, switch: Switch, view: View, only: Collection[str] | None = None) -> set[str]:
    """Return what services that are about to start will hold for themselves alone."""
    return {
        held
        for name, spec in release.services.items()
        if (only is None or name in only) and _due(spec, switch, view)
        for held in spec.holds
        # Containers that run side by side share their folders, with each other and with those before them.
        if not (held.startswith("path ") and (spec.strategy == "rolling" or spec.replicas > 1))
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


def effects(release: Release, switch: Switch, view: View) -> tuple[Effect, ...]:
    """Return for each service what the switch means to those who use it."""
    found = []
    proxy = switch.proxy.service if switch.proxy else None
    for name, spec in release.services.items():
        if not _due(spec, switch, view):
            if name == proxy and _reconfigured(release, view):
                found.append(Effect(name, "reloaded: new configuration, nobody waits", True))
            elif _unproven(spec, view):
                found.append(Effect(name, "untouched: started by a run that died, to pass its gate", False))
            else:
                found.append(Effect(name, "untouched", False))
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
    wanted = _wanted(release, switch, view)
    for name in sorted({c.service for c in view.containers} - release.services.keys()):
        text = "removed: no longer in the compose files"
        if held := sorted({held for c in view.of(name) for held in c.holds & wanted}):
            text = f"stopped first, and removed: its {', '.join(held)} is wanted by another service"
        found.append(Effect(name, text, True))
    return tuple(found)

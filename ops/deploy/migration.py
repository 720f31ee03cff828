"""`[migrate]`: once for the fleet, in a container of the new version, before any server is switched."""

from __future__ import annotations

from ops.deploy.rollout import Rollout
from ops.deploy.survey import current_release
from ops.engines.compose import one_off
from ops.engines.facts import Container
from ops.engines.release import ServiceSpec, ended_well
from ops.errors import Locked, NeedsPerson, OpsError
from ops.hosts import Host
from ops.hosts.fleet import each, together
from ops.runs.execute import execute
from ops.runs.releases import switch_for
from ops.strategies.steps import View
from ops.strategies.switch import plan_switch

__all__ = ["migrate"]


def migrate(rollout: Rollout) -> None:
    """Run the migration to its end; a signal in between is put off until then.

    Before a first deploy nothing runs that it could talk to, so the services that it depends on are started where
    they are absent or stopped. Raises NeedsPerson when it fails: the old version serves, the schema may be half changed.
    """
    run, config = rollout.run, rollout.settings.config.migrate
    assert config is not None
    place = next(name for name, release in rollout.releases.items() if config.service in release.services)
    _start_support(rollout, config.service)
    run.reporter.step(place, f"migrate: {' '.join(config.command)}")
    release = rollout.releases[place].id
    command = one_off(
        run.layout, release, config.service, config.command, run_id=run.run_id, timeout=config.timeout
    )
    try:
        with run.interruption.deferred():
            result = run.hosts[place].run(command)
    except Locked:
        raise
    except OpsError as error:  # it took too long and was ended there, or the server was lost with it
        raise _failed(rollout, place, f"the migration did not come to its end: {error.message}") from error
    run.log.write(f"$ {command.shown}\n{result.stdout}{result.stderr}", place)
    if not result.ok:
        raise _failed(
            rollout, place, f"the migration failed with status {result.status}: {result.last_lines}"
        )
    run.migrated = True
    run.interruption.cancellation.check()


def _failed(rollout: Rollout, place: str, message: str) -> NeedsPerson:
    serves = "the old version serves on" if any(rollout.came_from.values()) else "no version serves yet"
    return NeedsPerson(
        message,
        target=place,
        left_behind=f"{serves}; the database schema may be half changed",
        next_step="read the migration's output in the log, mend it, and deploy again",
    )


def _there(spec: ServiceSpec, container: Container) -> bool:
    """Return whether the migration can count on a container: it runs, or, where it runs once, has ended well."""
    if spec.once and container.config == spec.config:
        return ended_well(spec, container)
    return container.running


def _start_support(rollout: Rollout, service: str) -> None:
    needed: set[str] = set()
    waiting = [service]
    while waiting:
        name = waiting.pop()
        for release in rollout.releases.values():
            if name in release.services:
                fresh = set(release.services[name].depends_on) - needed
                needed |= fresh
                waiting += fresh
    absent: dict[str, list[str]] = {}
    for name, release in rollout.releases.items():
        view = View(rollout.surveys[name].facts.containers)
        services = [
            other
            for other in needed
            if other in release.services
            and not any(_there(release.services[other], c) for c in view.of(other))
        ]
        if services:
            absent[name] = services

    def start(host: Host) -> None:
        name = host.name
        release, found = rollout.releases[name], rollout.surveys[name]
        view = View(found.facts.containers, serving=current_release(found))
        steps = plan_switch(release, switch_for(rollout.settings, release), view, only=absent[name])
        rollout.touch(name)
        execute(steps, host, view, rollout.run.bench)
        rollout.passed[name] = frozenset(absent[name])

    together(each({name: host for name, host in rollout.run.hosts.items() if name in absent}, start))

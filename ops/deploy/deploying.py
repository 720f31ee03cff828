"""A deploy from the first question to the last journal line; docs/architecture.md tells the order and its reasons."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial

from ops.config import Settings, Version
from ops.config.servers import state_host_of
from ops.deploy.bundle import describe, new_release_id, upload
from ops.deploy.examine import Examined, base_release, examine
from ops.deploy.images import pull_pins, resolve, served_pins
from ops.deploy.migration import migrate
from ops.deploy.planning import DeployPlan, batches, desires, plan_deploy, secret_values, wishes
from ops.deploy.preflight import warnings
from ops.deploy.rollout import Rollout
from ops.deploy.survey import Survey, view_of
from ops.deploy.undoing import undo
from ops.deploy.wayback import earlier
from ops.engines.release import Release
from ops.errors import FailedUnchanged
from ops.hosts import Host
from ops.hosts.fleet import each, together
from ops.outcomes import Outcome, Target
from ops.runs.acquiring import correct_holder, ended_in_between, take_lock
from ops.runs.during import during
from ops.runs.hooks import hooked
from ops.runs.interruption import Interruption
from ops.runs.lock import Holder
from ops.runs.phases import Phase
from ops.runs.releases import switch_for
from ops.runs.reporting import Reporter
from ops.runs.run import Run, operator, running
from ops.strategies.switch import plan_switch

__all__ = ["DeployOptions", "Seams", "deploy", "plan"]


@dataclass(frozen=True)
class DeployOptions:
    """How a deploy is asked for. `servers` limits it, `wait` is seconds for a lock that another holds."""

    resume: bool = False
    servers: tuple[str, ...] = ()
    wait: float = 0.0
    state_host: str | None = None


def _no_images(hosts: Mapping[str, Host]) -> AbstractContextManager[None]:
    return nullcontext()


@dataclass(frozen=True)
class Seams:
    """What other features bring to a deploy: a backup before it, and a way for servers to reach local images."""

    backup: Callable[[], str] | None = None
    serve_images: Callable[[Mapping[str, Host]], AbstractContextManager[None]] = _no_images


def plan(
    settings: Settings, hosts: Mapping[str, Host], version: Version, servers: tuple[str, ...] = ()
) -> DeployPlan:
    """Return what a deploy would do; raises what the deploy would be refused for. Changes nothing."""
    found = examine(settings, hosts, version, servers)
    base = base_release(settings, version, "plan", "plan")
    pulls = [
        wish.reference
        for wish in wishes(settings, found.surveys, version.version)
        if wish.reference not in found.pins
    ]
    told = [*settings.warnings, *warnings(settings, found.surveys, found.wanted, time.time())]
    # No registry is asked: a tag that serves already is taken to be what it was.
    pins = {**served_pins(found.asked), **found.pins}
    wanted = desires(settings, found.surveys, version.version, pins)
    return plan_deploy(settings, found.surveys, wanted, base, pulls, told)


def deploy(
    settings: Settings,
    hosts: Mapping[str, Host],
    version: Version,
    options: DeployOptions,
    reporter: Reporter,
    interruption: Interruption,
    seams: Seams | None = None,
) -> Outcome:
    """Deploy a version and return what came of it.

    Raises FailedUnchanged, ConfigError, Locked or Unreachable when nothing was changed, RolledBack when all touched
    servers are back on their own releases, NeedsPerson when a person has to look, Interrupted after a signal.
    """
    state = state_host_of(settings, options.state_host)
    with running(settings, "deploy", hosts, state, reporter, interruption) as run:
        run.version = version.version
        rollout = Rollout(settings, run, revision=version.revision)
        try:
            event = _through_the_phases(rollout, version, options, seams or Seams())
        except Exception as error:  # a fault of Opsbook's own leaves no server between two releases either
            raise undo(rollout, error) from error
        return rollout.finish(event)


def _through_the_phases(rollout: Rollout, version: Version, options: DeployOptions, seams: Seams) -> str:
    """Run all phases; return the journal's word for the end."""
    run, settings = rollout.run, rollout.settings
    with during(run, Phase.CHECK):
        found = examine(settings, run.reach, version, options.servers)
        rollout.surveys = found.surveys
        leaks = (text for goal in found.wanted.values() for text in goal.warnings)
        told = warnings(settings, found.surveys, found.wanted, time.time())
        for text in dict.fromkeys([*settings.warnings, *told, *leaks]):
            run.warn(text)
    with during(run, Phase.LOCK):
        found = _take_lock(rollout, found, version, options)
    with during(run, Phase.FETCH), seams.serve_images(run.hosts):
        found = _fetch(rollout, found, version)
    if _nothing_to_do(rollout):
        return "unchanged"
    with during(run, Phase.UPLOAD):
        _upload(rollout, found)
    # Here the checks end and the changes begin.
    if settings.config.backup_before_deploy or hooked(settings.config, Phase.BACKUP):
        with during(run, Phase.BACKUP):
            if settings.config.backup_before_deploy:
                run.log.write(_backup(seams))
    with _no_backup_beside(run, options.wait):
        if settings.config.migrate is not None or hooked(settings.config, Phase.MIGRATE):
            with during(run, Phase.MIGRATE):
                if settings.config.migrate is not None:
                    migrate(rollout)
        with during(run, Phase.SWITCH):
            services = {name: tuple(goal.services) for name, goal in found.wanted.items()}
            rollout.switch(batches(settings, services, found.wanted))
        with during(run, Phase.SMOKE):
            rollout.smoke()
        with during(run, Phase.COMMIT):
            rollout.commit()
    return "done"


def _backup(seams: Seams) -> str:
    if seams.backup is None:
        raise FailedUnchanged("backup_before_deploy is set, and this stack has no backup configured")
    return seams.backup()


def _no_backup_beside(run: Run, wait: float) -> AbstractContextManager[None]:
    """Where ops.toml wants that, hold the lock of backups to the end of the block; raises Locked while one is taken."""
    settings = run.settings
    if settings.config.backup.beside_deploy or not settings.config.datastores.every:
        return nullcontext()
    from ops.datastores import configured
    from ops.runs.lease import leased_by

    servers = {store.server for store in configured(settings, run.layout).values()}
    lost = partial(run.warn, "the lock of backups was lost: one may be at work beside this deploy")
    return leased_by(run, servers & set(run.reach), wait, lost)


def _take_lock(rollout: Rollout, found: Examined, version: Version, options: DeployOptions) -> Examined:
    run = rollout.run
    state = found.asked.get(run.state_host)
    dead = Holder.from_json(state.facts.holder) if state and options.resume else None
    begun = _unfinished(found.surveys, dead) if options.resume else None
    run.release = new_release_id(version.version)
    if begun is not None and begun.version == version.version and begun.release:
        run.release = begun.release
    rollout.came_from = _came_from(found.surveys, dead, run.release)
    holder = Holder(
        run.run_id, run.action, operator(), run.started_at, version.version, run.release, rollout.came_from
    )
    floor = max((survey.facts.fence_token for survey in found.asked.values()), default=0)
    take_over = (dead.run_id if dead else "") if options.resume else None
    token = take_lock(run, holder, floor=floor, take_over=take_over, wait=options.wait)
    seen = state is not None and state.facts.heartbeat_age is not None
    between = token > floor + 1 or (seen and not run.took_over)
    if between and not options.wait:
        raise ended_in_between()
    if between or run.took_over:
        # What another run did after the questions is not known yet: a run that ended, or the last command of a dead one.
        found = examine(rollout.settings, run.reach, version, options.servers)
        rollout.came_from = _came_from(found.surveys, dead, run.release)
        correct_holder(run, replace(holder, previous=rollout.came_from))
    rollout.surveys = found.surveys
    return found


def _came_from(surveys: Mapping[str, Survey], dead: Holder | None, release: str) -> dict[str, str | None]:
    """Return where each server goes back to: what it serves; after a run that died, what it served before that."""
    current = {name: survey.facts.current for name, survey in surveys.items()}
    if dead is not None:
        return {name: dead.previous.get(name, serving) for name, serving in current.items()}
    for name, survey in surveys.items():
        own = survey.release(release) if current[name] == release else None
        if own is not None:  # this server had come to the end
            current[name] = own.previous
    return current


def _unfinished(surveys: Mapping[str, Survey], dead: Holder | None) -> Holder | None:
    """Return what --resume goes on with: the deploy whose lock is there, else the newest release that some servers serve."""
    if dead is not None:
        return dead if dead.action == "deploy" else None
    if len({survey.facts.current for survey in surveys.values()}) == 1:
        return None
    newest = max((survey.facts.current for survey in surveys.values() if survey.facts.current), default=None)
    if newest is None:
        return None
    release = next(r for survey in surveys.values() if (r := survey.release(newest)) is not None)
    return Holder(release.run_id, "deploy", "", release.created, release.version, release.id)


def _fetch(rollout: Rollout, found: Examined, version: Version) -> Examined:
    """Resolve and pull all images, and make the release records."""
    run, settings = rollout.run, rollout.settings
    needed = wishes(settings, found.surveys, version.version)
    pins = resolve(needed, found.pins, found.surveys, run.hosts, settings)
    per_server = {
        name: {wish.reference: pins[wish.reference] for wish in needed if name in wish.servers}
        for name in found.surveys
    }
    pull_pins(per_server, found.surveys, run.hosts, settings)
    wanted = found.wanted if pins == found.pins else desires(settings, found.surveys, version.version, pins)
    assert run.release is not None
    base = base_release(settings, version, run.release, run.run_id)
    rollout.releases = {
        name: replace(
            describe(goal, run.layout, base),
            previous=rollout.came_from.get(name),
            adopted=_adopted(rollout, name, found),
            migrated=settings.config.migrate is not None,
        )
        for name, goal in wanted.items()
    }
    return Examined(found.surveys, wanted, pins)


def _adopted(rollout: Rollout, name: str, found: Examined) -> tuple[str, ...]:
    before = earlier(found.surveys[name].facts) if rollout.came_from.get(name) is None else None
    return before.names if before else ()


def _nothing_to_do(rollout: Rollout) -> bool:
    """Same version, same content, everything running, one release everywhere."""
    serving = set()
    for name, release in rollout.releases.items():
        facts = rollout.surveys[name].facts
        current = rollout.surveys[name].release(facts.current) if facts.current else None
        if current is None or not _same(current, release):
            return False
        if plan_switch(release, switch_for(rollout.settings, release), view_of(rollout.surveys[name])):
            return False
        serving.add(current.id)
    if len(serving) != 1:
        return False
    rollout.run.release = serving.pop()
    for name in rollout.releases:
        rollout.results[name] = Target("host", "unchanged", rollout.run.release, rollout.run.release)
    return True


def _same(current: Release, release: Release) -> bool:
    return (
        current.version == release.version
        and current.services == release.services
        and current.proxy_folders == release.proxy_folders
        and not current.scale
    )


def _upload(rollout: Rollout, found: Examined) -> None:
    run = rollout.run
    secrets = secret_values(rollout.settings)

    def write(host: Host) -> None:
        name = host.name
        command = upload(
            rollout.releases[name], found.wanted[name], run.layout, found.surveys[name].facts, secrets
        )
        run.reporter.step(name, "upload the release")
        run.log.write(command.shown, name)
        result = host.run(command)
        if not result.ok:
            full = "no space left" in result.last_lines.lower()
            raise FailedUnchanged(
                f"{'disk full' if full else 'the release could not be written'}: {result.last_lines}",
                target=name,
                next_step=f"make room on {name}: docker system df; docker image prune"
                if full
                else "inv servers.check",
            )

    rollout.uploaded = set(rollout.releases)
    together(each({name: run.hosts[name] for name in rollout.releases}, write))

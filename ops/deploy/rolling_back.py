"""Rollback: every server back to an earlier release of its own, old files and images, today's secrets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ops.commands import Command, quote
from ops.config import Settings
from ops.config.dotenv import compose_form
from ops.deploy.examine import chosen_servers, state_host_of
from ops.deploy.images import pull_pins
from ops.deploy.planning import batches, secret_values
from ops.deploy.rollout import Rollout
from ops.deploy.survey import Survey, current_release, survey
from ops.deploy.undoing import undo
from ops.deploy.wayback import go_back, strangers
from ops.engines.compose import dotenv_values
from ops.engines.layout import Layout
from ops.engines.release import Release
from ops.engines.rendering import tarball
from ops.errors import ConfigError, OpsError, UsageError, gathered
from ops.gates.smoke import untrusted
from ops.hosts import Host
from ops.hosts.fleet import each, together
from ops.outcomes import Outcome, Target
from ops.runs.acquiring import correct_holder, ended_in_between, take_lock
from ops.runs.during import during
from ops.runs.interruption import Interruption
from ops.runs.lock import Holder
from ops.runs.phases import Phase
from ops.runs.reporting import Reporter
from ops.runs.run import operator, running

__all__ = ["RollbackOptions", "RollbackPlan", "rollback", "rollback_plan"]


@dataclass(frozen=True)
class RollbackOptions:
    """How a rollback is asked for; `to` is a release id, `release_secrets` keeps the release's own secret values.

    `confirmed` is the plan that somebody has agreed to: another one is not carried out.
    """

    to: str | None = None
    release_secrets: bool = False
    servers: tuple[str, ...] = ()
    wait: float = 0.0
    state_host: str | None = None
    confirmed: RollbackPlan | None = None


@dataclass(frozen=True)
class RollbackPlan:
    """Where each server would go back to (None: to before its first release), and the releases since that migrated."""

    targets: Mapping[str, str | None]
    serving: Mapping[str, str | None]
    migrated_since: tuple[str, ...]
    died: Holder | None = None

    def same(self, other: RollbackPlan) -> bool:
        """Return whether both lead from the same releases to the same, past the same migrations."""
        return (self.targets, self.serving, self.migrated_since) == (
            other.targets,
            other.serving,
            other.migrated_since,
        )


def rollback_plan(settings: Settings, hosts: Mapping[str, Host], options: RollbackOptions) -> RollbackPlan:
    """Return what a rollback would do. Raises UsageError when there is nothing to go back to."""
    surveys, state = _surveys(settings, hosts, options)
    return _plan(settings, surveys, options, Holder.from_json(state.facts.holder) if state else None)


def rollback(
    settings: Settings,
    hosts: Mapping[str, Host],
    options: RollbackOptions,
    reporter: Reporter,
    interruption: Interruption,
) -> Outcome:
    """Bring all servers to an earlier release and return what came of it.

    After a run that died it takes its lock over (once its heartbeat is stale) and goes to the releases from before
    it. It never migrates down. Raises as `deploy` does; when the way there fails, the servers return to what served.
    """
    state = state_host_of(settings, options.state_host)
    with running(settings, "deploy.rollback", hosts, state, reporter, interruption) as run:
        own = " --secrets-of-release" if options.release_secrets else ""
        rollout = Rollout(settings, run, again=f"inv deploy.rollback{own}")
        try:
            event = _through_the_phases(rollout, options)
        except Exception as error:  # a fault of Opsbook's own leaves no server between two releases either
            raise undo(rollout, error) from error
        return rollout.finish(event)


def _surveys(
    settings: Settings, hosts: Mapping[str, Host], options: RollbackOptions
) -> tuple[dict[str, Survey], Survey | None]:
    """Ask the servers; return what those say that the rollback is for, and what the state host says."""
    found, unreachable = survey(settings, hosts, None)
    chosen = chosen_servers(settings, options.servers)
    problems = [error for name, error in unreachable.items() if name in chosen]
    if problems:
        raise gathered(problems)
    state = found.get(state_host_of(settings, options.state_host))
    return {name: found[name] for name in chosen}, state


def _plan(
    settings: Settings, surveys: Mapping[str, Survey], options: RollbackOptions, died: Holder | None
) -> RollbackPlan:
    serving = {name: survey.facts.current for name, survey in surveys.items()}
    newest = max((release for release in serving.values() if release), default=None)
    half_switched = any(_half_switched(found) for found in surveys.values())
    targets: dict[str, str | None] = {}
    problems: list[OpsError] = []
    for name, found in surveys.items():
        target: str | None
        current = current_release(found)
        if options.to is not None:
            target = options.to
        elif died is not None and died.previous:
            target = died.previous.get(name, serving[name])
        elif died is not None or half_switched:
            target = serving[name]
        elif current is not None and current.id != newest:
            target = current.id  # the newest release never came to this server
        else:
            target = current.previous if current else None
            if target is None:
                problems.append(UsageError("there is no earlier release to go back to", target=name))
                continue
        if target is not None and target not in found.facts.releases:
            known = ", ".join(sorted(found.facts.releases, reverse=True)) or "none"
            problems.append(UsageError(f"release {target} is not kept here; kept: {known}", target=name))
            continue
        targets[name] = target
    if problems:
        for problem in problems:
            problem.next_step = _without(settings, options, tuple(targets)) if targets and not died else None
            problem.next_step = problem.next_step or f"inv deploy.history {settings.options}"
        raise gathered(problems)
    since = {
        release.id
        for name, found in surveys.items()
        for release in map(Release.from_json, found.facts.releases.values())
        if release.migrated and release.id > (targets[name] or "") and release.id <= (serving[name] or "")
    }
    return RollbackPlan(targets, serving, tuple(sorted(since)), died)


def _without(settings: Settings, options: RollbackOptions, servers: tuple[str, ...]) -> str:
    """Return the command that leaves out the servers which cannot go back: those that are new, for one."""
    words = [f"inv deploy.rollback {settings.options} --servers {','.join(servers)}"]
    words += [f"--to {options.to}"] if options.to else []
    words += ["--secrets-of-release"] if options.release_secrets else []
    return f"{' '.join(words)}   goes back on those that can"


def _half_switched(found: Survey) -> bool:
    """Return whether containers of another release run: a run died in its switch, and somebody removed its lock."""
    current = current_release(found)
    return current is not None and any(
        c.running and c.config != current.services[c.service].config
        for c in found.facts.containers
        if c.config and c.service in current.services
    )


def _through_the_phases(rollout: Rollout, options: RollbackOptions) -> str:
    run, settings = rollout.run, rollout.settings
    with during(run, Phase.CHECK):
        if faults := untrusted(settings):
            raise gathered(faults)
        rollout.surveys, state = _surveys(settings, run.reach, options)
        died = Holder.from_json(state.facts.holder) if state else None
        goal = _agreed(_plan(settings, rollout.surveys, options, died), options)
    with during(run, Phase.LOCK):
        newest = max((target for target in goal.targets.values() if target), default=None)
        run.release = newest
        holder = Holder(run.run_id, run.action, operator(), run.started_at, None, newest, goal.targets)
        asked = [*rollout.surveys.values(), *([state] if state else [])]
        floor = max((found.facts.fence_token for found in asked), default=0)
        take_over = goal.died.run_id if goal.died else ""
        token = take_lock(run, holder, floor=floor, take_over=take_over, wait=options.wait)
        between = token > floor + 1 or (died is not None and not run.took_over)
        if between and not options.wait:
            raise ended_in_between()
        if between or run.took_over:
            rollout.surveys, _ = _surveys(settings, run.reach, options)
            goal = _agreed(
                _plan(settings, rollout.surveys, options, died if run.took_over else None), options
            )
            correct_holder(run, replace(holder, previous=goal.targets))
        # Should the way back from a dead run fail, there is no other place to go back to.
        rollout.came_from = goal.targets if run.took_over else goal.serving
    emptied = [name for name, target in goal.targets.items() if target is None]
    secrets = secret_values(settings)
    releases = _own_records(rollout, goal.targets) if options.release_secrets else {}
    for name, target in goal.targets.items() if not options.release_secrets else ():
        release = rollout.surveys[name].release(target) if target else None
        if release is not None:
            missing = sorted(
                {s for spec in release.services.values() for s in spec.secrets if not secrets.get(s)}
            )
            if missing:
                raise ConfigError(f"release {target} needs the secret {missing[0]}, which has no value today")
            releases[name] = release.with_secrets(secrets)
    # What `stack.scale` had set lasted until the deploy behind it.
    rollout.releases = releases = {name: replace(release, scale={}) for name, release in releases.items()}
    run.version = next((release.version for release in releases.values()), None)
    with during(run, Phase.FETCH):
        # They are kept for this, but somebody may have removed them (`docker system prune -a`).
        pins = {
            name: {spec.image: spec.pin for spec in release.services.values()}
            for name, release in releases.items()
        }
        pull_pins(pins, rollout.surveys, run.hosts, settings)
    with during(run, Phase.UPLOAD):

        def write(host: Host) -> None:
            name = host.name
            used = {s: secrets.get(s, "") for spec in releases[name].services.values() for s in spec.secrets}
            text = compose_form(dotenv_values(releases[name], used))
            result = host.run(_write_values(run.layout, releases[name], text, own=options.release_secrets))
            if not result.ok:
                raise OpsError(f"the release's values could not be written: {result.last_lines}", target=name)

        together(each({name: run.hosts[name] for name in releases}, write))
    with during(run, Phase.SWITCH):
        _empty(rollout, emptied)
        services = {name: tuple(release.services) for name, release in releases.items()}
        rollout.switch(batches(settings, services, releases))
    with during(run, Phase.SMOKE):
        rollout.smoke()
    with during(run, Phase.COMMIT):
        rollout.commit()
    changed = any(result.result == "changed" for result in rollout.results.values())
    moved = any(goal.serving[name] != goal.targets[name] for name in goal.targets)
    return "done" if changed or moved else "unchanged"


def _agreed(goal: RollbackPlan, options: RollbackOptions) -> RollbackPlan:
    """Return the plan that was confirmed; raises Locked where a colleague's run has made another of it since."""
    if options.confirmed is not None and not goal.same(options.confirmed):
        raise ended_in_between("inv deploy.status, then run this again and look at its plan")
    return goal


def _write_values(layout: Layout, release: Release, text: str, *, own: bool) -> Command:
    """Today's values go into `.env`, their hashes into release.json; its own stay beside them for --secrets-of-release."""
    folder = quote(layout.release(release.id))
    record = (".json.next", release.to_json().encode(), 0o644)
    if own:
        files = [record]
        values = "{ [ ! -e .env.release ] || { cp -p .env.release .env.next && mv -f .env.next .env; }; }"
    else:
        files = [record, (".env.next", text.encode(), 0o600)]
        values = "mv -f .env.next .env"
    script = (
        f"umask 077; cd {folder} && "
        # A copy that a full disk cuts off must not bear the name by which the next rollback takes it for whole.
        "{ [ -e .env.release ] || { cp -p release.json .release.json && "
        "cp -p .env .env.release.next && mv -f .env.release.next .env.release; }; } && "
        f"tar -xpf - && {values} && mv -f .json.next release.json"
    )
    return Command(
        script,
        stdin=tarball(files),
        changes=f"values of release {release.id}",
        title="write .env, release.json",
    )


def _own_records(rollout: Rollout, targets: Mapping[str, str | None]) -> dict[str, Release]:
    """Return the releases with the hashes of their own secret values: release.json may have today's by now."""
    layout = rollout.run.layout

    def read(host: Host) -> Release:
        folder = quote(layout.release(targets[host.name] or ""))
        script = f"cd {folder} && {{ cat .release.json 2>/dev/null || cat release.json; }}"
        return Release.from_json(host.run(Command(script, title="read the release's own record")).stdout)

    return together(each({name: rollout.run.hosts[name] for name, target in targets.items() if target}, read))


def _empty(rollout: Rollout, names: list[str]) -> None:
    """Servers that had nothing before the run that died: its containers go, volumes stay."""

    def empty(host: Host) -> None:
        name = host.name
        rollout.touch(name)
        theirs = strangers(rollout.surveys[name].facts)
        go_back(rollout.settings, host, None, rollout.run.bench, unmanaged=theirs)
        rollout.results[name] = Target("host", "changed", rollout.came_from.get(name), None)

    together(each({name: rollout.run.hosts[name] for name in names}, empty))

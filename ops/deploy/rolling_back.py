"""Rollback: every server back to an earlier release of its own, old files and images, today's secrets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ops.commands import Command, quote
from ops.config import Settings
from ops.config.dotenv import compose_form
from ops.config.servers import state_host_of
from ops.deploy.images import pull_pins
from ops.deploy.planning import batches, secret_values
from ops.deploy.rollback_plan import RollbackOptions, RollbackPlan, agreed, asked, planned
from ops.deploy.rollout import Rollout
from ops.deploy.undoing import undo
from ops.deploy.wayback import earlier, go_back
from ops.engines.compose import dotenv_values
from ops.engines.layout import Layout
from ops.engines.release import Release
from ops.engines.rendering import tarball
from ops.errors import ConfigError, OpsError, gathered
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

__all__ = ["rollback"]


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


def _through_the_phases(rollout: Rollout, options: RollbackOptions) -> str:
    run, settings = rollout.run, rollout.settings
    goal = _locked(rollout, options)
    # What `stack.scale` had set lasted until the deploy behind it.
    releases = {
        name: replace(release, scale={}) for name, release in _releases(rollout, goal, options).items()
    }
    rollout.releases = releases
    run.version = next((release.version for release in releases.values()), None)
    with during(run, Phase.FETCH):
        # They are kept for this, but somebody may have removed them (`docker system prune -a`).
        pins = {
            name: {spec.image: spec.pin for spec in release.services.values()}
            for name, release in releases.items()
        }
        pull_pins(pins, rollout.surveys, run.hosts, settings)
    with during(run, Phase.UPLOAD):
        _write_values(rollout, own=options.release_secrets)
    with during(run, Phase.SWITCH):
        _empty(rollout, [name for name, target in goal.targets.items() if target is None])
        services = {name: tuple(release.services) for name, release in releases.items()}
        rollout.switch(batches(settings, services, releases))
    with during(run, Phase.SMOKE):
        rollout.smoke()
    with during(run, Phase.COMMIT):
        rollout.commit()
    changed = any(result.result == "changed" for result in rollout.results.values())
    moved = any(goal.serving[name] != goal.targets[name] for name in goal.targets)
    return "done" if changed or moved else "unchanged"


def _locked(rollout: Rollout, options: RollbackOptions) -> RollbackPlan:
    """Take the lock, that of a run that died if need be, and return where each server goes back to."""
    run, settings = rollout.run, rollout.settings
    with during(run, Phase.CHECK):
        if faults := untrusted(settings):
            raise gathered(faults)
        rollout.surveys, state = asked(settings, run.reach, options)
        died = Holder.from_json(state.facts.holder) if state else None
        goal = agreed(planned(settings, rollout.surveys, options, died), options)
    with during(run, Phase.LOCK):
        run.release = max((target for target in goal.targets.values() if target), default=None)
        holder = Holder(run.run_id, run.action, operator(), run.started_at, None, run.release, goal.targets)
        answered = [*rollout.surveys.values(), *([state] if state else [])]
        floor = max((found.facts.fence_token for found in answered), default=0)
        take_over = goal.died.run_id if goal.died else ""
        token = take_lock(run, holder, floor=floor, take_over=take_over, wait=options.wait)
        between = token > floor + 1 or (died is not None and not run.took_over)
        if between and not options.wait:
            raise ended_in_between()
        if between or run.took_over:
            rollout.surveys, _ = asked(settings, run.reach, options)
            goal = agreed(
                planned(settings, rollout.surveys, options, died if run.took_over else None), options
            )
            correct_holder(run, replace(holder, previous=goal.targets))
        # Should the way back from a dead run fail, there is no other place to go back to.
        rollout.came_from = goal.targets if run.took_over else goal.serving
    return goal


def _releases(rollout: Rollout, goal: RollbackPlan, options: RollbackOptions) -> dict[str, Release]:
    """Return each server's release with today's secrets, or as it was recorded with its own."""
    if options.release_secrets:
        return _own_records(rollout, goal.targets)
    secrets = secret_values(rollout.settings)
    found = {}
    for name, target in goal.targets.items():
        release = rollout.surveys[name].release(target) if target else None
        if release is None:
            continue
        needed = {secret for spec in release.services.values() for secret in spec.secrets}
        if missing := sorted(secret for secret in needed if not secrets.get(secret)):
            raise ConfigError(f"release {target} needs the secret {missing[0]}, which has no value today")
        found[name] = release.with_secrets(secrets)
    return found


def _write_values(rollout: Rollout, *, own: bool) -> None:
    """Write the secrets' values of today into each server's release, or with `own` those it came with."""
    secrets = secret_values(rollout.settings)

    def write(host: Host) -> None:
        release = rollout.releases[host.name]
        used = {s: secrets.get(s, "") for spec in release.services.values() for s in spec.secrets}
        text = compose_form(dotenv_values(release, used))
        result = host.run(_values(rollout.run.layout, release, text, own=own))
        if not result.ok:
            raise OpsError(
                f"the release's values could not be written: {result.last_lines}", target=host.name
            )

    together(each({name: rollout.run.hosts[name] for name in rollout.releases}, write))


def _values(layout: Layout, release: Release, text: str, *, own: bool) -> Command:
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
        before = earlier(rollout.surveys[name].facts)
        go_back(rollout.settings, host, None, rollout.run.bench, before=before)
        rollout.results[name] = Target("host", "changed", rollout.came_from.get(name), None)

    together(each({name: rollout.run.hosts[name] for name in names}, empty))

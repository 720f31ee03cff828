"""Where a rollback leads: each server to a release of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ops.config import Settings
from ops.config.servers import chosen_servers, state_host_of
from ops.deploy.survey import Survey, current_release, survey
from ops.deploy.wayback import earlier
from ops.engines.release import Release
from ops.errors import OpsError, UsageError, gathered
from ops.hosts import Host
from ops.runs.acquiring import ended_in_between
from ops.runs.lock import Holder

__all__ = ["RollbackOptions", "RollbackPlan", "agreed", "asked", "planned", "rollback_plan"]


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
    surveys, state = asked(settings, hosts, options)
    return planned(settings, surveys, options, Holder.from_json(state.facts.holder) if state else None)


def asked(
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


def planned(
    settings: Settings, surveys: Mapping[str, Survey], options: RollbackOptions, died: Holder | None
) -> RollbackPlan:
    """Given what the servers say, and who holds the lock, return the plan; raises for every server without a way back."""
    serving = {name: survey.facts.current for name, survey in surveys.items()}
    newest = max((release for release in serving.values() if release), default=None)
    # Where servers serve different releases, it is `newest` that tells which of them go back, and to what.
    half_switched = len({*serving.values()}) == 1 and any(_half_switched(found) for found in surveys.values())
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
        if target is None and (before := earlier(found.facts)):
            problems.append(before.refusal(name))
            continue
        targets[name] = target
    if problems:
        for problem in problems:
            if targets and not died:
                problem.next_step = _without(settings, options, tuple(targets))
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
        c.running and (c.service not in current.services or c.config != current.services[c.service].config)
        for c in found.facts.containers
        if c.config and not (c.service in current.services and current.services[c.service].once)
    )


def agreed(goal: RollbackPlan, options: RollbackOptions) -> RollbackPlan:
    """Return the plan that was confirmed; raises Locked where a colleague's run has made another of it since."""
    if options.confirmed is not None and not goal.same(options.confirmed):
        raise ended_in_between("inv deploy.status, then run this again and look at its plan")
    return goal

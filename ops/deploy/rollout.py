"""From releases on the servers to releases that serve; deploy and rollback share it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from ops.config import Settings
from ops.deploy.commit import commit, prune
from ops.deploy.survey import Survey, view_of
from ops.deploy.wayback import look
from ops.engines.release import Release
from ops.errors import Locked, NeedsPerson, OpsError, Unreachable
from ops.gates.smoke import smoke
from ops.hosts import Host
from ops.hosts.fleet import each, together
from ops.notify import notify
from ops.outcomes import Outcome, Target
from ops.runs.ending import finish
from ops.runs.execute import execute
from ops.runs.releases import switch_for
from ops.runs.run import Run
from ops.strategies.switch import plan_switch

__all__ = ["Rollout"]


@dataclass
class Rollout:
    """One rollout under way. `came_from` maps servers to the releases that they go back to (None: to nothing).

    `uploaded` and `touched` are the servers to which the release was written and whose services were changed;
    `between` is true while one of them may stand between two releases. `again` is the command that goes on with it
    on servers that were lost, without its options. `passed` are the services by server that passed their gate for the
    migration's sake.
    """

    settings: Settings
    run: Run
    surveys: Mapping[str, Survey] = field(default_factory=dict)
    releases: Mapping[str, Release] = field(default_factory=dict)
    came_from: Mapping[str, str | None] = field(default_factory=dict)
    uploaded: set[str] = field(default_factory=set)
    touched: list[str] = field(default_factory=list)
    results: dict[str, Target] = field(default_factory=dict)
    revision: str | None = None
    between: bool = False
    again: str = "inv deploy --resume"
    passed: dict[str, frozenset[str]] = field(default_factory=dict)
    _begun: dict[str, float] = field(default_factory=dict)

    def switch(self, order: Sequence[Sequence[str]]) -> None:
        """Bring the servers to their releases, batch by batch, each gated; raises the first batch's failure."""
        for batch in order:
            if not self.releases.keys() - self.run.lost.keys():
                raise next(iter(self.run.lost.values()))
            chosen = {}
            for name in batch:
                if name in self.run.lost:  # the heartbeat noticed it first
                    self.note(name, "unreachable")
                else:
                    chosen[name] = self.run.hosts[name]
            self._sort_out(each(chosen, self._switch_one))

    def smoke(self) -> None:
        """Ask through the proxy of each server that has one; raises SmokeFailed."""
        config, bench = self.settings.config, self.run.bench
        for check in config.smoke:
            for name, host in self.run.hosts.items():
                if name not in self.releases or name in self.run.lost:
                    continue
                if check.roles:
                    roles = config.servers[name].roles  # a server without roles runs everything
                    asked = not roles or bool(set(check.roles) & set(roles))
                else:
                    asked = config.proxy is None or self.releases[name].proxy is not None
                if asked:
                    bench.reporter.step(name, f"smoke check {check.path}")
                    address = config.servers[name].address or name
                    smoke(host, check, self.settings.folder, address, bench.cancellation, bench.project)

    def commit(self) -> None:
        """Make the releases current everywhere and tag their images, then prune; raises what failed but the pruning."""

        def mark(host: Host) -> None:
            name = host.name
            command = commit(self.releases[name], self.run.layout)
            self.run.log.write(command.shown, name)
            result = host.run(command)
            if not result.ok:
                raise OpsError(f"the release could not be made current: {result.last_lines}", target=name)

        hosts = self.run.hosts
        self._sort_out(each({name: hosts[name] for name in self.releases if name not in self.run.lost}, mark))
        self._prune()

    def _prune(self) -> None:
        """The release serves by now: what cannot be removed, or takes too long, is a warning."""

        def clear(host: Host) -> None:
            name = host.name
            keep = self.settings.config.keep_releases
            command = prune(self.releases[name], self.run.layout, self.surveys[name].facts, keep)
            if command is None:
                return
            self.run.log.write(command.shown, name)
            result = host.run(command)
            if not result.ok:
                raise OpsError(result.last_lines or f"status {result.status}", target=name)

        hosts = self.run.hosts
        left = {name: hosts[name] for name in self.releases if name not in self.run.lost}
        for name, answer in each(left, clear).items():
            if isinstance(answer, Locked):
                raise answer
            if isinstance(answer, OpsError):
                self.run.warn(f"{name}: old releases were not pruned: {answer.message}")

    def finish(self, event: str) -> Outcome:
        """End a run that came through; raises NeedsPerson when servers were lost on the way (`on_host_lost`)."""
        run = self.run
        outcome = self.outcome()
        if not run.lost:
            self.tell(outcome, 0, None)
            finish(run, event, 0)
            return replace(outcome, warnings=tuple(run.warnings))
        names = ", ".join(run.lost)
        failure = NeedsPerson(
            f"done, but not on {names}: {next(iter(run.lost.values())).message}",
            target=names,
            left_behind=f"{names} on the release from before, if it runs at all",
            next_step=f"when it is back: {self._way_on()}",
        )
        self.tell(outcome, failure.exit_code, failure.message)
        finish(run, event, failure.exit_code, failure.message)
        failure.outcome = replace(outcome, warnings=tuple(run.warnings))
        raise failure

    def _way_on(self) -> str:
        """Return the commands that bring lost servers up to date. A rollback names their releases: `--resume` would
        deploy the version that is fled, and on a server that is half-way nothing else tells where it was to go.
        """
        run, where = self.run, self.settings.options
        targets = {name: self.releases[name].id for name in run.lost if name in self.releases}
        if run.action != "deploy.rollback" or run.state_lost is not None or len(targets) < len(run.lost):
            return f"{self.again} {where}"  # the lock is still there, and knows
        return "\n".join(
            f"{self.again} {where} --servers {','.join(name for name in targets if targets[name] == release)} --to {release}"
            for release in dict.fromkeys(targets.values())
        )

    def tell(self, outcome: Outcome, exit_code: int, message: str | None) -> None:
        """Tell the notifiers how the run ended, secrets masked; what fails is a warning."""
        text = self.settings.redactor(message) if message else None
        for warning in notify(self.settings.config.notify, self.settings.folder, outcome, exit_code, text):
            self.run.warn(warning)

    def outcome(self) -> Outcome:
        """Return what came of the run so far."""
        digests = {
            spec.name: spec.pin for release in self.releases.values() for spec in release.services.values()
        }
        return replace(self.run.outcome(dict(self.results)), revision=self.revision, digests=digests)

    def note(
        self, name: str, result: Literal["changed", "unchanged", "failed", "rolled_back", "unreachable"]
    ) -> None:
        """Keep what became of a server."""
        begun = self._begun.get(name)
        seconds = round(time.monotonic() - begun, 3) if begun else None
        previous = self.came_from.get(name)
        own = self.releases[name].id if name in self.releases else self.run.release
        serving = own if result in ("changed", "unchanged") else previous
        self.results[name] = Target("host", result, previous, serving, seconds)

    def touch(self, name: str) -> bool:
        """Note that a server is changed from now on; return whether it had been before."""
        before = name in self.touched
        if not before:
            self.touched.append(name)
            self._begun[name] = time.monotonic()
        return before

    def _switch_one(self, host: Host) -> None:
        name = host.name
        release, found = self.releases[name], self.surveys[name]
        view = view_of(look(self.settings, host) if self.touch(name) else found)
        view = replace(view, passed=self.passed.get(name, frozenset()))
        switch = switch_for(self.settings, release, jobs=self.run.action != "deploy.rollback")
        steps = plan_switch(release, switch, view)
        execute(steps, host, view, self.run.bench)
        result: Literal["changed", "unchanged"] = "changed" if steps else "unchanged"
        self.run.reporter.finished(name, result)
        self.note(name, result)

    def _sort_out(self, answers: Mapping[str, object]) -> None:
        faults = {name: answer for name, answer in answers.items() if isinstance(answer, OpsError)}
        if self.settings.config.on_host_lost == "continue":
            for name, fault in list(faults.items()):
                if isinstance(fault, Unreachable) and len({*self.run.lost, name} & {*self.releases}) < len(
                    self.releases
                ):
                    self.run.lost[name] = fault
                    self.run.warn(
                        f"{name} is lost ({fault.message}); going on without it (on_host_lost = continue)"
                    )
                    self.note(name, "unreachable")
                    del faults[name]
        together(faults)

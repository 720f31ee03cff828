"""From releases on the servers to releases that serve, and the way back when that fails; deploy and rollback share it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from ops.config import Settings
from ops.deploy.bundle import discard
from ops.deploy.commit import commit
from ops.deploy.planning import switch_for
from ops.deploy.survey import Survey
from ops.deploy.wayback import go_back, look
from ops.engines.nginx import configuration_changed
from ops.engines.release import Release
from ops.errors import Interrupted, Locked, NeedsPerson, OpsError, Problem, RolledBack, Unreachable, gathered
from ops.gates.smoke import smoke
from ops.hosts import Cancellation, Cancelled, Host
from ops.hosts.fleet import each
from ops.notify import notify
from ops.outcomes import Outcome, Target
from ops.runs.execute import Workbench, execute
from ops.runs.phases import Phase
from ops.runs.run import Run
from ops.strategies.steps import View
from ops.strategies.switch import plan_switch

__all__ = ["Rollout", "raise_all"]


def raise_all(answers: Mapping[str, object]) -> None:
    """Raise what failed among answers, all of it together; return when nothing did."""
    faults = [answer for answer in answers.values() if isinstance(answer, OpsError)]
    if faults:
        raise gathered(faults)


@dataclass
class Rollout:
    """One rollout under way. `came_from` maps servers to the releases that they go back to (None: to nothing)."""

    settings: Settings
    run: Run
    surveys: Mapping[str, Survey] = field(default_factory=dict)
    releases: Mapping[str, Release] = field(default_factory=dict)
    came_from: Mapping[str, str | None] = field(default_factory=dict)
    uploaded: set[str] = field(default_factory=set)
    touched: list[str] = field(default_factory=list)
    results: dict[str, Target] = field(default_factory=dict)
    revision: str | None = None
    _begun: dict[str, float] = field(default_factory=dict)
    _between: bool = False  # some server may stand between two releases

    @property
    def bench(self) -> Workbench:
        """What executing steps needs."""
        run = self.run
        return Workbench(
            self.settings.project, run.reporter, run.log, run.interruption.cancellation, run.warn
        )

    def switch(self, order: Sequence[Sequence[str]]) -> None:
        """Bring the servers to their releases, batch by batch, each gated; raises the first batch's failure."""
        for batch in order:
            chosen = {name: host for name, host in self.run.hosts.items() if name in batch}
            self._sort_out(each(chosen, self._switch_one))

    def smoke(self) -> None:
        """Ask through the proxy of each server that has one; raises SmokeFailed."""
        config, bench = self.settings.config, self.bench
        for check in config.smoke:
            for name, host in self.run.hosts.items():
                if name not in self.releases or name in self.run.lost:
                    continue
                if check.roles:
                    asked = bool(set(check.roles) & set(config.servers[name].roles))
                else:
                    asked = config.proxy is None or self.releases[name].proxy is not None
                if asked:
                    bench.reporter.step(name, f"smoke check {check.path}")
                    address = config.servers[name].address or name
                    smoke(host, check, self.settings.folder, address, bench.cancellation)

    def commit(self) -> None:
        """Make the releases current everywhere, tag their images, prune; raises what failed."""
        keep = self.settings.config.keep_releases

        def mark(host: Host) -> None:
            name = host.name
            command = commit(self.releases[name], self.run.layout, self.surveys[name].facts, keep)
            self.run.log.write(command.shown, name)
            result = host.run(command)
            if not result.ok:
                raise OpsError(f"the release could not be made current: {result.last_lines}", target=name)

        hosts = self.run.hosts
        self._sort_out(each({name: hosts[name] for name in self.releases if name not in self.run.lost}, mark))

    def finish(self, event: str) -> Outcome:
        """End a run that came through; raises NeedsPerson when servers were lost on the way (`on_host_lost`)."""
        run, settings = self.run, self.settings
        outcome = self.outcome()
        if not run.lost:
            self._tell(outcome, 0, None)
            run.finish(event, 0)
            return replace(outcome, warnings=tuple(run.warnings))
        names = ", ".join(run.lost)
        failure = NeedsPerson(
            f"done, but not on {names}: {next(iter(run.lost.values())).message}",
            target=names,
            left_behind=f"{names} on the release from before, if it runs at all",
            next_step=f"when it is back: inv deploy {settings.options} --resume",
        )
        self._tell(outcome, failure.exit_code, failure.message)
        run.finish(event, failure.exit_code, failure.message)
        failure.outcome = replace(outcome, warnings=tuple(run.warnings))
        raise failure

    def undo(self, error: Exception) -> OpsError:
        """Undo what was done, end the run, and return the error to raise."""
        run = self.run
        if not isinstance(error, OpsError | Cancelled):
            error = run.unexpected(error)
        # What a run that died had done is still there, until this one has brought all servers to one release.
        self._between = run.took_over
        failure = self._undone(error)
        if self._between and failure.left_behind is None:
            failure.left_behind = "what the earlier run had done by then, and its lock"
        outcome = self.outcome()
        self._tell(outcome, failure.exit_code, str(failure))
        failure.outcome = replace(outcome, warnings=tuple(run.warnings))
        event = "rolled_back" if failure.exit_code == RolledBack.exit_code else "failed"
        event = "interrupted" if isinstance(failure, Interrupted) else event
        end = run.abandon if self._between else run.finish
        end(event, failure.exit_code, str(failure))
        return failure

    def outcome(self) -> Outcome:
        """Return what came of the run so far."""
        settings, run = self.settings, self.run
        digests = {
            spec.name: spec.pin for release in self.releases.values() for spec in release.services.values()
        }
        return Outcome(
            action=run.action,
            stack=settings.stack,
            environment=settings.environment,
            run_id=run.run_id,
            release=run.release,
            version=run.version,
            revision=self.revision,
            digests=digests,
            started_at=run.started_at,
            seconds=run.seconds,
            targets=dict(self.results),
            warnings=tuple(run.warnings),
            log=str(run.log.path),
        )

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
        release, facts = self.releases[name], self.surveys[name].facts
        containers = look(self.settings, host).facts.containers if self.touch(name) else facts.containers
        view = View(containers)
        changed = configuration_changed(release, facts.proxy_content)
        steps = plan_switch(release, switch_for(self.settings, release), view, proxy_changed=changed)
        execute(steps, host, view, self.bench)
        result: Literal["changed", "unchanged"] = "changed" if steps else "unchanged"
        self.run.reporter.finished(name, result)
        self.note(name, result)

    def _sort_out(self, answers: Mapping[str, object]) -> None:
        faults = {name: answer for name, answer in answers.items() if isinstance(answer, OpsError)}
        if self.settings.config.on_host_lost == "continue":
            for name, fault in list(faults.items()):
                if isinstance(fault, Unreachable) and len(self.run.lost) + 1 < len(self.releases):
                    self.run.lost[name] = fault
                    self.run.warn(
                        f"{name} is lost ({fault.message}); going on without it (on_host_lost = continue)"
                    )
                    self.note(name, "unreachable")
                    del faults[name]
        raise_all(faults)

    def _undone(self, error: OpsError | Cancelled) -> OpsError:
        run = self.run
        findings = error.findings if isinstance(error, Problem) else (error,)
        locked = next((one for one in findings if isinstance(one, Locked)), None)
        if run.overtaken or locked is not None:
            return locked or Locked("another run has taken over; this one changes nothing more")
        interrupted = run.interruption.number if isinstance(error, Cancelled) else None
        cause = run.stopped_by or OpsError("interrupted") if isinstance(error, Cancelled) else error
        run.log.write(f"failed in phase {run.phase}: {cause}")
        cancellation = run.interruption.fresh()
        if run.fence is not None:
            run.fail_hooks(cancellation)
        try:
            if not self.touched and not run.phase.changes_services:
                failure = self._discarded(cause, cancellation, interrupted)
            else:
                if run.took_over:
                    for name in self.surveys:
                        self.touch(name)  # the run that died may have been anywhere
                failure = self._rolled_back(cause, cancellation, interrupted)
        except Cancelled:
            return self._left_unfinished()
        return self._left_unfinished() if run.interruption.twice else failure

    def _discarded(self, cause: OpsError, cancellation: Cancellation, interrupted: int | None) -> OpsError:
        """Nothing serves differently: take back what was uploaded."""
        run = self.run
        self._remove_uploaded(cancellation)
        if interrupted is not None:
            left = "the old version serves" + ("; the migration had run" if run.migrated else "")
            return Interrupted(
                f"interrupted in phase {run.phase}; nothing was switched",
                signal_number=interrupted,
                left_behind=left,
            )
        if run.migrated:
            return NeedsPerson(
                cause.message,
                target=cause.target,
                left_behind="the migration had run; the old version serves",
                next_step=cause.next_step,
            )
        return cause

    def _rolled_back(self, cause: OpsError, cancellation: Cancellation, interrupted: int | None) -> OpsError:
        run, settings = self.run, self.settings
        where = settings.options
        run.reporter.say(
            f"{str(cause).splitlines()[0]}\nrolling back {', '.join(self.touched) or '(nothing was switched yet)'}"
        )
        hosts = run.with_cancellation(cancellation)
        bench = replace(self.bench, cancellation=cancellation)

        def back(host: Host) -> None:
            name = host.name
            facts = self.surveys[name].facts
            adopted = tuple(c.name for c in facts.containers if not c.config) if facts.current is None else ()
            go_back(settings, host, self.came_from.get(name), bench, unmanaged=adopted)

        answers = each({name: hosts[name] for name in self.touched if name not in run.lost}, back)
        for name, answer in answers.items():
            lost = isinstance(answer, Unreachable)
            self.note(
                name, "unreachable" if lost else "failed" if isinstance(answer, OpsError) else "rolled_back"
            )
        faults = [answer for answer in answers.values() if isinstance(answer, OpsError)] + list(
            run.lost.values()
        )
        if run.overtaken or any(isinstance(fault, Locked) for fault in faults):
            return Locked("another run has taken over on the way back; this one changes nothing more")
        if run.interruption.twice:
            return self._left_unfinished()
        self._between = bool(faults)
        if faults:
            return NeedsPerson(
                f"{cause}\nand the way back failed: {'; '.join(str(fault) for fault in faults)}",
                left_behind=f"servers {', '.join(sorted({fault.target or '?' for fault in faults}))} may stand between two releases",
                next_step=f"inv deploy.status {where}\nonce they answer: inv deploy.rollback {where}   goes back on all"
                f"\n                  inv deploy {where} --resume   finishes it on all",
            )
        self._remove_uploaded(cancellation)
        back_on = ", ".join(
            f"{name} on {self.came_from.get(name) or 'nothing, as before'}" for name in self.touched
        )
        left = (
            f"every touched server is back on its own release ({back_on})"
            if back_on
            else "nothing was switched"
        )
        if run.migrated:
            left += "; the migration had run and is not taken back"
        if interrupted is not None:
            return Interrupted(
                f"interrupted in phase {run.phase} and rolled back",
                signal_number=interrupted,
                left_behind=left,
            )
        if cause.exit_code == NeedsPerson.exit_code:
            return NeedsPerson(
                cause.message,
                target=cause.target,
                left_behind=f"{cause.left_behind}; {left}",
                next_step=cause.next_step,
            )
        return RolledBack(
            cause.message,
            target=cause.target,
            left_behind=left,
            next_step=cause.next_step or f"mend it and deploy again; inv deploy.status {where}",
        )

    def _left_unfinished(self) -> OpsError:
        run = self.run
        if run.overtaken:
            return Locked("another run has taken over; this one changes nothing more")
        if run.fence is None:  # it had not come to change anything
            return Interrupted("interrupted before any change", signal_number=run.interruption.number or 2)
        self._between = True
        where = self.settings.options
        left = (
            f"and {', '.join(self.touched)} between two releases" if self.touched else "nothing was switched"
        )
        if run.phase is Phase.MIGRATE and not run.migrated:
            left += "; the migration was ended half-way, the database schema may be half changed"
        return NeedsPerson(
            "interrupted twice: the way back was left unfinished",
            left_behind=f"the lock of run {run.run_id}; {left}",
            next_step=f"inv deploy.rollback {where}   goes back\ninv deploy {where} --resume   goes on",
        )

    def _remove_uploaded(self, cancellation: Cancellation) -> None:
        """Remove the release that does not serve, and the content that came with it. What fails is a warning."""
        run, release = self.run, self.run.release
        if run.fence is None or release is None or not self.uploaded:
            return

        def remove(host: Host) -> None:
            name = host.name
            facts = self.surveys[name].facts
            if release not in (facts.current, self.came_from.get(name)) and release not in facts.releases:
                own = self.releases[name]
                result = host.run(discard(own, run.layout, frozenset(own.files) - facts.files))
                if not result.ok:
                    raise OpsError(result.last_lines, target=name)

        hosts = run.with_cancellation(cancellation)
        answers = each({name: hosts[name] for name in self.uploaded if name not in run.lost}, remove)
        for name, answer in answers.items():
            if isinstance(answer, OpsError):
                run.warn(f"{name}: releases/{release} could not be removed: {answer.message}")

    def _tell(self, outcome: Outcome, exit_code: int, message: str | None) -> None:
        text = self.settings.redactor(message) if message else None
        for warning in notify(self.settings.config.notify, self.settings.folder, outcome, exit_code, text):
            self.run.warn(warning)

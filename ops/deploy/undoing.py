"""A rollout that did not come through is taken back on every server, and its error says what is left."""

from __future__ import annotations

from dataclasses import replace

from ops.deploy.bundle import discard
from ops.deploy.rollout import Rollout
from ops.deploy.wayback import earlier, go_back
from ops.errors import Interrupted, Locked, NeedsPerson, OpsError, Problem, RolledBack, Unreachable
from ops.hosts import Cancellation, Cancelled, Host
from ops.hosts.fleet import each
from ops.runs.ending import abandon, finish
from ops.runs.hooks import fail_hooks
from ops.runs.lease import BackupLocked
from ops.runs.lock import ways_on
from ops.runs.phases import Phase

__all__ = ["undo"]


def undo(rollout: Rollout, error: Exception) -> OpsError:
    """Undo what was done, end the run, and return the error to raise."""
    run = rollout.run
    if not isinstance(error, OpsError | Cancelled):
        error = run.unexpected(error)
    # What a run that died had done is still there, until this one has brought all servers to one release.
    rollout.between = run.took_over
    failure = _undone(rollout, error)
    if rollout.between and failure.left_behind is None:
        failure.left_behind = "what the earlier run had done by then, and its lock"
    outcome = rollout.outcome()
    rollout.tell(outcome, failure.exit_code, str(failure))
    failure.outcome = replace(outcome, warnings=tuple(run.warnings))
    event = "rolled_back" if failure.exit_code == RolledBack.exit_code else "failed"
    event = "interrupted" if isinstance(failure, Interrupted) else event
    end = abandon if rollout.between else finish
    end(run, event, failure.exit_code, str(failure))
    return failure


def _undone(rollout: Rollout, error: OpsError | Cancelled) -> OpsError:
    run = rollout.run
    findings = error.findings if isinstance(error, Problem) else (error,)
    locked = next(
        (one for one in findings if isinstance(one, Locked) and not isinstance(one, BackupLocked)), None
    )
    if run.overtaken or locked is not None:
        return locked or Locked("another run has taken over; this one changes nothing more")
    interrupted = run.interruption.number if isinstance(error, Cancelled) else None
    cause = run.stopped_by or OpsError("interrupted") if isinstance(error, Cancelled) else error
    run.log.write(f"failed in phase {run.phase}: {cause}")
    cancellation = run.interruption.fresh()
    if run.fence is not None:
        fail_hooks(run, cancellation)
    try:
        if not rollout.touched and not run.phase.changes_services:
            failure = _discarded(rollout, cause, cancellation, interrupted)
        else:
            if run.took_over:
                for name in rollout.surveys:
                    rollout.touch(name)  # the run that died may have been anywhere
            failure = _rolled_back(rollout, cause, cancellation, interrupted)
    except Cancelled:
        return _left_unfinished(rollout)
    return _left_unfinished(rollout) if run.interruption.twice else failure


def _discarded(
    rollout: Rollout, cause: OpsError, cancellation: Cancellation, interrupted: int | None
) -> OpsError:
    """Nothing serves differently: take back what was uploaded."""
    run = rollout.run
    _remove_uploaded(rollout, cancellation)
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


def _rolled_back(
    rollout: Rollout, cause: OpsError, cancellation: Cancellation, interrupted: int | None
) -> OpsError:
    """Some server may serve differently: every touched one goes back, then what was uploaded goes."""
    run = rollout.run
    where = rollout.settings.options
    run.reporter.say(
        f"{str(cause).splitlines()[0]}\nrolling back {', '.join(rollout.touched) or '(nothing was switched yet)'}"
    )
    faults = [*_go_back_everywhere(rollout, cancellation), *run.lost.values()]
    if run.overtaken or any(isinstance(fault, Locked) for fault in faults):
        return Locked("another run has taken over on the way back; this one changes nothing more")
    if run.interruption.twice:
        return _left_unfinished(rollout)
    rollout.between = bool(faults)
    if faults:
        return NeedsPerson(
            f"{cause}\nand the way back failed: {'; '.join(str(fault) for fault in faults)}",
            left_behind=f"servers {', '.join(sorted({fault.target or '?' for fault in faults}))} may stand between two releases",
            next_step="\n".join(
                [
                    *dict.fromkeys(
                        fault.next_step
                        for fault in faults
                        if isinstance(fault, NeedsPerson) and fault.next_step
                    ),
                    f"inv deploy.status {where}\nonce they answer:\n{ways_on(run.action, where)}",
                ]
            ),
        )
    _remove_uploaded(rollout, cancellation)
    back_on = ", ".join(
        f"{name} on {rollout.came_from.get(name) or 'nothing, as before'}" for name in rollout.touched
    )
    left = (
        f"every touched server is back on its own release ({back_on})" if back_on else "nothing was switched"
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


def _go_back_everywhere(rollout: Rollout, cancellation: Cancellation) -> list[OpsError]:
    """Bring the touched servers that are not lost to where they came from, and note it; return what failed."""
    run = rollout.run
    hosts = run.with_cancellation(cancellation)
    bench = replace(rollout.run.bench, cancellation=cancellation)

    def back(host: Host) -> None:
        name = host.name
        before = earlier(rollout.surveys[name].facts)
        go_back(rollout.settings, host, rollout.came_from.get(name), bench, before=before)

    answers = each({name: hosts[name] for name in rollout.touched if name not in run.lost}, back)
    for name, answer in answers.items():
        lost = isinstance(answer, Unreachable)
        rollout.note(
            name, "unreachable" if lost else "failed" if isinstance(answer, OpsError) else "rolled_back"
        )
    return [answer for answer in answers.values() if isinstance(answer, OpsError)]


def _left_unfinished(rollout: Rollout) -> OpsError:
    """The way back was cut off: by a second signal, or by another run that took over."""
    run = rollout.run
    if run.overtaken:
        return Locked("another run has taken over; this one changes nothing more")
    if run.fence is None:  # it had not come to change anything
        return Interrupted("interrupted before any change", signal_number=run.interruption.number or 2)
    rollout.between = True
    where = rollout.settings.options
    left = (
        f"and {', '.join(rollout.touched)} between two releases"
        if rollout.touched
        else "nothing was switched"
    )
    if run.phase is Phase.MIGRATE and not run.migrated:
        left += "; the migration was ended half-way, the database schema may be half changed"
    return NeedsPerson(
        "interrupted twice: the way back was left unfinished",
        left_behind=f"the lock of run {run.run_id}; {left}",
        next_step=ways_on(run.action, where),
    )


def _remove_uploaded(rollout: Rollout, cancellation: Cancellation) -> None:
    """Remove the release that does not serve, and the content that came with it. What fails is a warning."""
    run, release = rollout.run, rollout.run.release
    if run.fence is None or release is None or not rollout.uploaded:
        return

    def remove(host: Host) -> None:
        name = host.name
        facts = rollout.surveys[name].facts
        if release not in (facts.current, rollout.came_from.get(name)) and release not in facts.releases:
            own = rollout.releases[name]
            result = host.run(discard(own, run.layout, frozenset(own.files) - facts.files))
            if not result.ok:
                raise OpsError(result.last_lines, target=name)

    hosts = run.with_cancellation(cancellation)
    answers = each({name: hosts[name] for name in rollout.uploaded if name not in run.lost}, remove)
    for name, answer in answers.items():
        if isinstance(answer, OpsError):
            run.warn(f"{name}: releases/{release} could not be removed: {answer.message}")

"""A run takes the lock and raises the fence on every server; from then on it may change them."""

from __future__ import annotations

import time

from ops.errors import FailedUnchanged, Locked, OpsError, UsageError
from ops.hosts import Host
from ops.hosts.fleet import each
from ops.runs import lock
from ops.runs.fence import BUSY, FENCED, Fence, raise_fence
from ops.runs.heartbeat import start_heartbeat
from ops.runs.run import Run

__all__ = ["correct_holder", "ended_in_between", "take_lock"]

POLL = 2.0  # seconds between tries for a lock that another holds


def take_lock(run: Run, holder: lock.Holder, *, floor: int, take_over: str | None, wait: float) -> int:
    """Take the lock and raise the fence on every server; return the token. The heartbeat goes on from here.

    Raises Locked when another holds it past `wait` seconds, NeedsPerson when its holder died and `take_over`
    does not name it, Unreachable or FailedUnchanged when a server does not accept the run.
    """
    got, token = _acquired(run, holder, floor=floor, take_over=take_over, wait=wait)
    run.took_over = got == "dead"
    run.fence = Fence(token, run.run_id)
    start_heartbeat(run)
    _raise_fences(run, run.fence)
    return token


def correct_holder(run: Run, holder: lock.Holder) -> None:
    """Say in the lock what is known only behind it, for whoever comes after this run should it die."""
    result = run.state.run(lock.amend(run.layout, holder))
    if not result.ok:
        raise FailedUnchanged(f"cannot write the lock's holder: {result.last_lines}", target=run.state_host)


def ended_in_between(
    next_step: str = "inv deploy.status, then run this again; --wait SECONDS goes on by itself",
) -> Locked:
    """Return the error of a run that finds, once it has the lock, that another was at work since it looked."""
    return Locked(
        "another run was at work while this one looked at the servers; nothing was changed",
        next_step=next_step,
    )


def _acquired(
    run: Run, holder: lock.Holder, *, floor: int, take_over: str | None, wait: float
) -> tuple[str, int]:
    """Try until the lock is there or `wait` seconds are over; return whose it was (`new` or `dead`) and the token."""
    stale_after = run.settings.config.lock.stale_after
    host = run.reach[run.state_host]
    deadline = time.monotonic() + wait
    told = False
    while True:
        if take_over:
            _refuse_to_forget(run, host, take_over, holder)
        # Cut off in between, it might leave a lock that nobody knows to be his.
        with run.interruption.deferred():
            result = host.run(
                lock.acquire(
                    run.layout,
                    holder,
                    run.journal("started", previous=holder.previous).to_json(),
                    floor=floor,
                    take_over=take_over,
                    stale_after=stale_after,
                )
            )
        if result.ok:
            got, token = result.stdout.split()[-2:]
            return got, int(token)
        if result.status == BUSY:
            raise _busy(run.state_host)
        if result.status != lock.HELD:
            raise FailedUnchanged(
                f"cannot take the lock: {result.last_lines}",
                target=run.state_host,
                next_step="inv servers.prepare",
            )
        error = lock.held_error(result.stdout, stale_after=stale_after, where=run.settings.options)
        if not isinstance(error, Locked) or time.monotonic() > deadline:
            raise error
        if not told:
            run.reporter.say(f"{error}; waiting up to {wait:g} s")
            told = True
        run.interruption.cancellation.wait(POLL)


def _refuse_to_forget(run: Run, host: Host, take_over: str, holder: lock.Holder) -> None:
    """A run that takes over gives the lock back at its end: it must bring all servers of the dead one to a release."""
    age, dead = lock.read_look(host.run(lock.look(run.layout)).stdout)
    if dead is None or dead.run_id != take_over or age < run.settings.config.lock.stale_after:
        return
    left = [
        name for name in run.settings.config.servers if name in dead.previous and name not in holder.previous
    ]
    if left:
        action = "deploy.rollback" if run.action == "deploy.rollback" else "deploy --resume"
        raise UsageError(
            f"run {dead.run_id} was left unfinished on {', '.join(dead.previous)}; --servers leaves out "
            f"{', '.join(left)}, where it may stand between two releases",
            next_step=f"inv {action} {run.settings.options}",
        )


def _raise_fences(run: Run, fence: Fence) -> None:
    """Let the servers accept the run; the state host did with the lock. Raises the first fault."""

    def accept(host: Host) -> None:
        name = host.name
        answer = host.run(raise_fence(run.layout, fence))
        if answer.status == FENCED:
            raise Locked("a later run is at work here", target=name)
        if answer.status == BUSY:
            raise _busy(name)
        if not answer.ok:
            raise FailedUnchanged(
                f"cannot write to {run.layout.root}: {answer.last_lines}",
                target=name,
                next_step="inv servers.prepare",
            )

    answers = each({name: host for name, host in run.reach.items() if name != run.state_host}, accept)
    faults = [answer for answer in answers.values() if isinstance(answer, OpsError)]
    if faults:
        raise faults[0]


def _busy(name: str) -> Locked:
    return Locked(
        "the last command of an earlier run is still at work here",
        target=name,
        next_step="wait for its end, then run this again",
    )

"""The lock of backups on each server that is dumped: a folder with its holder and a heartbeat.

A backup changes nothing that would have to be put in order, so the lock of a run that died is taken over without a
question.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

from ops.commands import Command, quote
from ops.engines.layout import Layout
from ops.errors import FailedUnchanged, Locked, OpsError
from ops.hosts import Cancellation, Cancelled, Host
from ops.runs.lock import HELD, Holder, age_of, read_look
from ops.runs.run import Run, operator

__all__ = ["POLL", "BackupLocked", "leased", "leased_by"]

POLL = 2.0  # seconds between tries for a lock that another holds
_FOLDER = "locks/backup"


class BackupLocked(Locked):
    """Another run has the backup lock of a server; the lock of the stack may well be this run's own."""


def leased_by(
    run: Run, servers: Iterable[str], wait: float, lost: Callable[[], object] | None = None
) -> AbstractContextManager[None]:
    """Return a context in which a run holds the backup lock of servers.

    When another takes one over, `lost` is called; without it, the run is cancelled.
    """
    lock = run.settings.config.lock

    def overtaken() -> None:
        run.overtaken = True
        run.interruption.stop()

    return leased(
        {name: run.reach[name] for name in servers},
        run.layout,
        Holder(run.run_id, run.action, operator(), run.started_at),
        stale_after=lock.stale_after,
        heartbeat=lock.heartbeat,
        wait=wait,
        cancellation=run.interruption.cancellation,
        lost=lost or overtaken,
        say=run.warn,
    )


@contextmanager
def leased(
    hosts: Mapping[str, Host],
    layout: Layout,
    holder: Holder,
    *,
    stale_after: float,
    heartbeat: float,
    wait: float,
    cancellation: Cancellation,
    lost: Callable[[], object],
    say: Callable[[str], object],
) -> Iterator[None]:
    """Hold the backup lock of every host to the end of the block.

    Raises Locked, which names the holder, where a run that lives has one for longer than `wait` seconds. `lost` is
    called when another run took a lock over, which it does once this one was silent for `stale_after` seconds.
    """
    held: list[Host] = []
    claimed: list[Host] = []
    ending = threading.Event()
    beating = threading.Thread(
        target=_beat, args=(claimed, layout, holder, heartbeat, ending, lost), daemon=True
    )
    try:
        beating.start()  # the first may have to live for as long as the last is waited for
        deadline = time.monotonic() + wait
        for name in sorted(hosts):  # in one order, so that two runs that wait never wait for each other
            # Before it is claimed: an interrupt may come behind the claim. What is not ours is not given back.
            held.append(hosts[name].with_cancellation(Cancellation()))
            _claim(hosts[name], layout, holder, stale_after, deadline, cancellation, say)
            claimed.append(held[-1])
        yield
    finally:
        ending.set()
        beating.join(timeout=20)
        for host in held:
            try:
                host.run(_give_back(layout, holder))
            except (OpsError, Cancelled) as error:
                say(
                    f"{host.name}: the backup lock could not be given back: {error}; it is void in {stale_after:g} s"
                )


def _claim(
    host: Host,
    layout: Layout,
    holder: Holder,
    stale_after: float,
    deadline: float,
    cancellation: Cancellation,
    say: Callable[[str], object],
) -> None:
    told = False
    while True:
        result = host.run(_claiming(layout, holder, stale_after))
        if result.ok:
            return
        if result.status != HELD:
            raise FailedUnchanged(
                f"cannot take the backup lock: {result.last_lines}",
                target=host.name,
                next_step="inv servers.prepare",
            )
        age, other = read_look(result.stdout)
        who = f"{other.action} by {other.who}, since {other.started_at}" if other else "another run"
        error = BackupLocked(
            f"locked: {who}; last sign of life {age:.0f} s ago",
            target=host.name,
            next_step="wait for it (--wait SECONDS); a run that died is taken over by itself "
            f"after {stale_after:g} s",
        )
        if time.monotonic() > deadline:
            raise error
        if not told:
            say(f"{error}; waiting")
            told = True
        cancellation.wait(POLL)


def _beat(
    claimed: list[Host],
    layout: Layout,
    holder: Holder,
    heartbeat: float,
    ending: threading.Event,
    lost: Callable[[], object],
) -> None:
    while not ending.wait(heartbeat):
        for host in tuple(claimed):
            try:
                result = host.run(_renewal(layout, holder))
            except (OpsError, Cancelled):
                continue  # the dump finds out by itself
            if result.status == HELD:
                lost()
                return


def _claiming(layout: Layout, holder: Holder, stale_after: float) -> Command:
    stale = f'[ "$age" -ge {round(stale_after * 1000)} ]'
    return Command(
        f"{_alone(layout)} if [ -d {_FOLDER} ]; then {age_of(_FOLDER)} "
        f'{stale} || {{ echo "$age"; cat {_FOLDER}/holder.json 2>/dev/null; exit {HELD}; }}; fi; '
        f"mkdir -p {_FOLDER} && cat > {_FOLDER}/holder.json && touch {_FOLDER}/heartbeat || "
        f"{{ rm -rf {_FOLDER}; exit 1; }}",
        stdin=holder.to_json().encode(),
        changes="backup lock",
        title="take the backup lock",
    )


def _renewal(layout: Layout, holder: Holder) -> Command:
    return Command(
        f"{_alone(layout)} {_ours(holder)} || exit {HELD}; touch {_FOLDER}/heartbeat",
        changes="backup lock",
        title="keep the backup lock",
    )


def _give_back(layout: Layout, holder: Holder) -> Command:
    return Command(
        f"{_alone(layout)} {_ours(holder)} || exit 0; rm -rf {_FOLDER}",
        changes="backup lock",
        title="give the backup lock back",
    )


def _alone(layout: Layout) -> str:
    """What each of them begins with: two that look at the same moment would both take what is void."""
    return (
        f"umask 077; mkdir -p {quote(layout.root)}/locks && cd {quote(layout.root)} || exit 1; "
        "exec 9>>locks/.backup.lock && flock -x -w 20 9 || exit 1;"
    )


def _ours(holder: Holder) -> str:
    return f"grep -qF {quote(holder.run_id)} {_FOLDER}/holder.json 2>/dev/null"

"""The signs of life of a run on the state host, and what it learns when they do not get through."""

from __future__ import annotations

import threading
import time

from ops.errors import Locked, OpsError, Unreachable
from ops.hosts import Cancellation, Cancelled
from ops.runs import lock
from ops.runs.run import Run

__all__ = ["start_heartbeat", "stop_heartbeat"]


def start_heartbeat(run: Run) -> None:
    """Show signs of life in a thread, until `stop_heartbeat`.

    It cancels the run when another took over, and, unless `on_host_lost` says to go on, when the state host is lost.
    """
    run.heart = threading.Thread(target=_beat, args=(run,), name="heartbeat", daemon=True)
    run.heart.start()


def stop_heartbeat(run: Run) -> None:
    """Show no more signs of life; waits for one that is under way, at most 20 seconds."""
    run.ending.set()
    if run.heart is not None:
        run.heart.join(timeout=20)


def _beat(run: Run) -> None:
    config = run.settings.config.lock
    last = time.monotonic()
    host = run.with_cancellation(Cancellation())[run.state_host]
    while not run.ending.wait(config.heartbeat):
        try:
            result = host.run(lock.beat(run.layout, str(run.phase)))
            if result.ok:
                last = time.monotonic()
                continue
            trouble = f"the lock cannot be kept: {result.last_lines or f'status {result.status}'}"
        except Locked:
            run.overtaken = True
            run.interruption.stop()
            return
        except (OpsError, Cancelled):
            trouble = "the state host is lost"
        if time.monotonic() - last > config.stale_after:
            # Another run may take over now; the fences keep this one from changing anything if it does.
            run.log.write(f"no heartbeat for longer than a lock lasts; {trouble}", run.state_host)
            run.state_lost = Unreachable(trouble, target=run.state_host)
            if run.settings.config.on_host_lost == "rollback":
                run.interruption.stop()
                return
            run.lost[run.state_host] = run.state_lost

"""The way back from the last restore."""

from __future__ import annotations

from collections.abc import Mapping

from ops.archive.manifest import Saved
from ops.config import Settings
from ops.datastores import configured
from ops.datastores.looking import look
from ops.errors import NeedsPerson, OpsError
from ops.hosts import Cancelled, Host
from ops.outcomes import Outcome, Target
from ops.restore.places import Place, discarded, must
from ops.restore.records import put_back, record
from ops.restore.running import alone, ending, lock_stack
from ops.restore.writers import Writers, gate, start, stop, writers
from ops.runs.during import enter
from ops.runs.interruption import Interruption
from ops.runs.phases import Phase
from ops.runs.reporting import Reporter
from ops.runs.run import Run, running

__all__ = ["undo"]


def undo(
    settings: Settings,
    hosts: Mapping[str, Host],
    state_host: str,
    reporter: Reporter,
    interruption: Interruption,
    *,
    wait: float = 0.0,
    run_id: str | None = None,
) -> Outcome:
    """Swap back what the last restore brought, and return what came of it.

    Raises UsageError where there is nothing to undo, Locked, Unreachable, and NeedsPerson where a swap fails.
    """
    with (
        running(settings, "restore.undo", hosts, state_host, reporter, interruption, run_id) as run,
        ending(run),
    ):
        enter(run, Phase.CHECK)
        found = record(run)
        stores = configured(settings, run.layout, tuple(found["datastores"]))
        looked = look(stores, run.reach)
        places = {
            name: Place(stores[name], Saved(**saved), looked[name], found["tag"])
            for name, saved in found["datastores"].items()
        }
        enter(run, Phase.LOCK)
        lock_stack(run, wait)
        with alone(run, places, wait):
            writing = writers(run, found.get("stopped", {}))
            enter(run, Phase.SWITCH)
            with run.interruption.deferred():
                _swap_back(run, places, writing)
                put_back(run, found["earlier"])
                for name, place in places.items():
                    if (left := discarded(run, name, place)) is not None:
                        run.warn(left)
                _serve(run, writing)
        return run.outcome(
            {name: Target("datastore", "rolled_back", release=found["backup"]) for name in places}
        )


def _swap_back(run: Run, places: Mapping[str, Place], writing: Writers) -> None:
    name = "nothing"
    try:
        stop(run, run.hosts, writing)
        for name, place in places.items():
            run.reporter.step(place.store.server, f"swap back {name}")
            must(run, run.hosts[place.store.server], place.command(place.store.swap_back))
    except (OpsError, Cancelled) as error:
        stopped = f"; {', '.join(writing.services)} may be stopped" if writing.services else ""
        raise NeedsPerson(
            f"{name}: {error or 'interrupted'}",
            left_behind=f"datastores before {name} are swapped back, those behind it are not{stopped}",
            next_step=f"inv restore.undo {run.settings.options}",
        ) from error


def _serve(run: Run, writing: Writers) -> None:
    """Bring the writers back. The data is as it was by now, whatever becomes of them."""
    try:
        start(run, run.hosts, writing)
        gate(run, run.hosts, writing)
    except (OpsError, Cancelled) as error:
        raise NeedsPerson(
            f"the data is back, and a service is not: {error or 'interrupted'}",
            left_behind=f"{', '.join(writing.services) or 'services'} may be stopped or failing",
            next_step=f"inv stack.up {run.settings.options}",
        ) from error

"""The way back from the last restore."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ops.archive.manifest import Saved
from ops.config import Settings
from ops.datastores.looking import look
from ops.errors import NeedsPerson, OpsError, UsageError
from ops.hosts import Cancelled, Host
from ops.outcomes import Outcome, Target
from ops.restore.places import Place, discarded, must, stores_for
from ops.restore.records import keep, put_back, record
from ops.restore.running import alone, ending, lock_stack, tag_of
from ops.restore.writers import Writers, gate, start, stop, writers
from ops.runs.during import enter
from ops.runs.interruption import Interruption
from ops.runs.lock import Holder
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

    That of a restore that died goes first; one that had changed nothing leaves the restore before it alone. Raises
    UsageError where there is nothing to undo, Locked, Unreachable, and NeedsPerson where a swap fails.
    """
    with (
        running(settings, "restore.undo", hosts, state_host, reporter, interruption, run_id) as run,
        ending(run),
    ):
        enter(run, Phase.CHECK)
        found = record(run.layout, run.reach[run.state_host])
        if found is not None:
            stores = stores_for(settings, {name: one["details"] for name, one in found["datastores"].items()})
            looked = look(stores, run.reach)
        enter(run, Phase.LOCK)
        died = lock_stack(run, wait, finish=True)
        if found is None or (died is not None and not _is_of(found, died)):
            if died is None:
                raise UsageError("there is no restore to undo")
            run.warn(f"{died.action} {died.run_id} died before it changed anything: nothing was undone")
            return run.outcome({})
        places = {
            name: Place(stores[name], Saved(**saved), looked[name], found["tag"])
            for name, saved in found["datastores"].items()
        }
        with alone(run, places, wait):
            writing = writers(settings, run.reach, found.get("stopped", {}))
            enter(run, Phase.SWITCH)
            with run.interruption.deferred():
                keep(run, {**found, "undoing": run.run_id})
                _swap_back(run, places, writing)
                _serve(run, writing)
                put_back(run, found["earlier"])
                for name, place in places.items():
                    if (left := discarded(run, name, place)) is not None:
                        run.warn(left)
        return run.outcome(
            {name: Target("datastore", "rolled_back", release=found["backup"]) for name in places}
        )


def _is_of(found: Mapping[str, Any], died: Holder) -> bool:
    """Return whether a record is of the run that died, or of the restore that it was undoing."""
    return found["tag"] == tag_of(died.run_id) or found.get("undoing") == died.run_id


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

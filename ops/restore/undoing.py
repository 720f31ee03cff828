"""The way back from the last restore."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ops.archive.manifest import Saved
from ops.config import Settings
from ops.datastores.base import LOST
from ops.datastores.looking import look
from ops.errors import FailedUnchanged, NeedsPerson, OpsError, UsageError
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

__all__ = ["check_kept", "kept_places", "undo"]


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
    UsageError where there is nothing to undo, or no longer, Locked, Unreachable, and NeedsPerson where a swap fails.
    """
    with (
        running(settings, "restore.undo", hosts, state_host, reporter, interruption, run_id) as run,
        ending(run),
    ):
        enter(run, Phase.CHECK)
        found = record(run.layout, run.reach[run.state_host])
        places = kept_places(settings, run.reach, found) if found is not None else {}
        enter(run, Phase.LOCK)
        died = lock_stack(run, wait, finish=True)
        if (now := record(run.layout, run.reach[run.state_host])) != found:
            # What was waited for was a restore, or an undo.
            found, places = now, kept_places(settings, run.reach, now) if now is not None else {}
        if found is None or (died is not None and not _is_of(found, died)):
            if died is None:
                raise UsageError("there is no restore to undo")
            run.warn(f"{died.action} {died.run_id} died before it changed anything: nothing was undone")
            return run.outcome({})
        check_kept(settings, run.reach, found, places)
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


def kept_places(settings: Settings, hosts: Mapping[str, Host], found: Mapping[str, Any]) -> dict[str, Place]:
    """Given the record of a restore, return its datastores as they are now."""
    saved = {name: Saved(**one) for name, one in found["datastores"].items()}
    stores = stores_for(settings, {name: one.details for name, one in saved.items()})
    looked = look(stores, hosts)
    return {name: Place(stores[name], one, looked[name], found["tag"]) for name, one in saved.items()}


def check_kept(
    settings: Settings, hosts: Mapping[str, Host], found: Mapping[str, Any], places: Mapping[str, Place]
) -> None:
    """Raise UsageError where what a restore kept was removed since, so that there is nothing to swap back.

    Asked of a restore that came to its end, and before its undo is begun: of any other, what is not there may never have
    been made, or be back already.
    """
    if not found.get("ended") or "undoing" in found:
        return
    gone = []
    for name, place in places.items():
        command = place.command(place.store.lost)
        result = hosts[place.store.server].run(command)
        if not result.ok:
            raise FailedUnchanged(f"{command.shown}: {result.last_lines}", target=place.store.server)
        lines = (line for line in result.stdout.split("\n") if line.startswith(LOST))
        gone += [f"{name} on {place.store.server}: {line.removeprefix(LOST)}" for line in lines]
    if gone:
        options = settings.options
        raise UsageError(
            f"nothing was undone, since what the restore of {found['backup']} kept is not there any more: {'; '.join(gone)}",
            next_step=f"inv backup.list {options} shows the safety backup that the restore took, if it took one\n"
            f"inv restore {options} --id ID brings that back",
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

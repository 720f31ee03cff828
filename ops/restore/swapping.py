"""The moment in which live data is touched: all datastores are swapped and who writes to them is healthy, or none is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ops.archive.manifest import Manifest
from ops.errors import NeedsPerson, OpsError, RolledBack
from ops.hosts import Cancelled
from ops.restore.places import Place, discarded, must
from ops.restore.records import record_path, remember
from ops.restore.writers import Writers, gate, start, stop
from ops.runs.run import Run

__all__ = ["forget", "switch"]


def switch(run: Run, places: Mapping[str, Place], found: Writers) -> None:
    """Stop the writers, swap all datastores, start the writers and wait until they are healthy.

    Raises RolledBack with everything as it was, NeedsPerson where it could not be brought back or a second signal came.
    """
    begun: list[str] = []
    doing = "the writers were stopped"
    try:
        stop(run, run.hosts, found)
        for name, place in places.items():
            doing = f"{name} was swapped"
            begun.append(name)
            run.reporter.step(place.store.server, f"swap {name}")
            must(run, run.hosts[place.store.server], place.command(place.store.swap))
        doing = "the writers were started"
        start(run, run.hosts, found)
        gate(run, run.hosts, found)
    except Cancelled as error:  # a second signal: it leaves at once
        raise _left(run, found, begun, f"interrupted again while {doing}") from error
    except Exception as caught:  # whatever it is: nobody may be left between the two
        told = caught if isinstance(caught, OpsError) else run.unexpected(caught)
        try:
            _take_back(run, places, begun, found)
        except Exception as trouble:
            text = f"failed while {doing}: {told}; and it could not be taken back: {trouble}"
            raise _left(run, found, begun, text) from caught
        raise RolledBack(f"failed while {doing}: {told}; everything is as it was") from caught


def forget(run: Run, manifest: Manifest, places: Mapping[str, Place]) -> None:
    """The restore is done: what those before it kept goes, and so does their record."""
    for name, place in places.items():
        try:
            must(run, run.hosts[place.store.server], place.command(place.store.forget))
        except (OpsError, Cancelled) as error:
            run.warn(f"{name}: what earlier restores kept is still there: {error}")
    try:
        remember(run, manifest, places, "", ended=True)
    except (OpsError, Cancelled) as error:
        run.warn(f"{run.state_host}: {record_path(run.layout)} still names the restore before: {error}")


def _take_back(run: Run, places: Mapping[str, Place], begun: Sequence[str], found: Writers) -> None:
    hosts = run.with_cancellation(run.interruption.fresh())
    if begun:
        stop(run, hosts, found)
    for name in reversed(begun):
        place = places[name]
        must(run, hosts[place.store.server], place.command(place.store.swap_back))
    start(run, hosts, found)
    for name, place in places.items():
        if (left := discarded(run, name, place)) is not None:
            run.warn(left)


def _left(run: Run, found: Writers, begun: Sequence[str], text: str) -> NeedsPerson:
    """Return the error of a swap of which nobody knows how far it came."""
    stopped = f"; {', '.join(found.services)} may be stopped" if found.services else ""
    return NeedsPerson(
        text,
        left_behind=f"{', '.join(begun) or 'no datastore'} may be swapped, or stand half-way{stopped}",
        next_step=f"inv restore.undo {run.settings.options}",
    )

"""A restore: checked, written beside what is live, counted, swapped."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

from ops.archive.manifest import Manifest, Removed
from ops.archive.reading import Identity, check_identities
from ops.config import Settings
from ops.errors import Locked, NeedsPerson, OpsError, RolledBack, Unreachable
from ops.hosts import Host
from ops.outcomes import Outcome, Target
from ops.restore.filling import beside, check_all
from ops.restore.places import Place, places_of, stores_of
from ops.restore.records import known, put_back, remember
from ops.restore.running import alone, ending, lock_stack, tag_of
from ops.restore.swapping import forget, switch
from ops.restore.writers import writers
from ops.runs.during import enter
from ops.runs.interruption import Interruption
from ops.runs.phases import Phase
from ops.runs.reporting import Reporter
from ops.runs.run import Run, running
from ops.storage.base import Storage

__all__ = ["Restored", "Safety", "restore"]

Safety = Callable[[tuple[str, ...]], str]


@dataclass(frozen=True)
class Restored:
    """A restore that came to its end: the run, and what is live now by datastore and part, counted.

    `safety` is the id of the backup of what was replaced, None where none was taken; `stopped` are the services that
    stood still during the swap. `as_of` has the moment to which each datastore went back, `ended` those on which no
    increment can follow before a full backup.
    """

    outcome: Outcome
    backup: str
    counts: Mapping[str, Mapping[str, Mapping[str, int]]]
    safety: str | None = None
    stopped: tuple[str, ...] = ()
    as_of: Mapping[str, str] = field(default_factory=dict)
    ended: tuple[str, ...] = ()


def restore(
    settings: Settings,
    hosts: Mapping[str, Host],
    state_host: str,
    storage: Storage,
    manifest: Manifest,
    reporter: Reporter,
    interruption: Interruption,
    *,
    only: tuple[str, ...] = (),
    identities: Sequence[Identity] = (),
    safety: Safety | None = None,
    wait: float = 0.0,
    run_id: str | None = None,
) -> Restored:
    """Bring a backup's datastores, or those in `only` (`db`, or `db/orders` for a part of one), back, and return what is live then.

    `safety` takes a backup of the datastores that it is told, and returns its id; it is called before anything is
    made. Raises Damaged, UsageError, Locked, Unreachable and FailedUnchanged with the live data as it was, RolledBack where
    it had been swapped and is back, NeedsPerson where that failed, Interrupted on a signal before the swap.
    """
    with (
        running(settings, "restore", hosts, state_host, reporter, interruption, run_id) as run,
        ending(run),
        _reading(run, storage, manifest),
    ):
        enter(run, Phase.CHECK)
        check_identities(storage, manifest, identities)
        places = _checked(run, storage, manifest, only)
        enter(run, Phase.LOCK)
        lock_stack(run, wait)
        kept = _save(run, places, safety)
        with alone(run, places, wait):
            earlier = known(run.layout, run.reach[run.state_host])
            remember(run, manifest, places, earlier)
            swapping = False
            try:
                counts = beside(run, storage, places, identities)
                writing = writers(settings, run.reach)
                enter(run, Phase.SWITCH)
                with run.interruption.deferred():
                    remember(run, manifest, places, earlier, writing.ids)
                    swapping = True
                    switch(run, places, writing)
                    forget(run, manifest, places)
            except NeedsPerson:
                raise  # an undo needs the record
            except BaseException as error:
                if not swapping or isinstance(error, RolledBack):
                    put_back(run, earlier)
                raise
        targets = {name: Target("datastore", "changed", release=manifest.id) for name in places}
        return Restored(
            run.outcome(targets),
            manifest.id,
            counts,
            kept,
            writing.services,
            {name: place.saved.details.get("as_of", manifest.finished_at) for name, place in places.items()},
            tuple(name for name, place in places.items() if "moment" in place.saved.details),
        )


def _checked(run: Run, storage: Storage, manifest: Manifest, only: tuple[str, ...]) -> dict[str, Place]:
    """Read all that is to be restored while the servers are asked where it goes, and return the places.

    Of what either finds, the first is told.
    """
    stores = stores_of(run.settings, manifest, only)
    with ThreadPoolExecutor(1, thread_name_prefix="ops-look") as asking:
        asked = asking.submit(places_of, stores, run.reach, manifest, only, tag_of(run.run_id))
        # What keeps a server from being restored to is told at once, not behind hours of reading.
        check_all(run, storage, manifest, stores, lambda: asked.done() and asked.result())
        return asked.result()


@contextmanager
def _reading(run: Run, storage: Storage, manifest: Manifest) -> Iterator[None]:
    """No lock keeps a backup while it is read, and all of it is read before the swap: say so where it went."""
    try:
        yield
    except Removed as error:
        whose, options = manifest.environment, run.settings.options
        error.message = (
            f"backup {manifest.id} was removed from {storage.shown} before it was read to its end, "
            f"probably by a pruning of {whose}; the live data is as it was"
        )
        where = options if whose == run.settings.environment else f"{options} --from-env {whose}"
        error.next_step = f"inv restore {where} lists those that are there; restore one of them with --id"
        raise


def _save(run: Run, places: Mapping[str, Place], safety: Safety | None) -> str | None:
    """Back up what is about to be replaced, and return the backup's id; None where nothing is there or it is not wanted."""
    there = tuple(name for name, place in places.items() if place.looked.there)
    if safety is None or not there:
        return None
    enter(run, Phase.BACKUP)
    run.reporter.step(run.state_host, f"safety backup of {', '.join(there)}")
    try:
        kept = safety(there)
    except (Locked, Unreachable):
        raise
    except OpsError as error:
        error.message = f"the safety backup failed: {error.message}"
        error.next_step = (
            error.next_step or "--no-safety restores without one: what is live is kept all the same"
        )
        raise
    run.log.write(f"safety backup {kept}")
    return kept

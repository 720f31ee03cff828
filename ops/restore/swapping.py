"""The moment in which live data is touched: all datastores are swapped, or none."""

from __future__ import annotations

from collections.abc import Mapping

from ops.archive.manifest import Manifest
from ops.errors import NeedsPerson, OpsError, RolledBack
from ops.hosts import Cancelled
from ops.restore.places import Place, discarded, half_way, must
from ops.restore.records import record_path, remember
from ops.runs.run import Run

__all__ = ["forget", "swap"]


def swap(run: Run, places: Mapping[str, Place]) -> None:
    """Swap all, or none: what was swapped before a failure goes back."""
    swapped: list[tuple[str, Place]] = []
    for name, place in places.items():
        host = run.hosts[place.store.server]
        run.reporter.step(host.name, f"swap {name}")
        try:
            must(run, host, place.command(place.store.swap))
        except Cancelled as error:  # a second signal: it leaves at once
            raise half_way(run, name, place, error) from error
        except OpsError as error:
            told = _taken_back(run, [*swapped, (name, place)], name, error)
            if isinstance(told, RolledBack):
                for other, left in places.items():
                    discarded(run, other, left)
            raise told from error
        swapped.append((name, place))


def forget(run: Run, manifest: Manifest, places: Mapping[str, Place]) -> None:
    """The restore is done: what those before it kept goes, and so does their record."""
    for name, place in places.items():
        try:
            must(run, run.hosts[place.store.server], place.command(place.store.forget))
        except (OpsError, Cancelled) as error:
            run.warn(f"{name}: what earlier restores kept is still there: {error}")
    try:
        remember(run, manifest, places, "")
    except (OpsError, Cancelled) as error:
        run.warn(f"{run.state_host}: {record_path(run)} still names the restore before: {error}")


def _taken_back(run: Run, swapped: list[tuple[str, Place]], name: str, error: OpsError) -> OpsError:
    hosts = run.with_cancellation(run.interruption.fresh())
    for other, place in reversed(swapped):
        try:
            must(run, hosts[place.store.server], place.command(place.store.swap_back))
        except (OpsError, Cancelled) as trouble:
            return NeedsPerson(
                f"{name} could not be swapped: {error}; and {other} could not be swapped back: {trouble}",
                target=place.store.server,
                next_step=f"inv restore.undo {run.settings.options}",
            )
    return RolledBack(f"{name} could not be swapped: {error}; everything is as it was")

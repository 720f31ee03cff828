"""What a restore, its undo and a drill would do: looked at, and nothing changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ops.archive.manifest import Manifest
from ops.config import Settings
from ops.errors import UsageError
from ops.hosts import Host
from ops.restore.places import places_of, stores_for, stores_of
from ops.restore.records import record
from ops.restore.undoing import check_kept, kept_places
from ops.restore.writers import writers
from ops.runs.releases import layout_of

__all__ = ["PlannedDatastore", "RestorePlan", "plan_drill", "plan_restore", "plan_undo"]


@dataclass(frozen=True)
class PlannedDatastore:
    """One datastore that would be restored: its kind, its server, its parts, the bytes that come from the storage, as
    of when it comes back, and whether it replaces something that is live."""

    name: str
    kind: str
    server: str
    parts: tuple[str, ...] = ()
    bytes: int = 0
    as_of: str = ""
    replaces: bool = False


@dataclass(frozen=True)
class RestorePlan:
    """What would be restored or swapped back, of which backup, and the services that would stand still meanwhile."""

    backup: str
    datastores: tuple[PlannedDatastore, ...]
    stopped: tuple[str, ...] = ()
    encrypted: bool = False


def plan_restore(
    settings: Settings, hosts: Mapping[str, Host], manifest: Manifest, only: tuple[str, ...] = ()
) -> RestorePlan:
    """Return what a restore would do; raises what it would be refused for before it reads the storage."""
    places = places_of(stores_of(settings, manifest, only), hosts, manifest, only, "plan")
    planned = []
    for name, place in places.items():
        store = place.store
        wanted = {incoming.part for incoming in store.incoming(place.saved.details, place.looked, place.tag)}
        parts = [part for part in place.saved.parts if part.name in wanted]
        as_of = str(place.saved.details.get("as_of", manifest.finished_at))
        size = sum(stored.size for part in parts for stored in part.objects)
        planned.append(
            PlannedDatastore(
                name,
                store.kind,
                store.server,
                tuple(part.name for part in parts),
                size,
                as_of,
                place.looked.there,
            )
        )
    encrypted = any(part.encrypted for place in places.values() for part in place.saved.parts)
    return RestorePlan(manifest.id, tuple(planned), writers(settings, hosts).services, encrypted)


def plan_undo(settings: Settings, hosts: Mapping[str, Host], state_host: str) -> RestorePlan:
    """Return what an undo would swap back; raises UsageError where there is no restore to undo, or not any more."""
    found = record(layout_of(settings), hosts[state_host])
    if found is None:
        raise UsageError("there is no restore to undo")
    places = kept_places(settings, hosts, found)
    check_kept(settings, hosts, found, places)
    return RestorePlan(
        found["backup"],
        tuple(PlannedDatastore(name, one.store.kind, one.store.server) for name, one in places.items()),
        writers(settings, hosts, found.get("stopped", {})).services,
    )


def plan_drill(settings: Settings, manifest: Manifest, server: str | None) -> RestorePlan:
    """Return what a drill would restore into throw-away places, and on which servers."""
    if server is not None and server not in settings.config.servers:
        raise UsageError(f"there is no server {server}; there are: {', '.join(settings.config.servers)}")
    stores = stores_for(settings, {name: saved.details for name, saved in manifest.datastores.items()})
    return RestorePlan(
        manifest.id,
        tuple(
            PlannedDatastore(
                name,
                stores[name].kind,
                server or stores[name].server,
                tuple(part.name for part in saved.parts),
                saved.stored,
                manifest.finished_at,
            )
            for name, saved in manifest.datastores.items()
        ),
        encrypted=any(part.encrypted for saved in manifest.datastores.values() for part in saved.parts),
    )

"""The kinds of datastores that a backup can hold, and which of them ops.toml names.

A new kind is a file here, a model in ops/config/backups.py, a line in `configured`, and a row in the shared test.
"""

from __future__ import annotations

from ops.config import Settings
from ops.datastores.base import Datastore
from ops.datastores.files import Files
from ops.datastores.postgres import Postgres
from ops.engines.layout import Layout
from ops.engines.services import services_of
from ops.errors import ConfigError, OpsError, UsageError, gathered

__all__ = ["configured"]


def configured(settings: Settings, layout: Layout, only: tuple[str, ...] = ()) -> dict[str, Datastore]:
    """Return the datastores by name, or those in `only`.

    Raises UsageError for an unknown name and where there is none, ConfigError where it is not clear which server one is on.
    """
    found = settings.config.datastores
    stores: dict[str, Datastore] = {}
    faults: list[OpsError] = []
    for name, place in _places(settings, only, faults).items():
        if (db := found.postgres.get(name)) is not None:
            stores[name] = Postgres(
                name,
                settings.project,
                db.service,
                place,
                db.user,
                db.databases,
                db.point_in_time,
                db.wal_keep,
                slot_shared=any(
                    one.point_in_time for one in found.postgres.values() if one.service == db.service
                ),
            )
        else:
            files = found.files[name]
            path = files.path if files.path.startswith("/") else f"{layout.shared}/{files.path}"
            states = f"{layout.root}/increments" if files.increments else ""
            stores[name] = Files(name, place, path, files.include, files.exclude, states)
    if faults:
        raise gathered(faults)
    unknown = [name for name in only if name not in stores]
    known = (*found.postgres, *found.files)
    if unknown:
        raise UsageError(f"unknown datastore {unknown[0]}; known: {', '.join(known) or 'none'}")
    if not stores:
        raise UsageError(
            f"{settings.file} names nothing to back up",
            next_step="add [datastores.postgres.NAME] or [datastores.files.NAME]; see docs/config.md",
        )
    return stores


def _places(settings: Settings, only: tuple[str, ...], faults: list[OpsError]) -> dict[str, str]:
    """Return each datastore's server; where that is not clear, a fault."""
    config, places = settings.config, {}
    wanted = [(name, one.server, one.service) for name, one in config.datastores.postgres.items()]
    wanted += [(name, one.server, "") for name, one in config.datastores.files.items()]
    for name, server, service in wanted:
        if only and name not in only:
            continue
        here = [
            key for key in config.servers if not service or service in services_of(config, key, (service,))
        ]
        if server is None and len(here) != 1:
            where = f"it may be on {', '.join(here)}" if here else "no server runs its service"
            faults.append(
                ConfigError(
                    f"{settings.file}: which server is datastore {name} on? {where}",
                    next_step=f'add server = "{here[0] if here else "…"}" to it',
                )
            )
            continue
        places[name] = server or here[0]
    return places

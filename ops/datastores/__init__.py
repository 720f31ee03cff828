"""The kinds of datastores that a backup can hold, and which of them ops.toml names.

A new kind is a file here, a model in ops/config/backups.py, a line in `_MAKERS`, and a row in the shared test.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ops.config import Settings
from ops.datastores.base import Datastore
from ops.datastores.files import Files
from ops.datastores.mongodb import MongoDB
from ops.datastores.mongodb_moment import MongoDBMoment
from ops.datastores.postgres import Postgres
from ops.datastores.postgres_cluster import PostgresCluster
from ops.datastores.qdrant import Qdrant
from ops.datastores.redis import Redis
from ops.engines.layout import Layout
from ops.engines.services import services_of
from ops.errors import ConfigError, OpsError, UsageError, gathered

__all__ = ["configured", "for_restore"]

# From a name, its server, the settings, the layout there, and the table of ops.toml, whose model each kind has for itself.
_Maker = Callable[[str, str, Settings, Layout, Any], Datastore]


def _postgres(name: str, server: str, settings: Settings, layout: Layout, db: Any) -> Postgres:
    shared = any(
        one.point_in_time for one in settings.config.datastores.postgres.values() if one.service == db.service
    )
    return Postgres(
        name,
        settings.project,
        db.service,
        server,
        db.user,
        db.databases,
        db.point_in_time,
        db.wal_keep,
        slot_shared=shared,
    )


def _redis(name: str, server: str, settings: Settings, layout: Layout, db: Any) -> Redis:
    return Redis(name, settings.project, db.service, server, layout.root)


def _qdrant(name: str, server: str, settings: Settings, layout: Layout, db: Any) -> Qdrant:
    return Qdrant(name, settings.project, db.service, server, layout.root)


def _mongodb(name: str, server: str, settings: Settings, layout: Layout, db: Any) -> MongoDB:
    return MongoDB(name, settings.project, db.service, server, layout.root, db.databases, db.increments)


def _files(name: str, server: str, settings: Settings, layout: Layout, files: Any) -> Files:
    path = files.path if files.path.startswith("/") else f"{layout.shared}/{files.path}"
    states = f"{layout.root}/increments" if files.increments else ""
    return Files(name, server, path, files.include, files.exclude, states)


_MAKERS: Mapping[str, _Maker] = {
    "postgres": _postgres,
    "redis": _redis,
    "qdrant": _qdrant,
    "mongodb": _mongodb,
    "files": _files,
}


def configured(settings: Settings, layout: Layout, only: tuple[str, ...] = ()) -> dict[str, Datastore]:
    """Return the datastores by name, or those in `only`.

    Raises UsageError for an unknown name and where there is none, ConfigError where it is not clear which server one is on.
    """
    stores: dict[str, Datastore] = {}
    faults: list[OpsError] = []
    found = settings.config.datastores.every
    for kind, name, table in found:
        if only and name not in only:
            continue
        try:
            server = _server(settings, name, table.server, getattr(table, "service", ""))
        except ConfigError as error:
            faults.append(error)
            continue
        stores[name] = _MAKERS[kind](name, server, settings, layout, table)
    if faults:
        raise gathered(faults)
    unknown = [name for name in only if name not in stores]
    if unknown:
        known = ", ".join(name for _, name, _ in found)
        raise UsageError(f"unknown datastore {unknown[0]}; known: {known or 'none'}")
    if not stores:
        tables = ", ".join(f"[datastores.{kind}.NAME]" for kind in _MAKERS)
        raise UsageError(
            f"{settings.file} names nothing to back up",
            next_step=f"add one of {tables}; see docs/config.md",
        )
    return stores


def for_restore(store: Datastore, details: Mapping[str, Any]) -> Datastore:
    """Return a datastore as what a backup with these details is restored into: PostgreSQL at a moment is a whole cluster,
    and MongoDB's databases come out of a replay of the oplog."""
    if isinstance(store, Postgres) and "moment" in details:
        return PostgresCluster(store)
    if isinstance(store, MongoDB) and "moment" in details:
        return MongoDBMoment(store)
    return store


def _server(settings: Settings, name: str, server: str | None, service: str) -> str:
    """Return a datastore's server; raises ConfigError where that is not clear."""
    config = settings.config
    if server is not None:
        return server
    here = [key for key in config.servers if not service or service in services_of(config, key, (service,))]
    if len(here) == 1:
        return here[0]
    where = f"it may be on {', '.join(here)}" if here else "no server runs its service"
    raise ConfigError(
        f"{settings.file}: which server is datastore {name} on? {where}",
        next_step=f'add server = "{here[0] if here else "…"}" to it',
    )

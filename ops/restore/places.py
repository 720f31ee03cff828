"""Datastores on their way back, and what is done to each of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ops.archive.manifest import Manifest, Saved
from ops.commands import Command
from ops.config import Settings
from ops.datastores import configured, for_restore
from ops.datastores.base import Datastore, Looked
from ops.datastores.looking import look
from ops.errors import FailedUnchanged, OpsError, UsageError
from ops.hosts import Cancelled, Host
from ops.runs.releases import layout_of
from ops.runs.run import Run

__all__ = ["Place", "discarded", "must", "places_of", "stores_for", "stores_of"]


@dataclass(frozen=True)
class Place:
    """A datastore on its way back: how it was saved, what is there now, and the name of the place beside it."""

    store: Datastore
    saved: Saved
    looked: Looked
    tag: str

    def command(self, verb: Callable[..., Command]) -> Command:
        """Given a verb of the datastore, return its command for this place."""
        return verb(self.saved.details, self.looked, self.tag)


def stores_of(settings: Settings, manifest: Manifest, only: tuple[str, ...]) -> dict[str, Datastore]:
    """Return the datastores that are to be restored, without asking a server.

    Raises UsageError for what backup and ops.toml do not have in common.
    """
    chosen = _chosen(manifest, only)
    unknown = [name for name in chosen if name not in manifest.datastores]
    if unknown:
        known = ", ".join(manifest.datastores)
        raise UsageError(f"backup {manifest.id} holds no {unknown[0]}; it holds: {known}")
    stores = stores_for(settings, {name: manifest.datastores[name].details for name in chosen})
    for name in chosen:
        was, now = manifest.datastores[name].kind, stores[name].kind
        if was != now:
            raise UsageError(f"datastore {name} is {now} in ops.toml and was {was} when the backup was taken")
    return stores


def places_of(
    stores: Mapping[str, Datastore],
    hosts: Mapping[str, Host],
    manifest: Manifest,
    only: tuple[str, ...],
    tag: str,
) -> dict[str, Place]:
    """Given the datastores that `stores_of` returns, return what of a backup is to be restored where: all, or parts in `only`.

    Raises UsageError for versions that cannot read it.
    """
    looked = look(stores, hosts)
    found = {}
    for name, wanted in _chosen(manifest, only).items():
        saved = manifest.datastores[name]
        if "" not in wanted:
            details, counts = stores[name].narrowed(saved.details, saved.counts, wanted)
            saved = replace(saved, details=details, counts=counts)
        found[name] = Place(stores[name], saved, looked[name], tag)
        _check_version(found[name])
    return found


def stores_for(settings: Settings, details: Mapping[str, Mapping[str, Any]]) -> dict[str, Datastore]:
    """Given details of a backup by datastore, return what is restored into; raises as `configured` does."""
    stores = configured(settings, layout_of(settings), tuple(details))
    return {name: for_restore(store, details[name]) for name, store in stores.items()}


def discarded(run: Run, name: str, place: Place) -> str | None:
    """Remove the place beside the live data; return what is left of it all the same."""
    host = run.with_cancellation(run.interruption.cancellation)[place.store.server]
    try:
        must(run, host, place.command(place.store.discard))
    except (OpsError, Cancelled) as error:
        return f"{name} restored beside the live data on {host.name}, which the next restore removes: {error}"
    return None


def must(run: Run, host: Host, command: Command) -> str:
    """Run a command and return what it wrote; raises FailedUnchanged where it fails."""
    run.log.write(f"$ {command.shown}", host.name)
    result = host.run(command)
    if not result.ok:
        raise FailedUnchanged(f"{command.shown}: {result.last_lines}", target=host.name)
    return result.stdout + result.stderr


def _chosen(manifest: Manifest, only: tuple[str, ...]) -> dict[str, set[str]]:
    """Return the parts that are wanted of each datastore; an empty name stands for all of it."""
    chosen: dict[str, set[str]] = {}
    for written in only or tuple(manifest.datastores):
        name, _, part = written.partition("/")
        chosen.setdefault(name, set()).add(part)
    return chosen


def _check_version(place: Place) -> None:
    """A dump of a newer PostgreSQL is not for an older one (PostgreSQL's manual, pg_dump, "Notes")."""
    was, now = place.saved.versions.get("postgres", ""), place.looked.versions.get("postgres", "")
    if not (major_was := _major(was)) or not (major_now := _major(now)):
        return
    if major_was > major_now:
        raise UsageError(
            f"the backup is of PostgreSQL {was}, and {now} runs here, which cannot read it",
            target=place.store.server,
            next_step=f"deploy PostgreSQL {major_was} or newer first",
        )
    if "moment" in place.saved.details and major_was != major_now:
        raise UsageError(
            f"the backup is of PostgreSQL {was}, and {now} runs here: a moment comes back to the same major version alone",
            target=place.store.server,
            next_step="restore the dumps of a full backup: --id",
        )


def _major(version: str) -> int:
    """Return the leading number of a version such as `17beta1`, 0 where there is none."""
    found = re.match(r"\d+", version)
    return int(found[0]) if found else 0

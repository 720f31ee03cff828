"""What a backup takes of each datastore: all of it, what increments can follow, or what came since the last one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ops.archive.catalog import Catalog
from ops.archive.chains import Chain, chain_to_extend
from ops.backup.listing import backups
from ops.commands import Command
from ops.config import Settings
from ops.datastores import configured
from ops.datastores.base import Datastore, Looked, Packing, Stream
from ops.datastores.increments import Incremental, increments_of
from ops.datastores.looking import look
from ops.errors import ConfigError, FailedUnchanged, OpsError, gathered
from ops.hosts import Cancelled, Host
from ops.runs.releases import layout_of
from ops.runs.run import Run
from ops.storage.base import Storage

__all__ = ["Course", "alarms", "chain_for", "check_wanted", "courses", "progress_of", "settle"]

_FULL = "take a full backup: inv backup.full {}"


@dataclass(frozen=True)
class Course:
    """What is done with one datastore: a command before, whose output says where it begins; then its streams.

    `follows` is true where how far it came is to be kept for the next increment.
    """

    begin: Command | None
    streams: Callable[[Packing, str, Mapping[str, Any]], tuple[Stream, ...]]
    follows: bool


def check_wanted(settings: Settings, stores: Mapping[str, Datastore]) -> None:
    """Raise ConfigError where no datastore has increments."""
    if not any(map(increments_of, stores.values())):
        raise ConfigError(
            f"{settings.file} asks for no increments of any datastore",
            next_step="set point_in_time = true for PostgreSQL, or increments = true for MongoDB or files; see docs/config.md",
        )


def chain_for(settings: Settings, storage: Storage) -> Chain:
    """Return the chain that an increment is to follow; raises FailedUnchanged where there is none that it may."""
    chain, why = chain_to_extend(backups(settings, storage).entries, datetime.now(UTC))
    if why is not None:
        raise FailedUnchanged(f"no increment can be taken: {why}", next_step=_FULL.format(settings.options))
    return chain


def courses(
    settings: Settings,
    stores: Mapping[str, Datastore],
    looked: Mapping[str, Looked],
    chain: Chain = (),
    *,
    partial: bool = False,
) -> dict[str, Course]:
    """Return what a full backup, or an increment on a chain, takes of each datastore.

    A `partial` one holds dumps alone, and leaves the chain as it is. Raises ConfigError where increments are wanted and
    cannot be taken, FailedUnchanged where none can follow on the chain; all of them together.
    """
    found: dict[str, Course] = {}
    faults: list[OpsError] = []
    for name, store in stores.items():
        try:
            last = progress_of(chain, name) if chain else None
            found[name] = _course(settings, name, store, looked[name], last, partial=partial)
        except OpsError as error:
            faults.append(error)
    if faults:
        raise gathered(faults)
    return found


def alarms(settings: Settings, hosts: Mapping[str, Host], found: Catalog) -> tuple[str, ...]:
    """Return why no increment can follow on the newest chain, for each datastore that wants some."""
    stores = {
        name: store
        for name, store in configured(settings, layout_of(settings)).items()
        if increments_of(store)
    }
    chain, why = chain_to_extend(found.entries, datetime.now(UTC))
    if why is not None:
        return (why,)
    looked = look(stores, hosts)
    told = {
        name: taken.trouble(looked[name], progress_of(chain, name))
        for name, store in stores.items()
        if (taken := increments_of(store)) is not None
    }
    return tuple(f"{name}: {text}" for name, text in told.items() if text is not None)


def progress_of(chain: Chain, name: str) -> Mapping[str, Any]:
    """Return how far a datastore came in a chain, empty where nothing is known of it."""
    saved = chain[-1].datastores.get(name)
    return saved.increments if saved is not None else {}


def settle(
    run: Run, hosts: Mapping[str, Host], stores: Mapping[str, Datastore], looked: Mapping[str, Looked],
    details: Mapping[str, Mapping[str, Any]],
) -> None:  # fmt: skip
    """The backup is stored: let the datastores go of what they kept for it. What fails is done by the next one."""
    for name, store in stores.items():
        taken, now = increments_of(store), details[name].get("increments")
        if taken is None or now is None:
            continue
        command = taken.settled(looked[name], now)
        if command is None:
            continue
        run.log.write(f"$ {command.shown}", store.server)
        try:
            result = hosts[store.server].run(command)
            trouble = None if result.ok else result.last_lines
        except (OpsError, Cancelled) as error:
            trouble = str(error)
        if trouble is not None:
            run.warn(f"{name}: what is stored now is kept on {store.server} as well: {trouble}")


def _course(
    settings: Settings,
    name: str,
    store: Datastore,
    looked: Looked,
    last: Mapping[str, Any] | None,
    *,
    partial: bool,
) -> Course:
    taken = None if partial else increments_of(store)
    begin = store.begin(looked) if last is None and not partial and isinstance(store, Incremental) else None
    if taken is None:
        return Course(begin, lambda packing, mark, begun: store.streams(looked, packing, mark), False)
    if last is None:
        return Course(begin, lambda packing, mark, begun: taken.base(looked, packing, mark, begun), True)
    why = taken.trouble(looked, last)
    if why is not None:
        raise FailedUnchanged(
            f"datastore {name}: no increment can follow on the last backup: {why}",
            target=store.server,
            next_step=_FULL.format(settings.options),
        )
    return Course(None, lambda packing, mark, begun: taken.increment(looked, packing, mark, last), True)

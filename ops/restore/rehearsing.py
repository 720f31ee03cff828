"""A backup proves itself: its engine reads it, or it is restored into throw-away places and counted there.

Nothing that is live is touched, and no lock is needed: whatever is made is gone when the run is, however that ends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ops.archive.manifest import Damaged, Manifest, Part, Saved
from ops.archive.reading import Identity, check_identities, check_part, opened, unpacked
from ops.datastores import configured, for_restore
from ops.datastores.base import Counts, Datastore
from ops.datastores.looking import look
from ops.errors import FailedUnchanged, UsageError
from ops.hosts import CommandFailed
from ops.restore.filling import fill
from ops.restore.places import Place, must
from ops.restore.running import tag_of
from ops.runs.reporting import metered
from ops.runs.run import Run
from ops.storage.base import Storage

__all__ = ["proven", "rehearse"]


def proven(
    run: Run, storage: Storage, manifest: Manifest, identities: Sequence[Identity], server: str | None
) -> None:
    """Let each datastore's own tools read a backup through: verify level 2. Raises Damaged for what they cannot read.

    `server` is where that is done, each datastore's own where none is named.
    """
    check_identities(storage, manifest, identities)
    for name, store in _stores(run, manifest, server).items():
        host, saved = run.reach[store.server], manifest.datastores[name]
        for part in saved.parts:
            run.interruption.cancellation.check()
            command = store.reading(saved.details, part.name)
            if command is None:
                check_part(storage, part, run.interruption.cancellation.check)
                continue
            run.reporter.step(host.name, command.shown)
            chunks = metered(opened(storage, part, identities), run.reporter, host.name)
            packed = part.compression == "zstd"
            result = host.stream_in(command, unpacked(chunks) if packed else chunks)
            if not result.ok:
                raise Damaged(f"{name}: {part.name}: {command.shown}: {result.last_lines}")


def rehearse(
    run: Run, storage: Storage, manifest: Manifest, identities: Sequence[Identity], server: str | None
) -> dict[str, Counts]:
    """Restore a backup into throw-away places and return what is counted there: verify level 3.

    Raises Damaged where that is not what the manifest says, FailedUnchanged where the server is not up to it.
    """
    check_identities(storage, manifest, identities)
    counts = {}
    for name, store in _stores(run, manifest, server).items():
        counts[name] = _rehearsed(run, storage, name, store, manifest.datastores[name], identities)
    return counts


def _rehearsed(
    run: Run, storage: Storage, name: str, store: Datastore, saved: Saved, identities: Sequence[Identity]
) -> Counts:
    host, tag = run.reach[store.server], tag_of(run.run_id)
    scratch = store.scratch(saved.details, tag, run.layout.root)
    run.reporter.step(host.name, f"{scratch.hold.shown}, a throw-away")
    run.log.write(f"$ {scratch.hold.shown}", host.name)
    try:
        with host.stream_out(scratch.hold) as lines:
            next(lines, None)
            looked = look({name: scratch.store}, {host.name: host})[name]
            place = Place(scratch.store, saved, looked, tag)
            found = fill(run, host, storage, name, place, identities)
            must(run, host, place.command(place.store.swap))  # some see only now what they were given
            _check_rest(run, storage, place)
            return found
    except CommandFailed as error:
        raise FailedUnchanged(str(error), target=host.name) from error


def _check_rest(run: Run, storage: Storage, place: Place) -> None:
    """Hash what a restore of this kind has no use for."""
    used = {one.part for one in place.store.incoming(place.saved.details, place.looked, place.tag)}
    rest: list[Part] = [part for part in place.saved.parts if part.name not in used]
    for part in rest:
        check_part(storage, part, run.interruption.cancellation.check)


def _stores(run: Run, manifest: Manifest, server: str | None) -> Mapping[str, Datastore]:
    """Return the datastores of a backup, on the server that was chosen."""
    if server is not None and server not in run.reach:
        raise UsageError(f"there is no server {server}; there are: {', '.join(run.reach)}")
    stores = configured(run.settings, run.layout, tuple(manifest.datastores))
    return {
        name: for_restore(
            store if server is None else replace(store, server=server),  # type: ignore[type-var]  # each kind is a dataclass
            manifest.datastores[name].details,
        )
        for name, store in stores.items()
    }

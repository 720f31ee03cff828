"""A backup is checked, and streamed to the places beside what is live, and counted there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from ops.archive.manifest import Damaged, Manifest, Part
from ops.archive.reading import Identity, check_part, opened, unpacked
from ops.datastores.base import Counts, Datastore, Incoming
from ops.datastores.shell import out_of_zstd
from ops.errors import FailedUnchanged, OpsError
from ops.hosts import Host
from ops.restore.places import Place, discarded, must
from ops.runs.reporting import metered
from ops.runs.run import Run
from ops.storage.base import Storage

__all__ = ["beside", "check_all", "fill"]


def check_all(
    run: Run,
    storage: Storage,
    manifest: Manifest,
    stores: Mapping[str, Datastore],
    meanwhile: Callable[[], object],
) -> None:
    """Read everything once before anything is touched: what is damaged is found now, or never restored.

    `meanwhile` is called all along, and raises what else is found meanwhile that keeps the restore from going on.
    """

    def check() -> None:
        run.interruption.cancellation.check()
        meanwhile()

    for name, store in stores.items():
        run.reporter.step(store.server, f"check {name} in {storage.shown}")
        for part in manifest.datastores[name].parts:
            check_part(storage, part, check, partial(run.reporter.moved, store.server))


def beside(
    run: Run, storage: Storage, places: Mapping[str, Place], identities: Sequence[Identity]
) -> dict[str, Counts]:
    """Restore everything beside what is live, and count it; where that fails, what was made is removed."""
    try:
        return {
            name: fill(run, run.hosts[place.store.server], storage, name, place, identities)
            for name, place in places.items()
        }
    except BaseException as error:
        run.interruption.fresh()
        left = [text for name, place in places.items() if (text := discarded(run, name, place))]
        if isinstance(error, OpsError):
            error.left_behind = "; ".join(left) or error.left_behind
        raise


def fill(
    run: Run, host: Host, storage: Storage, name: str, place: Place, identities: Sequence[Identity]
) -> Counts:
    """Make the place of a datastore, stream a backup into it and return what is counted there.

    Raises Damaged where that is not what the manifest says, FailedUnchanged for a command that fails.
    """
    store = place.store
    parts = {part.name: part for part in place.saved.parts}
    coming = store.incoming(place.saved.details, place.looked, place.tag)
    for incoming in (one for one in coming if one.first):
        _feed(run, storage, host, parts[incoming.part], incoming, place, identities)
    must(run, host, place.command(store.beside))
    for incoming in (one for one in coming if not one.first):
        _feed(run, storage, host, parts[incoming.part], incoming, place, identities)
    found = store.counted(must(run, host, place.command(store.count)))
    _compare(name, place.saved.counts, found)
    if not place.saved.counts and any(found.values()):
        run.warn(
            f"{name}: nothing of it was counted when the backup was taken, so what came back is not compared"
        )
    return found


def _feed(
    run: Run,
    storage: Storage,
    host: Host,
    part: Part,
    incoming: Incoming,
    place: Place,
    identities: Sequence[Identity],
) -> None:
    chunks = metered(opened(storage, part, identities), run.reporter, host.name)
    if incoming.make is not None:
        packed = part.compression == "zstd"
        text = b"".join(unpacked(chunks) if packed else chunks).decode()
        if (made := incoming.make(text)) is not None:
            must(run, host, made)
        return
    command = incoming.command
    assert command is not None
    if part.compression == "zstd" and place.looked.server:
        # Unpacked where it is wanted: fewer bytes travel.
        command = replace(command, script=out_of_zstd(command.script))
    elif part.compression == "zstd":
        chunks = unpacked(chunks)
    run.reporter.step(host.name, command.shown)
    run.log.write(f"$ {command.shown}", host.name)
    result = host.stream_in(command, chunks)
    if not result.ok:
        raise FailedUnchanged(f"{command.shown}: {result.last_lines}", target=host.name)


def _compare(name: str, saved: Counts, found: Counts) -> None:
    for part, rows in saved.items():
        for what, count in rows.items():
            now = found.get(part, {}).get(what)
            if now != count:
                raise Damaged(
                    f"{name}: {part}: {what} came to {now if now is not None else 'nothing'}, and was {count} "
                    "when the backup was taken"
                )

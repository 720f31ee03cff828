"""A backup, full or an increment: every datastore streamed from its server to the storage, and the manifest last."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Literal

from ops.archive.manifest import NAME, Damaged, Manifest, Part, Saved, folder_of, manifest_key
from ops.archive.streaming import checked_recipients, send
from ops.backup.courses import Course, chain_for, check_wanted, courses, settle
from ops.backup.listing import backups
from ops.backup.pausing import Pause, paused
from ops.backup.pruning import prune
from ops.backup.running import locked
from ops.backup.verifying import verify
from ops.config import Settings
from ops.datastores import configured
from ops.datastores.base import Datastore, Looked, Packing, Stream
from ops.datastores.increments import progress_in
from ops.datastores.looking import look
from ops.errors import FailedUnchanged, OpsError
from ops.hosts import Host
from ops.hosts.fleet import each, together
from ops.outcomes import Outcome, Target
from ops.runs.during import enter
from ops.runs.interruption import Interruption
from ops.runs.noting import journalled, note
from ops.runs.phases import Phase
from ops.runs.releases import layout_of
from ops.runs.reporting import Reporter, metered
from ops.runs.run import Run, running
from ops.storage.base import Storage
from ops.storage.opening import open_storage, prefix_now

__all__ = ["BackupPlan", "PlannedStream", "Taken", "back_up", "plan_backup"]

TELLING = (
    1 << 22
)  # bytes of what a dump's tools say, beside what is for us: warnings of some ten thousand files


@dataclass(frozen=True)
class PlannedStream:
    """One object that a backup would write: the datastore, the server, what runs there, the key, where it is compressed."""

    datastore: str
    server: str
    command: str
    key: str
    compression: str


@dataclass(frozen=True)
class BackupPlan:
    """What a backup would do."""

    storage: str
    streams: tuple[PlannedStream, ...]
    kind: Literal["full", "incremental"] = "full"


@dataclass(frozen=True)
class Taken:
    """A backup that was taken: the run, the manifest, the storage that holds it, and the ids of old ones that went for it."""

    outcome: Outcome
    manifest: Manifest
    storage: str
    expired: tuple[str, ...] = ()


def plan_backup(
    settings: Settings,
    hosts: Mapping[str, Host],
    state_host: str,
    only: tuple[str, ...] = (),
    *,
    incremental: bool = False,
) -> BackupPlan:
    """Return what a backup would stream where; raises what it would be refused for. Nothing is changed."""
    storage = open_storage(settings)
    stores = configured(settings, layout_of(settings), only)
    checked_recipients(settings.config.backup.recipients)
    if incremental:
        check_wanted(settings, stores)
    looked = look(stores, hosts)
    chain = chain_for(settings, storage) if incremental else ()
    planned = courses(settings, stores, looked, chain, partial=bool(only))
    folder = folder_of(prefix_now(settings, state_host), "ID")
    return BackupPlan(
        storage.shown,
        tuple(
            PlannedStream(
                name,
                store.server,
                stream.command.shown,
                _key(settings, folder, name, stream),
                stream.compression,
            )
            for name, store in stores.items()
            for stream in planned[name].streams(_packing(settings), "plan", {})
        ),
        "incremental" if incremental else "full",
    )


def back_up(
    settings: Settings,
    hosts: Mapping[str, Host],
    state_host: str,
    reporter: Reporter,
    interruption: Interruption,
    *,
    only: tuple[str, ...] = (),
    incremental: bool = False,
    wait: float = 0.0,
    safety: bool = False,
    run_id: str | None = None,
) -> Taken:
    """Take a full backup of all datastores, or those in `only`; return what came of it, and its manifest.

    A `safety` one is of what a restore replaces: no old one goes for it, which might be the one to be restored.
    An `incremental` one is of all: what came since the last backup of the newest chain, where a datastore has increments.
    `hosts` has the servers of the datastores, and the state host for the journal. Raises Locked when another backup is
    at work on one of them for longer than `wait` seconds, Unreachable, FailedUnchanged and Interrupted: then no backup
    is listed and what had been stored of it is removed.
    """
    kind: Literal["full", "incremental"] = "incremental" if incremental else "full"
    with running(settings, f"backup.{kind}", hosts, state_host, reporter, interruption, run_id) as run:
        storage = open_storage(settings, lambda: run.interruption.cancellation.check())
        backup = settings.config.backup
        stores = configured(settings, run.layout, only)
        checked_recipients(backup.recipients)
        if incremental:
            check_wanted(settings, stores)
        prefix = prefix_now(settings, state_host)
        folder = folder_of(prefix, run.run_id)
        with journalled(run), locked(run, stores, wait):
            enter(run, Phase.BACKUP)
            with _swept(run, storage, folder):
                chain = chain_for(settings, storage) if incremental else ()
                looked = look(stores, run.reach)
                planned = courses(settings, stores, looked, chain, partial=bool(only))
                note(run, "started")
                with paused(run, backup.maintenance if backup.consistent else None) as pause:
                    saved = _dump(run, storage, stores, looked, planned, folder, pause)
                manifest = Manifest(
                    id=run.run_id,
                    kind=kind,
                    chain=chain[0].id if chain else run.run_id,
                    after=chain[-1].id if chain else "",
                    stack=settings.stack,
                    environment=settings.environment,
                    project=settings.project,
                    started_at=run.started_at,
                    finished_at=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z",
                    tool=f"opsbook {version('opsbook')}",
                    partial=bool(only),
                    safety=safety,
                    datastores=saved,
                )
                storage.put(manifest_key(prefix, run.run_id), manifest.to_json())
            settle(run, run.reach, stores, looked, {name: one.details for name, one in saved.items()})
            expired = _looked_after(run, storage, expire=not safety)
        note(run, "done", exit_code=0, seconds=run.seconds)
        targets = {name: Target("datastore", "unchanged") for name in stores}
        return Taken(run.outcome(targets), manifest, storage.shown, expired)


@contextmanager
def _swept(run: Run, storage: Storage, folder: str) -> Iterator[None]:
    """A backup that fails leaves nothing in the storage; what cannot be removed is told."""
    try:
        yield
    except BaseException as error:
        run.interruption.fresh()
        try:
            keys = [item.key for item in storage.items(folder)]
            storage.delete(
                sorted(keys, key=lambda key: not key.endswith(NAME))
            )  # a manifest without its dumps would be one
        except OpsError as trouble:
            left = f"parts of this backup in {storage.shown} below {folder}, which no list shows: {trouble}"
            if isinstance(error, OpsError):
                error.left_behind = left
            else:
                run.warn(left)
        raise


def _looked_after(run: Run, storage: Storage, *, expire: bool) -> tuple[str, ...]:
    """Verify the new backup, and only behind that let old ones go; return their ids.

    Raises Damaged where it is not what was written: it stays, for a person to look at, and so do all others.
    """
    settings, backup = run.settings, run.settings.config.backup
    found = backups(settings, storage)
    entry = next((entry for entry in found.entries if entry.id == run.run_id), None)
    if entry is None:
        raise Damaged(f"the new backup {run.run_id} is not in {storage.shown}, which took it")
    seen = verify(storage, entry, backup.verify, run.interruption.cancellation.check)
    if seen is None or seen.fault is not None:
        raise Damaged(
            f"the new backup {run.run_id} is damaged already: {seen.fault if seen else 'it is gone'}",
            left_behind=f"that backup in {storage.shown}; no old one was removed",
        )
    if not expire or not backup.keep.any:
        return ()
    try:
        gone = prune(storage, found, backup.keep, datetime.now(UTC), really=True)
    except OpsError as error:
        run.warn(f"old backups could not be removed: {error}")
        return ()
    run.log.write(f"expired: {', '.join(gone.backups) or 'none'}")
    return gone.backups


def _dump(
    run: Run,
    storage: Storage,
    stores: Mapping[str, Datastore],
    looked: Mapping[str, Looked],
    planned: Mapping[str, Course],
    folder: str,
    pause: Pause,
) -> dict[str, Saved]:
    """Stream all datastores: those of one server one after another, the servers side by side."""
    packing = _packing(run.settings)

    def dump(host: Host) -> dict[str, Saved]:
        found = {}
        for name, store in stores.items():
            if store.server != host.name:
                continue
            parts: list[Part] = []
            counts: dict[str, Mapping[str, int]] = {}
            warnings = list(looked[name].warnings)
            progress = _begun(run, host, planned[name])
            for stream in planned[name].streams(packing, run.run_id, progress):
                part, told = _stream(run, storage, host, _key(run.settings, folder, name, stream), stream)
                parts.append(part)
                counts[stream.part] = store.counts_of(told)
                warnings += store.warnings_of(told)
                progress |= progress_in(told)
                pause.check()
            for text in warnings:
                run.warn(f"{name}: {text}")
            found[name] = Saved(
                store.kind,
                host.name,
                looked[name].versions,
                tuple(parts),
                {part: rows for part, rows in counts.items() if rows},
                {
                    **store.details_of(looked[name]),
                    **({"increments": progress} if planned[name].follows else {}),
                },
                tuple(run.settings.redactor(text) for text in warnings),
            )
        run.reporter.finished(host.name, "dumped")
        return found

    servers = {store.server: run.reach[store.server] for store in stores.values()}
    saved = {name: one for found in together(each(servers, dump)).values() for name, one in found.items()}
    return {name: saved[name] for name in stores}


def _begun(run: Run, host: Host, course: Course) -> dict[str, Any]:
    """Do what comes before a datastore's streams; return what it says of where they begin."""
    if course.begin is None:
        return {}
    run.reporter.step(host.name, course.begin.shown)
    run.log.write(f"$ {course.begin.shown}", host.name)
    result = host.run(course.begin)
    if not result.ok:
        raise FailedUnchanged(f"{course.begin.shown}: {result.last_lines}", target=host.name)
    return progress_in(result.stdout)


def _stream(run: Run, storage: Storage, host: Host, key: str, stream: Stream) -> tuple[Part, str]:
    """Send one stream to the storage; return its part and what its command said."""
    backup = run.settings.config.backup
    run.reporter.step(host.name, stream.command.shown)
    run.log.write(f"$ {stream.command.shown}", host.name)
    told = _Told()
    begun = time.monotonic()
    # The command's end is heard before the upload's: a dump that fails behind its last byte is never published.
    with storage.upload(key) as upload, host.stream_out(stream.command, told.hear) as chunks:
        sent = send(
            metered(chunks, run.reporter, host.name),
            upload,
            level=backup.level if stream.compression == "operator" else None,
            threads=backup.threads,
            recipients=backup.recipients,
        )
    stored = sum(one.size for one in sent.objects)
    run.log.write(f"{key}: {stored} bytes in {time.monotonic() - begun:.1f} s", host.name)
    packed = stream.compression
    part = Part(
        stream.part,
        sent.objects,
        sent.size,
        sent.sha256,
        "zstd" if packed in ("server", "operator") else "engine" if packed == "engine" else "none",
        bool(backup.recipients),
    )
    return part, told.text


class _Told:
    """What a command says beside its data: each line that is for us, and of the others what fits into TELLING."""

    def __init__(self) -> None:
        self._lines: list[bytes] = []
        self._rest, self._room = b"", TELLING

    def hear(self, data: bytes) -> None:
        *lines, rest = (self._rest + data).split(b"\n")
        self._rest = rest[:TELLING]
        for line in lines:
            ours = line.startswith(b"ops-")
            if ours or len(line) < self._room:
                self._lines.append(line)
                self._room -= 0 if ours else len(line) + 1

    @property
    def text(self) -> str:
        return b"\n".join((*self._lines, self._rest)).decode(errors="replace")


def _packing(settings: Settings) -> Packing:
    backup = settings.config.backup
    return Packing(backup.compress, backup.level, backup.threads)


def _key(settings: Settings, folder: str, name: str, stream: Stream) -> str:
    return f"{folder}{name}.{stream.ending}{'.age' if settings.config.backup.recipients else ''}"

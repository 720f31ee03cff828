"""A full backup: every datastore streamed from its server to the storage, and the manifest last."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version

from ops.archive.manifest import Manifest, Part, Saved, folder_of, manifest_key
from ops.archive.streaming import checked_recipients, send
from ops.config import Settings
from ops.datastores import configured
from ops.datastores.base import Datastore, Looked, Packing, Stream
from ops.datastores.looking import look
from ops.errors import Interrupted, OpsError
from ops.hosts import Cancellation, Cancelled, Host
from ops.hosts.fleet import each, together
from ops.outcomes import Outcome, Target
from ops.runs.during import during
from ops.runs.interruption import Interruption
from ops.runs.journal import add, now
from ops.runs.lease import leased
from ops.runs.lock import Holder
from ops.runs.phases import Phase
from ops.runs.releases import layout_of
from ops.runs.reporting import Reporter
from ops.runs.run import Run, operator, running
from ops.storage.base import Storage
from ops.storage.opening import open_storage, prefix_now

__all__ = ["BackupPlan", "PlannedStream", "Taken", "back_up", "plan_backup"]

TELLING = 1 << 22  # bytes of what a dump says beside its data: the counts of some ten thousand tables


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


@dataclass(frozen=True)
class Taken:
    """A backup that was taken: the run, the manifest, and the storage that holds both."""

    outcome: Outcome
    manifest: Manifest
    storage: str


def plan_backup(
    settings: Settings, hosts: Mapping[str, Host], state_host: str, only: tuple[str, ...] = ()
) -> BackupPlan:
    """Return what a backup would stream where; raises what it would be refused for. Nothing is changed."""
    storage = open_storage(settings)
    stores = configured(settings, layout_of(settings), only)
    checked_recipients(settings.config.backup.recipients)
    looked = look(stores, hosts)
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
            for stream in store.streams(looked[name], _packing(settings), "plan")
        ),
    )


def back_up(
    settings: Settings,
    hosts: Mapping[str, Host],
    state_host: str,
    reporter: Reporter,
    interruption: Interruption,
    *,
    only: tuple[str, ...] = (),
    wait: float = 0.0,
) -> Taken:
    """Take a full backup of all datastores, or those in `only`; return what came of it, and its manifest.

    `hosts` has the servers of the datastores, and the state host for the journal. Raises Locked when another backup is
    at work on one of them for longer than `wait` seconds, Unreachable, FailedUnchanged and Interrupted: then no backup
    is listed and what had been stored of it is removed.
    """
    with running(settings, "backup.full", hosts, state_host, reporter, interruption) as run:
        storage = open_storage(settings, lambda: run.interruption.cancellation.check())
        stores = configured(settings, run.layout, only)
        checked_recipients(settings.config.backup.recipients)
        prefix = prefix_now(settings, state_host)
        with _told(run, storage, prefix), during(run, Phase.BACKUP), _locked(run, stores, wait):
            looked = look(stores, run.reach)
            _journal(run, "started")
            saved = _dump(run, storage, stores, looked, folder_of(prefix, run.run_id))
            manifest = Manifest(
                id=run.run_id,
                kind="full",
                chain=run.run_id,
                stack=settings.stack,
                environment=settings.environment,
                project=settings.project,
                started_at=run.started_at,
                finished_at=now(),
                tool=f"opsbook {version('opsbook')}",
                datastores=saved,
            )
            storage.put(manifest_key(prefix, run.run_id), manifest.to_json())
        _journal(run, "done", exit_code=0, seconds=run.seconds)
        targets = {name: Target("datastore", "unchanged") for name in stores}
        return Taken(run.outcome(targets), manifest, storage.shown)


@contextmanager
def _locked(run: Run, stores: Mapping[str, Datastore], wait: float) -> Iterator[None]:
    lock = run.settings.config.lock
    dumped = {store.server: run.reach[store.server] for store in stores.values()}

    def lost() -> None:
        run.overtaken = True
        run.interruption.stop()

    with leased(
        dumped,
        run.layout,
        Holder(run.run_id, run.action, operator(), run.started_at),
        stale_after=lock.stale_after,
        heartbeat=lock.heartbeat,
        wait=wait,
        cancellation=run.interruption.cancellation,
        lost=lost,
        say=run.warn,
    ):
        yield


@contextmanager
def _told(run: Run, storage: Storage, prefix: str) -> Iterator[None]:
    """A backup that fails leaves nothing in the storage; its error says so, and the journal."""
    try:
        yield
    except (OpsError, Cancelled) as error:
        told = _as_told(run, error)
    except Exception as error:
        told = run.unexpected(error)
    else:
        return
    told.left_behind = _swept(run, storage, folder_of(prefix, run.run_id))
    word = "interrupted" if isinstance(told, Interrupted) else "failed"
    _journal(
        run, word, exit_code=told.exit_code, seconds=run.seconds, message=run.settings.redactor(str(told))
    )
    told.outcome = run.outcome({})
    raise told


def _as_told(run: Run, error: OpsError | Cancelled) -> OpsError:
    if isinstance(error, OpsError):
        return error
    if run.stopped_by is not None:
        return run.stopped_by
    return Interrupted("the backup was interrupted", signal_number=run.interruption.number or 2)


def _swept(run: Run, storage: Storage, folder: str) -> str | None:
    """Remove what a failed backup had stored; return what is left all the same."""
    run.interruption.fresh()
    try:
        storage.delete([item.key for item in storage.items(folder)])
    except OpsError as error:
        return f"parts of this backup in {storage.shown} below {folder}, which no list shows: {error}"
    return None


def _journal(run: Run, event: str, **fields: object) -> None:
    host = run.reach[run.state_host].with_cancellation(Cancellation())
    try:
        result = host.run(add(run.layout, run.journal(event, **fields)))
        trouble = None if result.ok else result.last_lines
    except (OpsError, Cancelled) as error:
        trouble = str(error)
    if trouble is not None:
        run.warn(f"{run.state_host}: the journal lacks this backup: {trouble}")


def _dump(
    run: Run, storage: Storage, stores: Mapping[str, Datastore], looked: Mapping[str, Looked], folder: str
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
            warnings: list[str] = []
            for stream in store.streams(looked[name], packing, run.run_id):
                part, told = _stream(run, storage, host, _key(run.settings, folder, name, stream), stream)
                parts.append(part)
                counts[stream.part] = store.counts_of(told)
                warnings += store.warnings_of(told)
            for text in warnings:
                run.warn(f"{name}: {text}")
            found[name] = Saved(
                store.kind,
                host.name,
                looked[name].versions,
                tuple(parts),
                {part: rows for part, rows in counts.items() if rows},
                store.details_of(looked[name]),
                tuple(run.settings.redactor(text) for text in warnings),
            )
        run.reporter.finished(host.name, "dumped")
        return found

    servers = {store.server: run.reach[store.server] for store in stores.values()}
    saved = {name: one for found in together(each(servers, dump)).values() for name, one in found.items()}
    return {name: saved[name] for name in stores}


def _stream(run: Run, storage: Storage, host: Host, key: str, stream: Stream) -> tuple[Part, str]:
    """Send one stream to the storage; return its part and what its command said."""
    backup = run.settings.config.backup
    run.reporter.step(host.name, stream.command.shown)
    run.log.write(f"$ {stream.command.shown}", host.name)
    told = bytearray()

    def hear(data: bytes) -> None:
        told.extend(data[: TELLING - len(told)])

    begun = time.monotonic()
    # The command's end is heard before the upload's: a dump that fails behind its last byte is never published.
    with storage.upload(key) as upload, host.stream_out(stream.command, hear) as chunks:
        sent = send(
            chunks,
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
    return part, told.decode(errors="replace")


def _packing(settings: Settings) -> Packing:
    backup = settings.config.backup
    return Packing(backup.compress, backup.level, backup.threads)


def _key(settings: Settings, folder: str, name: str, stream: Stream) -> str:
    return f"{folder}{name}.{stream.ending}{'.age' if settings.config.backup.recipients else ''}"

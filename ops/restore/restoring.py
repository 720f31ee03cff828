"""A restore: checked, written beside what is live, counted, swapped; and the way back from it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from ops.archive.manifest import Damaged, Manifest, Part, Saved
from ops.archive.reading import Identity, check_part, opened, unpacked
from ops.commands import Command, quote
from ops.config import Settings
from ops.datastores import configured
from ops.datastores.base import Datastore, Incoming, Looked
from ops.datastores.looking import look
from ops.errors import FailedUnchanged, Interrupted, NeedsPerson, OpsError, RolledBack, UsageError
from ops.hosts import Cancelled, Host
from ops.hosts.fleet import each, together
from ops.outcomes import Outcome, Target
from ops.runs.acquiring import take_lock
from ops.runs.during import enter
from ops.runs.ending import finish
from ops.runs.interruption import Interruption
from ops.runs.lease import leased
from ops.runs.lock import Holder
from ops.runs.phases import Phase
from ops.runs.reporting import Reporter
from ops.runs.run import Run, operator, running
from ops.storage.base import Storage

__all__ = ["Restored", "restore", "undo"]


@dataclass(frozen=True)
class Restored:
    """A restore that came to its end: the run, and what is live now by datastore and part, counted."""

    outcome: Outcome
    backup: str
    counts: Mapping[str, Mapping[str, Mapping[str, int]]]


@dataclass(frozen=True)
class _Place:
    """A datastore on its way back: how it was saved, what is there now, and the name of the place beside it."""

    store: Datastore
    saved: Saved
    looked: Looked
    tag: str

    def command(self, verb: Callable[..., Command]) -> Command:
        return verb(self.saved.details, self.looked, self.tag)


def restore(
    settings: Settings,
    hosts: Mapping[str, Host],
    state_host: str,
    storage: Storage,
    manifest: Manifest,
    reporter: Reporter,
    interruption: Interruption,
    *,
    only: tuple[str, ...] = (),
    identities: Sequence[Identity] = (),
    wait: float = 0.0,
) -> Restored:
    """Bring a backup's datastores, or those in `only`, back, and return what is live then.

    Raises Damaged, UsageError, Locked, Unreachable and FailedUnchanged with the live data as it was, RolledBack where
    it had been swapped and is back, NeedsPerson where that failed, Interrupted on a signal before the swap.
    """
    with running(settings, "restore", hosts, state_host, reporter, interruption) as run, _ending(run):
        enter(run, Phase.CHECK)
        places = _places(run, manifest, only)
        for place in places.values():
            _check_version(place)
        _check(run, storage, places)
        enter(run, Phase.LOCK)
        _lock(run, wait)
        with _alone(run, places, wait):
            known = _known(run)
            _remember(run, manifest, places, known)
            try:
                counts = _beside(run, storage, places, identities)
                enter(run, Phase.SWITCH)
                with run.interruption.deferred():
                    _swap(run, places)
                    _forget(run, manifest, places)
            except NeedsPerson:
                raise  # an undo needs the record
            except BaseException:
                _put_back(run, known)
                raise
        targets = {name: Target("datastore", "changed", release=manifest.id) for name in places}
        return Restored(run.outcome(targets), manifest.id, counts)


def undo(
    settings: Settings,
    hosts: Mapping[str, Host],
    state_host: str,
    reporter: Reporter,
    interruption: Interruption,
    *,
    wait: float = 0.0,
) -> Outcome:
    """Swap back what the last restore brought, and return what came of it.

    Raises UsageError where there is nothing to undo, Locked, Unreachable, and NeedsPerson where a swap fails.
    """
    with running(settings, "restore.undo", hosts, state_host, reporter, interruption) as run, _ending(run):
        enter(run, Phase.CHECK)
        record = _record(run)
        stores = configured(settings, run.layout, tuple(record["datastores"]))
        looked = look(stores, run.reach)
        places = {
            name: _Place(stores[name], Saved(**saved), looked[name], record["tag"])
            for name, saved in record["datastores"].items()
        }
        enter(run, Phase.LOCK)
        _lock(run, wait)
        with _alone(run, places, wait):
            enter(run, Phase.SWITCH)
            with run.interruption.deferred():
                for name, place in places.items():
                    try:
                        _must(run, run.hosts[place.store.server], place.command(place.store.swap_back))
                    except (OpsError, Cancelled) as error:
                        raise _half_way(run, name, place, error) from error
                _put_back(run, record["earlier"])
                for name, place in places.items():
                    if (left := _discarded(run, name, place)) is not None:
                        run.warn(left)
        return run.outcome(
            {name: Target("datastore", "rolled_back", release=record["backup"]) for name in places}
        )


@contextmanager
def _ending(run: Run) -> Iterator[None]:
    """Write the journal's last line and give the lock back, whatever the end."""
    try:
        yield
    except Cancelled:
        told = run.stopped_by or Interrupted(
            f"{run.action} was interrupted", signal_number=run.interruption.number or 2
        )
    except Exception as caught:
        told = caught if isinstance(caught, OpsError) else run.unexpected(caught)
    else:
        finish(run, "done", 0)
        return
    run.interruption.fresh()
    words = {RolledBack: "rolled_back", Interrupted: "interrupted"}
    finish(run, words.get(type(told), "failed"), told.exit_code, str(told))
    told.outcome = run.outcome({})
    raise told


def _places(run: Run, manifest: Manifest, only: tuple[str, ...]) -> dict[str, _Place]:
    """Return what is to be restored where; raises UsageError for what backup and ops.toml do not have in common."""
    unknown = [name for name in only if name not in manifest.datastores]
    if unknown:
        known = ", ".join(manifest.datastores)
        raise UsageError(f"backup {manifest.id} holds no {unknown[0]}; it holds: {known}")
    wanted = only or tuple(manifest.datastores)
    stores = configured(run.settings, run.layout, wanted)
    for name in wanted:
        was, now = manifest.datastores[name].kind, stores[name].kind
        if was != now:
            raise UsageError(f"datastore {name} is {now} in ops.toml and was {was} when the backup was taken")
    looked = look(stores, run.reach)
    tag = run.run_id.replace("-", "").lower()
    return {name: _Place(stores[name], manifest.datastores[name], looked[name], tag) for name in wanted}


def _check_version(place: _Place) -> None:
    """A dump of a newer PostgreSQL is not for an older one (PostgreSQL's manual, pg_dump, "Notes")."""
    was, now = place.saved.versions.get("postgres"), place.looked.versions.get("postgres")
    if was and now and int(was.split(".")[0]) > int(now.split(".")[0]):
        raise UsageError(
            f"the backup is of PostgreSQL {was}, and {now} runs here, which cannot read it",
            target=place.store.server,
            next_step=f"deploy PostgreSQL {was.split('.')[0]} or newer first",
        )


def _check(run: Run, storage: Storage, places: Mapping[str, _Place]) -> None:
    """Read everything once before anything is touched: what is damaged is found now, or never restored."""
    for name, place in places.items():
        run.reporter.step(place.store.server, f"check {name} in {storage.shown}")
        for part in place.saved.parts:
            check_part(storage, part, run.interruption.cancellation.check)


def _lock(run: Run, wait: float) -> None:
    def token(host: Host) -> int:
        text = host.run(
            Command(f"cat {quote(run.layout.fence)} 2>/dev/null || true", title="which run is known here")
        )
        first = text.stdout.split(" ")[0]
        return int(first) if first.isdigit() else 0

    floor = max(together(each(run.reach, token)).values())
    holder = Holder(run.run_id, run.action, operator(), run.started_at)
    take_lock(run, holder, floor=floor, take_over=None, wait=wait)


def _alone(run: Run, places: Mapping[str, _Place], wait: float) -> AbstractContextManager[None]:
    """No backup is taken of what is being restored."""
    lock = run.settings.config.lock

    def lost() -> None:
        run.overtaken = True
        run.interruption.stop()

    return leased(
        {place.store.server: run.reach[place.store.server] for place in places.values()},
        run.layout,
        Holder(run.run_id, run.action, operator(), run.started_at),
        stale_after=lock.stale_after,
        heartbeat=lock.heartbeat,
        wait=wait,
        cancellation=run.interruption.cancellation,
        lost=lost,
        say=run.warn,
    )


def _beside(
    run: Run, storage: Storage, places: Mapping[str, _Place], identities: Sequence[Identity]
) -> dict[str, Mapping[str, Mapping[str, int]]]:
    """Restore everything beside what is live, and count it; where that fails, what was made is removed."""
    counts = {}
    try:
        for name, place in places.items():
            store, host = place.store, run.hosts[place.store.server]
            parts = {part.name: part for part in place.saved.parts}
            coming = store.incoming(place.saved.details, place.looked, place.tag)
            for incoming in (one for one in coming if one.first):
                _feed(run, storage, host, parts[incoming.part], incoming, place, identities)
            _must(run, host, place.command(store.beside))
            for incoming in (one for one in coming if not one.first):
                _feed(run, storage, host, parts[incoming.part], incoming, place, identities)
            found = store.counted(_must(run, host, place.command(store.count)))
            _compare(name, place.saved.counts, found)
            counts[name] = found
    except BaseException as error:
        run.interruption.fresh()
        left = [text for name, place in places.items() if (text := _discarded(run, name, place))]
        if isinstance(error, OpsError):
            error.left_behind = "; ".join(left) or error.left_behind
        raise
    return counts


def _discarded(run: Run, name: str, place: _Place) -> str | None:
    host = run.with_cancellation(run.interruption.cancellation)[place.store.server]
    try:
        _must(run, host, place.command(place.store.discard))
    except (OpsError, Cancelled) as error:
        return f"{name} restored beside the live data on {host.name}, which the next restore removes: {error}"
    return None


def _feed(
    run: Run,
    storage: Storage,
    host: Host,
    part: Part,
    incoming: Incoming,
    place: _Place,
    identities: Sequence[Identity],
) -> None:
    chunks = opened(storage, part, identities)
    if incoming.make is not None:
        packed = part.compression == "zstd"
        text = b"".join(unpacked(chunks) if packed else chunks).decode()
        _must(run, host, incoming.make(text))
        return
    command = incoming.command
    assert command is not None
    if part.compression == "zstd" and place.looked.server:
        # Unpacked where it is wanted: fewer bytes travel.
        command = _behind_zstd(command)
    elif part.compression == "zstd":
        chunks = unpacked(chunks)
    run.reporter.step(host.name, command.shown)
    run.log.write(f"$ {command.shown}", host.name)
    result = host.stream_in(command, chunks)
    if not result.ok:
        raise FailedUnchanged(f"{command.shown}: {result.last_lines}", target=host.name)


def _behind_zstd(command: Command) -> Command:
    script = (
        f"exec 8<&0; _ops_z=$( {{ {{ zstd -q -d -c <&8 || echo zstd >&9; }} | ( {command.script} ) >&2 || echo failed >&9; }} 9>&1 ); "
        '[ -z "$_ops_z" ]'
    )
    return Command(script, changes=command.changes, timeout=command.timeout, title=command.title)


def _compare(
    name: str, saved: Mapping[str, Mapping[str, int]], found: Mapping[str, Mapping[str, int]]
) -> None:
    for part, rows in saved.items():
        for what, count in rows.items():
            now = found.get(part, {}).get(what)
            if now != count:
                raise Damaged(
                    f"{name}: {part}: {what} came to {now if now is not None else 'nothing'}, and was {count} "
                    "when the backup was taken; nothing was swapped"
                )


def _swap(run: Run, places: Mapping[str, _Place]) -> None:
    """Swap all, or none: what was swapped before a failure goes back."""
    swapped: list[tuple[str, _Place]] = []
    for name, place in places.items():
        host = run.hosts[place.store.server]
        run.reporter.step(host.name, f"swap {name}")
        try:
            _must(run, host, place.command(place.store.swap))
        except Cancelled as error:  # a second signal: it leaves at once
            raise _half_way(run, name, place, error) from error
        except OpsError as error:
            told = _taken_back(run, [*swapped, (name, place)], name, error)
            if isinstance(told, RolledBack):
                for other, left in places.items():
                    _discarded(run, other, left)
            raise told from error
        swapped.append((name, place))


def _half_way(run: Run, name: str, place: _Place, error: Exception) -> NeedsPerson:
    return NeedsPerson(
        f"{name}: {error or 'interrupted'}",
        target=place.store.server,
        left_behind="datastores before it are swapped, those behind it are not, and this one may stand between the two",
        next_step=f"inv restore.undo {run.settings.options}",
    )


def _forget(run: Run, manifest: Manifest, places: Mapping[str, _Place]) -> None:
    """The restore is done: what those before it kept goes, and so does their record."""
    for name, place in places.items():
        try:
            _must(run, run.hosts[place.store.server], place.command(place.store.forget))
        except (OpsError, Cancelled) as error:
            run.warn(f"{name}: what earlier restores kept is still there: {error}")
    try:
        _remember(run, manifest, places, "")
    except (OpsError, Cancelled) as error:
        run.warn(f"{run.state_host}: {_record_path(run)} still names the restore before: {error}")


def _taken_back(run: Run, swapped: list[tuple[str, _Place]], name: str, error: OpsError) -> OpsError:
    hosts = run.with_cancellation(run.interruption.fresh())
    for other, place in reversed(swapped):
        try:
            _must(run, hosts[place.store.server], place.command(place.store.swap_back))
        except (OpsError, Cancelled) as trouble:
            return NeedsPerson(
                f"{name} could not be swapped: {error}; and {other} could not be swapped back: {trouble}",
                target=place.store.server,
                next_step=f"inv restore.undo {run.settings.options}",
            )
    return RolledBack(f"{name} could not be swapped: {error}; everything is as it was")


def _remember(run: Run, manifest: Manifest, places: Mapping[str, _Place], earlier: str) -> None:
    """Write down what `undo` needs, before anything is made.

    `earlier` is the record of the restore before, which stays the one to undo unless this one comes to its swap.
    """
    datastores = {
        name: {
            "kind": place.saved.kind,
            "server": place.saved.server,
            "versions": dict(place.saved.versions),
            "parts": [],
            "counts": {},
            "details": place.saved.details,
        }
        for name, place in places.items()
    }
    tag = next(iter(places.values())).tag
    record = {"backup": manifest.id, "tag": tag, "datastores": datastores, "earlier": earlier}
    run.state.put(json.dumps(record).encode(), _record_path(run), mode=0o600)


def _put_back(run: Run, known: str) -> None:
    """Let the record of the restore before be the one to undo again."""
    host = run.with_cancellation(run.interruption.fresh())[run.state_host]
    try:
        if known.strip():
            host.put(known.encode(), _record_path(run), mode=0o600)
        else:
            _must(
                run, host, Command(f"rm -f {quote(_record_path(run))}", changes="the record of the restore")
            )
    except (OpsError, Cancelled) as error:
        run.warn(f"{run.state_host}: {_record_path(run)} tells of a restore that never was: {error}")


def _known(run: Run) -> str:
    path = quote(_record_path(run))
    command = Command(f"cat {path} 2>/dev/null || true", title="what was restored last")
    return run.reach[run.state_host].run(command).stdout


def _record(run: Run) -> dict[str, Any]:
    text = _known(run)
    if not text.strip():
        raise UsageError("there is no restore to undo")
    found: dict[str, Any] = json.loads(text)
    return found


def _record_path(run: Run) -> str:
    return f"{run.layout.root}/restored.json"


def _must(run: Run, host: Host, command: Command) -> str:
    run.log.write(f"$ {command.shown}", host.name)
    result = host.run(command)
    if not result.ok:
        raise FailedUnchanged(f"{command.shown}: {result.last_lines}", target=host.name)
    return result.stdout + result.stderr

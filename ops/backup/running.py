"""What a backup and a pruning have in common: the backup lock on their servers, and lines in the journal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from ops.datastores.base import Datastore
from ops.errors import Interrupted, OpsError
from ops.hosts import Cancellation, Cancelled
from ops.runs.journal import add
from ops.runs.lease import leased
from ops.runs.lock import Holder
from ops.runs.run import Run, operator

__all__ = ["journalled", "locked", "note"]


@contextmanager
def locked(run: Run, stores: Mapping[str, Datastore], wait: float) -> Iterator[None]:
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
def journalled(run: Run) -> Iterator[None]:
    """Whatever the end, the journal has it."""
    try:
        yield
    except (OpsError, Cancelled) as error:
        told = _as_told(run, error)
    except Exception as error:
        told = run.unexpected(error)
    else:
        return
    run.interruption.fresh()
    word = "interrupted" if isinstance(told, Interrupted) else "failed"
    note(run, word, exit_code=told.exit_code, seconds=run.seconds, message=run.settings.redactor(str(told)))
    told.outcome = run.outcome({})
    raise told


def _as_told(run: Run, error: OpsError | Cancelled) -> OpsError:
    if isinstance(error, OpsError):
        return error
    if run.stopped_by is not None:
        return run.stopped_by
    return Interrupted("the backup was interrupted", signal_number=run.interruption.number or 2)


def note(run: Run, event: str, **fields: object) -> None:
    host = run.reach[run.state_host].with_cancellation(Cancellation())
    try:
        result = host.run(add(run.layout, run.journal(event, **fields)))
        trouble = None if result.ok else result.last_lines
    except (OpsError, Cancelled) as error:
        trouble = str(error)
    if trouble is not None:
        run.warn(f"{run.state_host}: the journal lacks this backup: {trouble}")

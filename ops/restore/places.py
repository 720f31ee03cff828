"""Datastores on their way back, and what is done to each of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ops.archive.manifest import Saved
from ops.commands import Command
from ops.datastores.base import Datastore, Looked
from ops.errors import FailedUnchanged, OpsError
from ops.hosts import Cancelled, Host
from ops.runs.run import Run

__all__ = ["Place", "discarded", "must"]


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

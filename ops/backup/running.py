"""What a backup and a pruning have in common: the backup lock on their servers."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager

from ops.datastores.base import Datastore
from ops.runs.lease import leased_by
from ops.runs.run import Run

__all__ = ["locked"]


def locked(run: Run, stores: Mapping[str, Datastore], wait: float) -> AbstractContextManager[None]:
    """Return a context in which the run holds the backup lock of every server with one of the datastores."""
    return leased_by(run, {store.server for store in stores.values()}, wait)

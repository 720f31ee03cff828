"""The record of the last restore on the state host: what an undo goes by."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ops.archive.manifest import Manifest
from ops.commands import Command, quote
from ops.engines.layout import Layout
from ops.errors import OpsError
from ops.hosts import Cancelled, Host
from ops.restore.places import Place, must
from ops.restore.writers import Ids
from ops.runs.run import Run

__all__ = ["keep", "known", "put_back", "record", "record_path", "remember"]


def remember(
    run: Run,
    manifest: Manifest,
    places: Mapping[str, Place],
    earlier: str,
    stopped: Ids | None = None,
    *,
    ended: bool = False,
) -> None:
    """Write down what `undo` needs, before anything is made.

    `earlier` is the record of the restore before, which stays the one to undo unless this one comes to its swap;
    `stopped` are the containers that stand still meanwhile. Of one that `ended`, all that was live is kept.
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
    keep(run, {**record, "stopped": stopped or {}, "ended": ended})


def keep(run: Run, record: Mapping[str, Any]) -> None:
    """Write the record."""
    run.state.put(json.dumps(record).encode(), record_path(run.layout), mode=0o600)


def put_back(run: Run, known: str) -> None:
    """Let the record of the restore before be the one to undo again."""
    host = run.with_cancellation(run.interruption.fresh())[run.state_host]
    try:
        if known.strip():
            host.put(known.encode(), record_path(run.layout), mode=0o600)
        else:
            must(
                run,
                host,
                Command(f"rm -f {quote(record_path(run.layout))}", changes="the record of the restore"),
            )
    except (OpsError, Cancelled) as error:
        run.warn(f"{run.state_host}: {record_path(run.layout)} tells of a restore that never was: {error}")


def known(layout: Layout, state: Host) -> str:
    """Return the record as it stands, empty where there is none."""
    path = quote(record_path(layout))
    return state.run(Command(f"cat {path} 2>/dev/null || true", title="what was restored last")).stdout


def record(layout: Layout, state: Host) -> dict[str, Any] | None:
    """Return the record, read; None where there is none."""
    text = known(layout, state)
    return json.loads(text) if text.strip() else None


def record_path(layout: Layout) -> str:
    """Return its path on the state host."""
    return f"{layout.root}/restored.json"

"""A restore drill: the newest backup restored into throw-away places, timed against the targets."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from ops.archive.manifest import Manifest
from ops.archive.reading import Identity
from ops.config import Settings
from ops.datastores.base import Counts
from ops.hosts import Host
from ops.outcomes import Outcome, Target
from ops.restore.rehearsing import rehearse
from ops.runs.during import enter
from ops.runs.interruption import Interruption
from ops.runs.noting import journalled, note
from ops.runs.phases import Phase
from ops.runs.reporting import Reporter
from ops.runs.run import running
from ops.storage.base import Storage

__all__ = ["Drilled", "drill"]


@dataclass(frozen=True)
class Drilled:
    """What a drill measured, in seconds, beside its targets.

    `rto` is from the first byte that was read to the last count; `rpo` is the age of the backup's start when the drill
    began: what would have been lost then.
    """

    outcome: Outcome
    backup: str
    rto: float
    rto_target: float
    rpo: float
    rpo_target: float
    counts: Mapping[str, Counts]

    @property
    def missed(self) -> tuple[str, ...]:
        """The targets that were missed, by name."""
        pairs = (("RTO", self.rto, self.rto_target), ("RPO", self.rpo, self.rpo_target))
        return tuple(name for name, measured, target in pairs if measured > target)


def drill(
    settings: Settings,
    hosts: Mapping[str, Host],
    state_host: str,
    storage: Storage,
    manifest: Manifest,
    reporter: Reporter,
    interruption: Interruption,
    *,
    identities: Sequence[Identity] = (),
    server: str | None = None,
    run_id: str | None = None,
) -> Drilled:
    """Rehearse the restore of a backup on its servers, or on `server`, and return what it took.

    The journal has it, whether the targets were met or not. Raises as `rehearse` does, Interrupted on a signal.
    """
    action, backup = "restore.drill", settings.config.backup
    with (
        running(settings, action, hosts, state_host, reporter, interruption, run_id=run_id) as run,
        journalled(run),
    ):
        enter(run, Phase.CHECK)
        note(run, "started")
        rpo = (datetime.now(UTC) - datetime.fromisoformat(manifest.started_at)).total_seconds()
        begun = time.monotonic()
        counts = rehearse(run, storage, manifest, identities, server)
        rto = round(time.monotonic() - begun, 3)
        targets = {name: Target("datastore", "unchanged", release=manifest.id) for name in counts}
        found = Drilled(run.outcome(targets), manifest.id, rto, backup.rto, round(rpo, 3), backup.rpo, counts)
        note(
            run,
            "failed" if found.missed else "done",
            exit_code=1 if found.missed else 0,
            seconds=run.seconds,
            message=f"backup {manifest.id}: RTO {rto:.0f} s of {backup.rto:.0f} s, RPO {rpo:.0f} s of {backup.rpo:.0f} s",
        )
        return found

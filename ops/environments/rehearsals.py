"""Backups that prove themselves, as the library's door gives it: verify levels 2 and 3, and the drill."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ops.config.servers import state_host_of
from ops.errors import OpsError
from ops.runs.interruption import Interruption
from ops.runs.reporting import Reporter
from ops.runs.watching import watched

if TYPE_CHECKING:
    from ops.archive.manifest import Manifest
    from ops.backup.verifying import Looked
    from ops.environments.environment import Environment
    from ops.restore.drilling import Drilled

__all__ = ["Rehearsal", "drill", "verify_deeply"]


@dataclass(frozen=True)
class Rehearsal:
    """How a backup is to prove itself: with which private key, and on which server (none: each datastore's own)."""

    identity: str | None = None
    server: str | None = None
    state_host: str | None = None


def verify_deeply(
    environment: Environment,
    backup: str | None,
    level: int,
    how: Rehearsal,
    reporter: Reporter,
    run_id: str | None = None,
) -> tuple[Looked, ...]:
    """Look at a backup, or at all, at level 2 or 3, write down what was found, and return it.

    Raises UsageError for an encrypted one without its key, and what keeps a server from rehearsing: neither says
    anything of the backup.
    """
    from ops.archive.reading import identities_in

    interruption, settings = Interruption(), environment.settings
    identities = identities_in(how.identity) if how.identity else ()
    with environment.hosts(interruption.cancellation, (), how.state_host) as hosts:
        from ops.backup.verifying import verify_all
        from ops.restore.rehearsing import proven, rehearse
        from ops.runs.noting import journalled, note
        from ops.runs.run import running
        from ops.storage.opening import open_storage

        state = state_host_of(settings, how.state_host)
        with (
            running(settings, "backup.verify", hosts, state, reporter, interruption, run_id) as run,
            journalled(run),
        ):
            note(run, "started")
            storage = open_storage(settings, interruption.cancellation.check)

            def prove(manifest: Manifest) -> None:
                (proven if level == 2 else rehearse)(run, storage, manifest, identities, how.server)

            found = verify_all(settings, backup, level, prove)
            bad = sum(1 for one in found if one.verified.fault)
            note(run, "failed" if bad else "done", exit_code=1 if bad else 0, seconds=run.seconds)
            return found


def drill(environment: Environment, how: Rehearsal, reporter: Reporter) -> Drilled:
    """Restore the newest whole backup into throw-away places and return what that took; see `Environment.drill`."""
    from ops.archive.reading import identities_in
    from ops.backup.listing import chosen_backup

    interruption, settings = Interruption(), environment.settings
    with (
        watched(settings, "restore.drill", reporter, pings=True) as watch,
        environment.hosts(interruption.cancellation, (), how.state_host) as hosts,
    ):
        from ops.restore.drilling import drill as rehearsed
        from ops.storage.opening import open_storage

        identities = identities_in(how.identity) if how.identity else ()
        storage = open_storage(settings, lambda: interruption.cancellation.check())
        found = rehearsed(
            settings,
            hosts,
            state_host_of(settings, how.state_host),
            storage,
            chosen_backup(settings, "latest", storage),
            reporter,
            interruption,
            identities=identities,
            server=how.server,
            run_id=watch.run_id,
        )
        if found.missed:
            error = OpsError(f"{' and '.join(found.missed)} missed")
            error.outcome = found.outcome
            watch.failed(error)
        else:
            watch.done(found.outcome)
        return found

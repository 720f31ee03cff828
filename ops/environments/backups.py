"""The backups of a stack in an environment, and what can be done with them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ops.config.servers import state_host_of
from ops.environments.arguments import listed
from ops.environments.masking import masked
from ops.errors import Interrupted, OpsError
from ops.hosts import Cancelled
from ops.runs.interruption import Interruption
from ops.runs.reporting import Reporter, Silent

if TYPE_CHECKING:
    from ops.archive.catalog import Catalog
    from ops.backup.backing_up import BackupPlan, Taken
    from ops.backup.pruning import Pruned
    from ops.backup.status import BackupStatus
    from ops.backup.verifying import Looked
    from ops.environments.environment import Environment

__all__ = ["Backups", "back_up_beside"]


class Backups:
    """Reached as `environment(NAME).backup`."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment

    def full(
        self,
        *,
        only: Sequence[str] = (),
        wait: float = 0.0,
        state_host: str | None = None,
        reporter: Reporter | None = None,
    ) -> Taken:
        """Take a full backup of all datastores, or those in `only`, and return what came of it and its manifest.

        `wait` is seconds for a backup that is at work already. Raises FailedUnchanged, StorageFailed, ConfigError, Locked,
        Unreachable, and Interrupted on a signal; then no backup is listed and nothing of it is left in the storage,
        unless the error's `left_behind` says so.
        """
        interruption = Interruption()
        settings = self._environment.settings
        with self._environment.hosts(interruption.cancellation, (), state_host) as hosts:
            from ops.backup.backing_up import back_up

            state = state_host_of(settings, state_host)
            return back_up(
                settings,
                hosts,
                state,
                reporter or Silent(),
                interruption,
                only=listed("only", only),
                wait=wait,
            )

    def incremental(
        self, *, wait: float = 0.0, state_host: str | None = None, reporter: Reporter | None = None
    ) -> Taken:
        """Take what came since the last backup of the newest chain; datastores without increments are dumped whole.

        Raises ConfigError where none has increments, FailedUnchanged where none can follow on that chain, and as `full`.
        """
        interruption = Interruption()
        settings = self._environment.settings
        with self._environment.hosts(interruption.cancellation, (), state_host) as hosts:
            from ops.backup.backing_up import back_up

            return back_up(
                settings,
                hosts,
                state_host_of(settings, state_host),
                reporter or Silent(),
                interruption,
                incremental=True,
                wait=wait,
            )

    def plan(
        self, *, only: Sequence[str] = (), incremental: bool = False, state_host: str | None = None
    ) -> BackupPlan:
        """Return what a backup would stream where; raises what it would be refused for. Nothing is changed."""
        settings = self._environment.settings
        with self._environment.reading(state_host) as hosts:
            from ops.backup.backing_up import plan_backup

            state = state_host_of(settings, state_host)
            return plan_backup(settings, hosts, state, listed("only", only), incremental=incremental)

    def verify(self, backup: str | None = None, *, level: int = 1) -> tuple[Looked, ...]:
        """Look at a backup by its id, or at all, write down what was found, and return it.

        Level 0: listed, sizes match. Level 1: read and hashed. Raises UsageError, StorageFailed.
        """
        from ops.backup.verifying import verify_all

        with masked(self._environment.settings):
            return verify_all(self._environment.settings, backup, level)

    def prune(self, *, wait: float = 0.0, state_host: str | None = None, dry_run: bool = False) -> Pruned:
        """Remove what `[backup.keep]` wants no more and what runs that died left; return what that is, or would be.

        Raises Locked while a backup is at work, StorageFailed, Unreachable.
        """
        interruption, settings = Interruption(), self._environment.settings
        with self._environment.hosts(interruption.cancellation, (), state_host) as hosts:
            from ops.backup.pruning import prune_all

            state = state_host_of(settings, state_host)
            return prune_all(settings, hosts, state, interruption, wait=wait, really=not dry_run)

    def status(self) -> BackupStatus:
        """Return how old the newest good backup is, against the RPO, and whether increments can follow on it.

        For the latter the servers of datastores with increments are asked. Raises StorageFailed where the age cannot be known.
        """
        from ops.backup.status import backup_status

        found = self.list()
        rpo = self._environment.settings.config.backup.rpo
        return backup_status(found, rpo, datetime.now(UTC), self._alarms(found))

    def _alarms(self, found: Catalog) -> tuple[str, ...]:
        stores = self._environment.settings.config.datastores
        if not any(one.point_in_time for one in stores.postgres.values()) and not any(
            one.increments for one in stores.files.values()
        ):
            return ()
        try:
            with self._environment.reading(None) as hosts:
                from ops.backup.courses import alarms

                return alarms(self._environment.settings, hosts, found)
        except OpsError as error:
            return (f"whether increments can follow is not known: {error}",)

    def list(self) -> Catalog:
        """Return the backups in the storage, the oldest first, and what runs that died left; raises StorageFailed."""
        from ops.backup.listing import backups

        with masked(self._environment.settings):
            return backups(self._environment.settings)


def back_up_beside(
    environment: Environment,
    interruption: Interruption,
    state_host: str | None,
    *,
    only: tuple[str, ...] = (),
    safety: bool = False,
    wait: float = 0.0,
) -> Taken:
    """Take a backup within another run and return it; raises Cancelled where that run is interrupted.

    It is on connections of its own: a deploy of some servers may leave out those with the data.
    """
    from ops.backup.backing_up import back_up

    settings = environment.settings
    state = state_host_of(settings, state_host)
    try:
        with environment.hosts(interruption.cancellation, (), state_host) as hosts:
            return back_up(
                settings, hosts, state, Silent(), interruption, only=only, safety=safety, wait=wait
            )
    except Interrupted:
        raise Cancelled from None

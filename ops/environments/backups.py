"""The backups of a stack in an environment, and what can be done with them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ops.config.servers import state_host_of
from ops.environments.arguments import listed
from ops.environments.masking import masked
from ops.errors import Interrupted, OpsError, UsageError
from ops.hosts import Cancellation, Cancelled
from ops.runs.interruption import Interruption
from ops.runs.reporting import Reporter, Silent, Within
from ops.runs.watching import watched

if TYPE_CHECKING:
    from ops.archive.catalog import Catalog
    from ops.backup.backing_up import BackupPlan, Taken
    from ops.backup.preparing import Prepared
    from ops.backup.pruning import Pruned
    from ops.backup.schedules import Do
    from ops.backup.scheduling import Schedule
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
        chosen = listed("only", only)
        return self._take("backup.full", chosen, wait, state_host, reporter or Silent())

    def incremental(
        self, *, wait: float = 0.0, state_host: str | None = None, reporter: Reporter | None = None
    ) -> Taken:
        """Take what came since the last backup of the newest chain; datastores without increments are dumped whole.

        Raises ConfigError where none has increments, FailedUnchanged where none can follow on that chain, and as `full`.
        """
        return self._take("backup.incremental", (), wait, state_host, reporter or Silent())

    def _take(
        self,
        action: str,
        only: tuple[str, ...],
        wait: float,
        state_host: str | None,
        reporter: Reporter,
    ) -> Taken:
        interruption, settings = Interruption(), self._environment.settings
        # A part is not what the switch waits for.
        with watched(settings, action, reporter, pings=not only) as watch:
            with self._environment.hosts(interruption.cancellation, (), state_host) as hosts:
                from ops.backup.backing_up import back_up

                taken = back_up(
                    settings,
                    hosts,
                    state_host_of(settings, state_host),
                    reporter,
                    interruption,
                    only=only,
                    incremental=action == "backup.incremental",
                    wait=wait,
                    run_id=watch.run_id,
                )
            return replace(taken, outcome=watch.done(taken.outcome))

    def plan(
        self, *, only: Sequence[str] = (), incremental: bool = False, state_host: str | None = None
    ) -> BackupPlan:
        """Return what a backup would stream where; raises what it would be refused for. Nothing is changed."""
        settings = self._environment.settings
        with self._environment.reading(state_host) as hosts:
            from ops.backup.backing_up import plan_backup

            state = state_host_of(settings, state_host)
            return plan_backup(settings, hosts, state, listed("only", only), incremental=incremental)

    def verify(
        self,
        backup: str | None = None,
        *,
        level: int = 1,
        identity: str | None = None,
        server: str | None = None,
        state_host: str | None = None,
        reporter: Reporter | None = None,
    ) -> tuple[Looked, ...]:
        """Look at a backup by its id (or `latest`), or at all, write down what was found, and return it.

        Level 0: listed, sizes match. 1: read and hashed. 2: read by its datastores' own tools. 3: restored into
        throw-away places and counted. Levels 2 and 3 are done on each datastore's server, or on `server`; an encrypted
        backup needs the file `identity` there. Raises UsageError, StorageFailed; for 2 and 3 Unreachable and
        FailedUnchanged too.
        """
        if level not in range(4):
            raise UsageError(
                f"there is no level {level}; there are 0 (all there), 1 (all read and hashed), "
                "2 (read by the engine) and 3 (restored into throw-away places, and counted)"
            )
        settings, reporter = self._environment.settings, reporter or Silent()
        with watched(settings, "backup.verify", reporter, pings=backup is None) as watch:
            if level >= 2:
                from ops.environments.rehearsals import Rehearsal, verify_deeply

                how = Rehearsal(identity, server, state_host)
                found = verify_deeply(self._environment, backup, level, how, reporter, watch.run_id)
            else:
                from ops.backup.verifying import verify_all

                with masked(settings):
                    found = verify_all(settings, backup, level)
            bad = [one for one in found if one.verified.fault]
            if bad:
                said = f"{len(bad)} of {len(found)} backup(s) damaged: {bad[-1].id}: {bad[-1].verified.fault}"
                watch.failed(OpsError(said))
            if not found:
                watch.failed(OpsError("there is no backup to verify"))
        return found

    def plan_verify(self, backup: str | None = None) -> tuple[str, ...]:
        """Return the ids of the backups that `verify` would look at; raises UsageError, StorageFailed."""
        from ops.backup.verifying import ids_to_verify

        with masked(self._environment.settings):
            return ids_to_verify(self._environment.settings, backup)

    def prune(
        self,
        *,
        wait: float = 0.0,
        state_host: str | None = None,
        dry_run: bool = False,
        reporter: Reporter | None = None,
    ) -> Pruned:
        """Remove what `[backup.keep]` wants no more and what runs that died left; return what that is, or would be.

        Raises Locked while a backup is at work, StorageFailed, Unreachable.
        """
        interruption, settings, reporter = Interruption(), self._environment.settings, reporter or Silent()
        watching = nullcontext() if dry_run else watched(settings, "backup.prune", reporter)
        with watching as watch, self._environment.hosts(interruption.cancellation, (), state_host) as hosts:
            from ops.backup.pruning import prune_all

            state = state_host_of(settings, state_host)
            run_id = watch.run_id if watch is not None else None
            return prune_all(
                settings,
                hosts,
                state,
                interruption,
                wait=wait,
                really=not dry_run,
                reporter=reporter,
                run_id=run_id,
            )

    def prepare(
        self,
        *,
        create: bool = False,
        apply: bool = False,
        state_host: str | None = None,
        dry_run: bool = False,
    ) -> Prepared:
        """Look whether the storage can take backups, and return what was found.

        `create` makes the bucket or the folder where there is none, `apply` gives the bucket its rule for uploads that
        nobody finished and for the storage class; rules of others stay. Raises StorageFailed, ConfigError.
        """
        from ops.backup.preparing import prepare

        settings = self._environment.settings
        with masked(settings):
            state = state_host_of(settings, state_host)
            return prepare(settings, state, create=create, apply=apply, really=not dry_run)

    def schedule(
        self,
        *,
        on: str = "here",
        task: str = "",
        at: str | None = None,
        calendar: str | None = None,
        every: str | None = None,
        options: Sequence[str] = (),
        wheel: str | None = None,
        do: Do = "show",
        dry_run: bool = False,
    ) -> Schedule:
        """Show, install or remove what runs a task by itself, and return what is there.

        It is on this machine (`here`), or on the server that holds the data, with all that it needs there; `wheel` is a
        file to install Opsbook from in place of a package index. When is a time of day, a systemd calendar or an
        interval such as `1h`; 02:00 where none is given. Raises UsageError, ConfigError, FailedUnchanged, Locked,
        Unreachable, NeedsPerson.
        """
        from ops.backup.outpost import schedule_there
        from ops.backup.schedules import Wish, schedule_here
        from ops.hosts.local import LocalHost
        from ops.hosts.readonly import ReadOnlyHost

        settings, wish = (
            self._environment.settings,
            Wish(task, at, calendar, every, listed("options", options)),
        )
        really = do != "show" and not dry_run
        if on != "here":
            with self._environment.hosts(Cancellation(), (on,), on) as hosts:
                there = hosts[on] if really else ReadOnlyHost(hosts[on])
                return schedule_there(settings, there, wish, do, really=really, wheel=wheel)
        with masked(settings):
            here = LocalHost("this machine")
            return schedule_here(settings, here if really else ReadOnlyHost(here), wish, do, really=really)

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
    reporter: Reporter,
    *,
    only: tuple[str, ...] = (),
    safety: bool = False,
    wait: float = 0.0,
) -> Taken:
    """Take a backup within another run, whose `reporter` shows it, and return it; raises Cancelled where that run is interrupted.

    It is on connections of its own: a deploy of some servers may leave out those with the data.
    """
    from ops.backup.backing_up import back_up

    settings = environment.settings
    state = state_host_of(settings, state_host)
    try:
        with environment.hosts(interruption.cancellation, (), state_host) as hosts:
            return back_up(
                settings, hosts, state, Within(reporter), interruption, only=only, safety=safety, wait=wait
            )
    except Interrupted:
        raise Cancelled from None

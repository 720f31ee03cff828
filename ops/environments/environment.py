"""A stack in an environment, and what can be done with it.

Each call imports what it does once its connections are being made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ops.config import Settings, Version, load, resolve_version
from ops.config.servers import chosen_servers, state_host_of
from ops.environments.arguments import listed, text
from ops.environments.masking import masked
from ops.errors import Interrupted, UsageError
from ops.hosts import Cancellation, Cancelled, Host
from ops.hosts.fleet import Fleet
from ops.hosts.local import LocalHost
from ops.outcomes import Outcome
from ops.runs.interruption import Interruption
from ops.runs.reporting import Reporter, Silent

if TYPE_CHECKING:
    from ops.archive.manifest import Manifest
    from ops.deploy.deploying import Seams
    from ops.deploy.planning import DeployPlan
    from ops.deploy.rollback_plan import RollbackPlan
    from ops.deploy.status import Status
    from ops.environments.backups import Backups
    from ops.environments.restores import RestoreOptions
    from ops.restore.drilling import Drilled
    from ops.restore.planning import RestorePlan
    from ops.restore.restoring import Restored
    from ops.runs.journal import Entry
    from ops.runs.lock import Holder
    from ops.servers.checking import Checked
    from ops.servers.preparing import Prepared
    from ops.servers.trusting import Trusted
    from ops.stack.changing import Change
    from ops.stack.looking import Row

__all__ = ["Environment", "environment"]


def environment(
    name: str | None, *, stack: str | None = None, start: Path | str | None = None
) -> Environment:
    """Return a stack in an environment; `stack` is a name under compose/ or a folder, else the current folder's.

    Raises UsageError for an unknown stack or environment, ConfigError for what is wrong in ops.toml.
    """
    return Environment(load(name, stack=stack, start=None if start is None else Path(start)))


class Environment:
    """Each call opens its own connections and closes them; nothing is kept between calls."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @property
    def backup(self) -> Backups:
        """The backups of this stack in this environment."""
        from ops.environments.backups import Backups

        return Backups(self)

    def restore(
        self,
        backup: str | None = None,
        *,
        at: str | None = None,
        only: Sequence[str] = (),
        from_environment: str | None = None,
        identity: str | None = None,
        safety: bool = True,
        wait: float = 0.0,
        state_host: str | None = None,
        reporter: Reporter | None = None,
        ask: Callable[[Manifest], object] = lambda found: None,
    ) -> Restored:
        """Bring back a backup by its id, the newest whole one (`latest`), or the state `at` a moment, and return what is live then.

        `only` picks datastores, `from_environment` takes the backup from where another environment keeps its own,
        `identity` is the file with the private key of an encrypted one, `ask` is told what would be restored and may
        raise. What is replaced is backed up before, unless `safety` is False, and stays beside what is live until the
        next restore: `undo_restore`. Raises UsageError, Damaged, Locked, Unreachable and FailedUnchanged with the live
        data as it was, RolledBack where it is so again, NeedsPerson.
        """
        from ops.environments.restores import restore

        options = self._restore_options(backup, at, only, from_environment, state_host)
        options = replace(options, identity=identity, safety=safety, wait=wait)
        return restore(self, options, reporter or Silent(), ask)

    def plan_restore(
        self,
        backup: str | None = None,
        *,
        at: str | None = None,
        only: Sequence[str] = (),
        from_environment: str | None = None,
        state_host: str | None = None,
    ) -> RestorePlan:
        """Return what a restore would do; raises what it would be refused for, as far as that is told without reading the backup."""
        from ops.environments.restores import plan_restore

        return plan_restore(self, self._restore_options(backup, at, only, from_environment, state_host))

    def plan_undo_restore(self, *, state_host: str | None = None) -> RestorePlan:
        """Return what `undo_restore` would swap back; raises UsageError where there is nothing to undo."""
        from ops.environments.restores import plan_undo

        return plan_undo(self, state_host)

    def plan_drill(self, *, server: str | None = None) -> RestorePlan:
        """Return what `drill` would restore where; raises UsageError where there is no whole backup."""
        from ops.environments.restores import plan_drill

        return plan_drill(self, server)

    def undo_restore(
        self, *, wait: float = 0.0, state_host: str | None = None, reporter: Reporter | None = None
    ) -> Outcome:
        """Swap back what the last restore brought; raises UsageError where there is none to undo."""
        from ops.runs.watching import watched

        interruption, reporter = Interruption(), reporter or Silent()
        with watched(self.settings, "restore.undo", reporter) as watch:
            with self.hosts(interruption.cancellation, (), state_host) as hosts:
                from ops.restore.undoing import undo

                state = state_host_of(self.settings, state_host)
                outcome = undo(
                    self.settings, hosts, state, reporter, interruption, wait=wait, run_id=watch.run_id
                )
            return watch.done(outcome)

    def drill(
        self,
        *,
        identity: str | None = None,
        server: str | None = None,
        state_host: str | None = None,
        reporter: Reporter | None = None,
    ) -> Drilled:
        """Restore the newest whole backup into throw-away places, on each datastore's server or on `server`.

        Returns how long that took and how old the backup was, beside the targets `rto` and `rpo`; nothing live is
        touched. Raises UsageError for an encrypted backup without `identity`, Damaged, Unreachable, FailedUnchanged.
        """
        from ops.environments.rehearsals import Rehearsal, drill

        return drill(self, Rehearsal(identity, server, state_host), reporter or Silent())

    def deploy(
        self,
        version: str | None = None,
        *,
        resume: bool = False,
        servers: Sequence[str] = (),
        wait: float = 0.0,
        state_host: str | None = None,
        allow_dirty: bool = False,
        reporter: Reporter | None = None,
    ) -> Outcome:
        """Deploy a version (default: what `version` in ops.toml means) and return what came of it.

        `wait` is seconds for a lock that another holds. Raises FailedUnchanged, ConfigError, Locked, Unreachable
        before any change, RolledBack or NeedsPerson after, Interrupted on a signal; each carries `.outcome`.
        """
        text("version", version)
        interruption, reporter = Interruption(), reporter or Silent()
        with self.hosts(interruption.cancellation, servers, state_host) as hosts:
            from ops.deploy.deploying import DeployOptions, deploy

            options = DeployOptions(resume, listed("servers", servers), wait, state_host)
            wanted = self._version(version, hosts, resume, allow_dirty, state_host)
            seams = self._seams(interruption, state_host, reporter)
            return deploy(self.settings, hosts, wanted, options, reporter, interruption, seams)

    def plan(
        self,
        version: str | None = None,
        *,
        resume: bool = False,
        servers: Sequence[str] = (),
        state_host: str | None = None,
        allow_dirty: bool = False,
    ) -> DeployPlan:
        """Return what a deploy would do, or raise what it would be refused for. Nothing is changed anywhere.

        With `resume` and no version it is the plan of the version that was under way.
        """
        text("version", version)
        with self.reading(state_host, servers) as hosts:
            from ops.deploy.deploying import plan

            wanted = self._version(version, hosts, resume, allow_dirty, state_host)
            return plan(self.settings, hosts, wanted, listed("servers", servers))

    def rollback(
        self,
        to: str | None = None,
        *,
        release_secrets: bool = False,
        servers: Sequence[str] = (),
        wait: float = 0.0,
        state_host: str | None = None,
        reporter: Reporter | None = None,
        ask: Callable[[RollbackPlan], bool] | None = None,
    ) -> Outcome:
        """Go back to an earlier release (default: the one before) and return what came of it.

        `ask` is shown the plan first, may raise, and returns whether a person confirmed this very plan; if so, a plan
        that has become another by then is refused. Secrets are today's unless `release_secrets`. Raises as `deploy` does.
        """
        text("to", to)
        interruption = Interruption()
        with self.hosts(interruption.cancellation, servers, state_host) as hosts:
            from ops.deploy.rollback_plan import RollbackOptions, rollback_plan
            from ops.deploy.rolling_back import rollback

            options = RollbackOptions(to, release_secrets, listed("servers", servers), wait, state_host)
            if ask is not None:
                found = rollback_plan(self.settings, hosts, options)
                options = replace(options, confirmed=found if ask(found) else None)
            return rollback(self.settings, hosts, options, reporter or Silent(), interruption)

    def rollback_plan(
        self, to: str | None = None, *, servers: Sequence[str] = (), state_host: str | None = None
    ) -> RollbackPlan:
        """Return where a rollback would go. Nothing is changed."""
        text("to", to)
        with self.hosts(Cancellation(), servers, state_host) as hosts:
            from ops.deploy.rollback_plan import RollbackOptions, rollback_plan

            options = RollbackOptions(to, servers=listed("servers", servers), state_host=state_host)
            return rollback_plan(self.settings, hosts, options)

    def status(self, *, state_host: str | None = None) -> Status:
        """Return what serves on each server; one that does not answer is part of the answer."""
        with self.hosts(Cancellation(), (), state_host) as hosts:
            from ops.deploy.status import status

            return status(self.settings, hosts, state_host_of(self.settings, state_host))

    def history(self, lines: int = 200, *, state_host: str | None = None) -> tuple[Entry, ...]:
        """Return the journal's newest entries, the oldest first."""
        name = state_host_of(self.settings, state_host)
        with self.hosts(Cancellation(), (name,), state_host) as hosts:
            from ops.deploy.status import history

            return history(self.settings, hosts[name], lines)

    def unlock(
        self,
        *,
        force: bool = False,
        state_host: str | None = None,
        ask: Callable[[Holder | None, float], object] = lambda holder, age: None,
    ) -> Holder | None:
        """Take the lock of a dead run away and return its holder; raises Locked when it lives, unless `force`.

        `ask` is told the holder and the seconds since its last sign of life before, and may raise.
        """
        name = state_host_of(self.settings, state_host)
        with self.hosts(Cancellation(), (name,), state_host) as hosts:
            from ops.deploy.unlocking import unlock

            return unlock(self.settings, hosts[name], force=force, ask=ask)

    def processes(self) -> tuple[Row, ...]:
        """Return the stack's containers on all servers."""
        with self.hosts(Cancellation(), (), None) as hosts:
            from ops.stack.looking import processes

            return processes(self.settings, hosts)

    def logs(
        self,
        services: Sequence[str] = (),
        *,
        tail: int = 50,
        follow: bool = False,
        write: Callable[[str], None],
    ) -> None:
        """Hand log lines to `write`, each with its server in front; `tail` is lines for each container.

        Raises Interrupted on a signal, once nothing reads on the servers any more.
        """
        interruption, chosen = Interruption(), listed("services", services)
        with interruption.listening(), self.hosts(interruption.cancellation, (), None) as hosts:
            from ops.stack.looking import logs

            try:
                logs(self.settings, hosts, chosen, tail=tail, follow=follow, write=write)
            except Cancelled:
                number = interruption.number or 2
                raise Interrupted("stack.logs was interrupted", signal_number=number) from None

    def execute(self, service: str, command: str, *, server: str | None = None) -> int:
        """Run a command line in a container of a service on this terminal; return its exit status."""
        with self.hosts(Cancellation(), (), None) as hosts:
            from ops.stack.looking import execute

            return execute(self.settings, hosts, service, command, server=server)

    def up(
        self, *, wait: float = 0.0, state_host: str | None = None, reporter: Reporter | None = None
    ) -> Outcome:
        """Start what is stopped or missing of the release that serves."""
        from ops.stack.changing import bring_up

        return self._change(wait, state_host, reporter, bring_up)

    def down(
        self, *, wait: float = 0.0, state_host: str | None = None, reporter: Reporter | None = None
    ) -> Outcome:
        """Remove containers and networks; volumes and releases stay."""
        from ops.stack.changing import take_down

        return self._change(wait, state_host, reporter, take_down)

    def restart(
        self,
        services: Sequence[str] = (),
        *,
        wait: float = 0.0,
        state_host: str | None = None,
        reporter: Reporter | None = None,
    ) -> Outcome:
        """Restart services, all where none is named."""
        from ops.stack.changing import restart

        return self._change(
            wait, state_host, reporter, lambda change: restart(change, listed("services", services))
        )

    def scale(
        self,
        service: str,
        replicas: int,
        *,
        wait: float = 0.0,
        state_host: str | None = None,
        reporter: Reporter | None = None,
    ) -> Outcome:
        """Set a service's containers on each of its servers, until the next deploy."""
        from ops.stack.changing import scale

        return self._change(wait, state_host, reporter, lambda change: scale(change, service, replicas))

    def remove(
        self,
        *,
        volumes: bool = False,
        wait: float = 0.0,
        state_host: str | None = None,
        reporter: Reporter | None = None,
    ) -> Outcome:
        """Remove the stack from its servers; with `volumes` its data as well."""
        from ops.stack.changing import remove

        return self._change(wait, state_host, reporter, lambda change: remove(change, volumes=volumes))

    def trust(
        self, servers: Sequence[str] = (), *, replace: bool = False, agree: Callable[[Trusted], bool]
    ) -> tuple[Trusted, ...]:
        """Record the host keys that `agree` accepts, and return all that were seen."""
        from ops.servers.trusting import trust

        with masked(self.settings):
            names = chosen_servers(self.settings, listed("servers", servers))
            return trust(self.settings, names, replace=replace, agree=agree)

    def check_servers(self, servers: Sequence[str] = ()) -> tuple[Checked, ...]:
        """Return what servers have and lack for a deploy; nothing is changed."""
        with self._only(servers) as hosts:
            from ops.servers.checking import check

            return check(self.settings, hosts)

    def prepare_servers(self, servers: Sequence[str] = (), *, dry_run: bool = False) -> tuple[Prepared, ...]:
        """Install Docker where it is missing, make the stack's folder, give the user the rights; return what was done."""
        with self._only(servers) as hosts:
            from ops.servers.preparing import prepare

            return prepare(self.settings, hosts, dry_run=dry_run)

    @contextmanager
    def _only(self, servers: Sequence[str]) -> Iterator[dict[str, Host]]:
        config = self.settings.config
        names = chosen_servers(self.settings, listed("servers", servers))
        with (
            Fleet(
                config, self.settings.folder, self.settings.environment, Cancellation(), only=names
            ) as fleet,
            masked(self.settings),
        ):
            yield fleet.hosts

    def _change(
        self,
        wait: float,
        state_host: str | None,
        reporter: Reporter | None,
        call: Callable[[Change], Outcome],
    ) -> Outcome:
        interruption = Interruption()
        with self.hosts(interruption.cancellation, (), state_host) as hosts:
            from ops.stack.changing import Change

            state = state_host_of(self.settings, state_host)
            return call(Change(self.settings, hosts, state, reporter or Silent(), interruption, wait))

    @contextmanager
    def hosts(
        self, cancellation: Cancellation, servers: Sequence[str], state_host: str | None
    ) -> Iterator[dict[str, Host]]:
        """Give the servers by name, all or those named, and the state host; errors of the block leave it masked."""
        names = dict.fromkeys(chosen_servers(self.settings, listed("servers", servers)))
        names[state_host_of(self.settings, state_host)] = None
        config = self.settings.config
        with (
            Fleet(config, self.settings.folder, self.settings.environment, cancellation, only=names) as fleet,
            masked(self.settings),
        ):
            yield fleet.hosts

    @contextmanager
    def reading(self, state_host: str | None, servers: Sequence[str] = ()) -> Iterator[dict[str, Host]]:
        """Give the same servers, each of which refuses what would change it."""
        from ops.hosts.readonly import ReadOnlyHost

        with self.hosts(Cancellation(), servers, state_host) as hosts:
            yield {name: ReadOnlyHost(host) for name, host in hosts.items()}

    def _restore_options(
        self,
        backup: str | None,
        at: str | None,
        only: Sequence[str],
        from_environment: str | None,
        state_host: str | None,
    ) -> RestoreOptions:
        from ops.environments.restores import RestoreOptions

        text("backup", backup)
        text("at", at)
        text("from_environment", from_environment)
        if (backup is None) == (at is None):
            raise UsageError("give either a backup or a moment to restore")
        return RestoreOptions(backup, at, listed("only", only), from_environment, state_host=state_host)

    def _version(
        self,
        version: str | None,
        hosts: dict[str, Host],
        resume: bool,
        allow_dirty: bool,
        state_host: str | None,
    ) -> Version:
        """A resumed deploy without a version goes on with the one that was under way."""
        if resume and version is None:
            from ops.deploy.resuming import unfinished_version

            found = unfinished_version(self.settings, hosts, state_host_of(self.settings, state_host))
            if found is not None:
                return resolve_version(self.settings, found)
        return resolve_version(self.settings, version, allow_dirty=allow_dirty)

    def _seams(self, interruption: Interruption, state_host: str | None, reporter: Reporter) -> Seams:
        """A backup before the migration, where that is asked for.

        Images without a registry come from a throw-away one on this machine, through SSH.
        """
        from ops.build import serve_images
        from ops.deploy.deploying import Seams

        def backup() -> str:
            from ops.environments.backups import back_up_beside

            taken = back_up_beside(self, interruption, state_host, reporter)
            return f"backup {taken.manifest.id} in {taken.storage}"

        images = serve_images(self.settings, LocalHost("this machine"), interruption.cancellation)
        return Seams(backup, images)

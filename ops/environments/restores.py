"""A restore as the library's door gives it: the backup found, a safety backup before it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ops.config import Settings, load
from ops.config.servers import state_host_of
from ops.environments.masking import masked
from ops.runs.interruption import Interruption
from ops.runs.reporting import Reporter
from ops.runs.watching import watched

if TYPE_CHECKING:
    from ops.archive.manifest import Manifest
    from ops.environments.environment import Environment
    from ops.restore.planning import RestorePlan
    from ops.restore.restoring import Restored
    from ops.storage.base import Storage

__all__ = ["RestoreOptions", "plan_drill", "plan_restore", "plan_undo", "restore"]


@dataclass(frozen=True)
class RestoreOptions:
    """What is to be restored, and how: see `Environment.restore`."""

    backup: str | None
    at: str | None = None
    only: tuple[str, ...] = ()
    from_environment: str | None = None
    identity: str | None = None
    safety: bool = True
    wait: float = 0.0
    state_host: str | None = None


def restore(
    environment: Environment,
    options: RestoreOptions,
    reporter: Reporter,
    ask: Callable[[Manifest], object] = lambda found: None,
) -> Restored:
    """Restore a backup into an environment and return what is live then; raises as `Environment.restore` says."""
    settings = environment.settings
    source = _source(settings, options.from_environment)
    interruption = Interruption()

    def safety(names: tuple[str, ...]) -> str:
        from ops.environments.backups import back_up_beside

        state = options.state_host
        taken = back_up_beside(
            environment, interruption, state, reporter, only=names, safety=True, wait=options.wait
        )
        return taken.manifest.id

    with (
        masked(source),
        environment.hosts(interruption.cancellation, (), options.state_host) as hosts,
    ):
        from ops.archive.reading import identities_in
        from ops.restore.restoring import restore as bring_back
        from ops.storage.opening import open_storage

        storage = open_storage(source, lambda: interruption.cancellation.check())
        found = _found(source, options, storage)
        identities = identities_in(options.identity) if options.identity else ()
        ask(found)
        with watched(settings, "restore", reporter) as watch:
            with masked(source), masked(settings):  # before anybody is told of a failure
                restored = bring_back(
                    settings,
                    hosts,
                    state_host_of(settings, options.state_host),
                    storage,
                    found,
                    reporter,
                    interruption,
                    only=options.only,
                    identities=identities,
                    safety=safety if options.safety else None,
                    wait=options.wait,
                    run_id=watch.run_id,
                )
            return replace(restored, outcome=watch.done(restored.outcome))


def plan_restore(environment: Environment, options: RestoreOptions) -> RestorePlan:
    """Return what a restore would do; raises what it would be refused for before it reads the storage."""
    settings = environment.settings
    source = _source(settings, options.from_environment)
    with masked(settings), masked(source), environment.reading(options.state_host) as hosts:
        from ops.restore.planning import plan_restore as plan

        return plan(settings, hosts, _found(source, options), options.only)


def plan_undo(environment: Environment, state_host: str | None) -> RestorePlan:
    """Return what `restore.undo` would swap back; raises UsageError where there is nothing to undo."""
    settings = environment.settings
    with masked(settings), environment.reading(state_host) as hosts:
        from ops.restore.planning import plan_undo as plan

        return plan(settings, hosts, state_host_of(settings, state_host))


def plan_drill(environment: Environment, server: str | None) -> RestorePlan:
    """Return what a drill would restore where; raises UsageError where there is no whole backup."""
    from ops.backup.listing import chosen_backup
    from ops.restore.planning import plan_drill as plan

    settings = environment.settings
    with masked(settings):
        return plan(settings, chosen_backup(settings, "latest"), server)


def _found(source: Settings, options: RestoreOptions, storage: Storage | None = None) -> Manifest:
    """Return the backup that is asked for."""
    from ops.backup.listing import backup_at, chosen_backup

    if options.backup is not None:
        return chosen_backup(source, options.backup, storage)
    return backup_at(source, options.at or "", options.only, storage)


def _source(settings: Settings, name: str | None) -> Settings:
    """Return the settings that say where the backup is: those of another environment of the stack, where one is named."""
    if name is None or name == settings.environment:
        return settings
    return load(name, stack=str(settings.folder))

"""Backups: taken, listed, verified, expired."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from invoke.context import Context

from ops.tasks.boundary import Answer, task
from ops.tasks.options import at_least, helps, names, target_of

if TYPE_CHECKING:
    from ops.environments import Environment

__all__ = ["full", "incremental", "list_", "prepare", "prune", "schedule", "status", "verify"]


@task(help=helps("env", "stack", "only", "state_host", "wait", "dry_run", "json", "quiet"))
def full(
    c: Context,
    env: str = "",
    stack: str = "",
    only: str = "",
    state_host: str = "",
    wait: int = 0,
    dry_run: bool = False,
    json: bool = False,
    quiet: bool = False,
) -> Answer:
    """Take a full backup of all datastores."""
    from ops.tasks.live import reporter_for

    target = target_of(env, stack)
    chosen = names("--only", only)
    if dry_run:
        return _plan(target, chosen, state_host)
    from ops.tasks.backups_showing import taken_text

    with closing(reporter_for(json=json, quiet=quiet, redact=target.settings.redactor)) as reporter:
        taken = target.backup.full(
            only=chosen,
            wait=at_least(0, "--wait", wait),
            state_host=state_host or None,
            reporter=reporter,
        )
    return Answer(taken_text(taken), data=taken.manifest, outcome=taken.outcome, settings=target.settings)


@task(help=helps("env", "stack", "state_host", "wait", "dry_run", "json", "quiet"))
def incremental(
    c: Context,
    env: str = "",
    stack: str = "",
    state_host: str = "",
    wait: int = 0,
    dry_run: bool = False,
    json: bool = False,
    quiet: bool = False,
) -> Answer:
    """Back up what came since the last backup; datastores that know no increments are dumped whole."""
    from ops.tasks.live import reporter_for

    target = target_of(env, stack)
    if dry_run:
        return _plan(target, (), state_host, incremental=True)
    from ops.tasks.backups_showing import taken_text

    with closing(reporter_for(json=json, quiet=quiet, redact=target.settings.redactor)) as reporter:
        taken = target.backup.incremental(
            wait=at_least(0, "--wait", wait), state_host=state_host or None, reporter=reporter
        )
    return Answer(taken_text(taken), data=taken.manifest, outcome=taken.outcome, settings=target.settings)


@task(name="list", help=helps("env", "stack", "dry_run", "json", "quiet"))
def list_(
    c: Context,
    env: str = "",
    stack: str = "",
    dry_run: bool = False,
    json: bool = False,
    quiet: bool = False,
) -> Answer:
    """List the backups, the newest first; exit 1 when one of them is damaged. Nothing is ever changed."""
    from ops.tasks.backups_showing import catalog_text

    target = target_of(env, stack)
    found = target.backup.list()
    bad = any(entry.fault for entry in found.entries)
    text = catalog_text(found, target.settings.options)
    return Answer(text, data=found, settings=target.settings, exit_code=1 if bad else 0)


@task(
    help=helps(
        "env",
        "stack",
        "dry_run",
        "json",
        "quiet",
        "state_host",
        id="Backup to look at, or `latest`; all without it.",
        level="0: all objects are there in their size; 1: all are read and hashed; 2: the engine's own tools read them; "
        "3: restored into throw-away places and counted.",
        identity="File with the private key of an encrypted backup, for levels 2 and 3.",
        on="Server for levels 2 and 3; each datastore's own without it.",
    )
)
def verify(
    c: Context,
    env: str = "",
    stack: str = "",
    id: str = "",  # noqa: A002  as people know it
    level: int = 1,
    identity: str = "",
    on: str = "",
    state_host: str = "",
    dry_run: bool = False,
    json: bool = False,
    quiet: bool = False,
) -> Answer:
    """Look whether backups are what was written, or can be restored; exit 1 when one is not, or there is none."""
    from ops.tasks.backups_showing import verified_text
    from ops.tasks.live import reporter_for

    target = target_of(env, stack)
    if dry_run:
        chosen = target.backup.plan_verify(id or None)
        text = "\n".join(f"Would look at {one} at level {level}" for one in chosen) or "There is no backup."
        return Answer(text, data=chosen, settings=target.settings)
    with closing(reporter_for(json=json, quiet=quiet, redact=target.settings.redactor)) as reporter:
        found = target.backup.verify(
            id or None,
            level=level,
            identity=identity or None,
            server=on or None,
            state_host=state_host or None,
            reporter=reporter,
        )
    good = found and not any(one.verified.fault for one in found)
    return Answer(verified_text(found), data=found, settings=target.settings, exit_code=0 if good else 1)


@task(help=helps("env", "stack", "state_host", "wait", "dry_run", "json", "quiet"))
def prune(
    c: Context,
    env: str = "",
    stack: str = "",
    state_host: str = "",
    wait: int = 0,
    dry_run: bool = False,
    json: bool = False,
    quiet: bool = False,
) -> Answer:
    """Remove backups that [backup.keep] wants no more, and what runs that died left in the storage."""
    from ops.tasks.backups_showing import pruned_text
    from ops.tasks.live import lines_for

    target = target_of(env, stack)
    found = target.backup.prune(
        wait=at_least(0, "--wait", wait),
        state_host=state_host or None,
        dry_run=dry_run,
        reporter=lines_for(json=json, quiet=quiet, redact=target.settings.redactor),
    )
    return Answer(pruned_text(found, dry_run=dry_run), data=found, settings=target.settings)


@task(help=helps("env", "stack", "dry_run", "json", "quiet"))
def status(
    c: Context,
    env: str = "",
    stack: str = "",
    dry_run: bool = False,
    json: bool = False,
    quiet: bool = False,
) -> Answer:
    """Show the age of the newest good backup; exit codes as Nagios has them: 0 well, 1 warning, 2 critical, 3 unknown."""
    from ops.storage.base import StorageFailed
    from ops.tasks.backups_showing import status_text

    target = target_of(env, stack)
    try:
        found = target.backup.status()
    except StorageFailed as error:
        return Answer(f"BACKUP UNKNOWN - {error}", settings=target.settings, exit_code=3)
    return Answer(status_text(found), data=found, settings=target.settings, exit_code=found.code)


@task(
    help=helps(
        "env",
        "stack",
        "yes",
        "dry_run",
        "json",
        "quiet",
        create="Make the bucket, or the folder, where there is none.",
        apply="Give the bucket its rules: uploads that nobody finished end, objects go to [backup.s3] transition_class.",
    )
)
def prepare(
    c: Context,
    env: str = "",
    stack: str = "",
    create: bool = False,
    apply: bool = False,
    yes: bool = False,
    dry_run: bool = False,
    json: bool = False,
    quiet: bool = False,
) -> Answer:
    """Look whether the storage can take backups, and keeps what it should by itself; exit 1 where it does not."""
    from ops.tasks.asking import confirm_as_configured
    from ops.tasks.backups_showing import prepared_text

    target = target_of(env, stack)
    if (create or apply) and not dry_run:
        confirm_as_configured(
            target.settings, f"Change the storage of {target.settings.environment}?", yes=yes
        )
    found = target.backup.prepare(create=create, apply=apply, dry_run=dry_run)
    text = prepared_text(found, really=not dry_run)
    return Answer(text, data=found, settings=target.settings, exit_code=0 if found.ok else 1)


@task(
    help=helps(
        "env",
        "stack",
        "yes",
        "dry_run",
        "json",
        "quiet",
        install="Put it there; without this and --remove, what is there and what would be is shown.",
        remove="Take it away: that of --task, else all of this environment.",
        on="Where it runs: `here` (the default), or the server that holds the data.",
        wheel="File that Opsbook is installed from on a server, in place of a package index.",
        task="Task that runs by itself: backup.full (the default), backup.incremental, backup.verify, restore.drill.",
        at="Time of day (default: 02:00), by the clock of the machine where it runs.",
        every="Interval in place of --at: 15m, 1h, 6h, 1d.",
        calendar="Calendar of systemd in place of --at.",
        options="Options for the task, as one text: '--level 1'.",
    )
)
def schedule(
    c: Context,
    env: str = "",
    stack: str = "",
    install: bool = False,
    remove: bool = False,
    on: str = "here",
    task: str = "",
    at: str = "",
    every: str = "",
    calendar: str = "",
    options: str = "",
    wheel: str = "",
    yes: bool = False,
    dry_run: bool = False,
    json: bool = False,
    quiet: bool = False,
) -> Answer:
    """Show, install or remove what runs backups by itself: a systemd timer, or a line for cron where systemd does not run."""
    from ops.tasks.schedules import schedule_answer

    return schedule_answer(
        target_of(env, stack),
        install=install,
        remove=remove,
        on=on,
        task=task,
        at=at,
        every=every,
        calendar=calendar,
        options=options,
        wheel=wheel,
        yes=yes,
        dry_run=dry_run,
    )


def _plan(
    target: Environment, only: tuple[str, ...], state_host: str, *, incremental: bool = False
) -> Answer:
    from ops.tasks.backups_showing import plan_text

    found = target.backup.plan(only=only, incremental=incremental, state_host=state_host or None)
    return Answer(plan_text(found), data=found, settings=target.settings)

"""Backups brought back, and a restore taken back."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from invoke.context import Context

from ops.errors import UsageError
from ops.tasks.asking import confirm_name
from ops.tasks.boundary import Answer, task
from ops.tasks.options import at_least, helps, names, target_of

if TYPE_CHECKING:
    from ops.archive.manifest import Manifest

__all__ = ["drill", "restore", "undo"]

_RUN = ("env", "stack", "state_host", "wait", "json", "quiet")
_CONFIRM = "Name of the environment, in place of typing it."


@task(
    default=True,
    help=helps(
        *_RUN,
        "dry_run",
        only="Only these datastores, or parts of them such as `db/orders`, with commas between.",
        id="Backup to restore, or `latest`; with neither it nor --at the backups are listed.",
        at="Moment to go back to, such as 2026-11-22T14:03:00Z.",
        from_env="Environment that the backup is of, where it is another one.",
        identity="File with the private key of an encrypted backup.",
        no_safety="Take no backup of what is replaced.",
        confirm=_CONFIRM,
    ),
)
def restore(
    c: Context,
    env: str = "",
    id: str = "",  # noqa: A002  as people know it
    stack: str = "",
    at: str = "",
    only: str = "",
    from_env: str = "",
    identity: str = "",
    no_safety: bool = False,
    confirm: str = "",
    state_host: str = "",
    wait: int = 0,
    dry_run: bool = False,
    json: bool = False,
    quiet: bool = False,
) -> Answer:
    """Restore a backup beside the live data, count it and swap the two; without --id or --at, list the backups."""
    from ops.tasks.backups_showing import catalog_text, moment_text, restore_plan_text, restored_text
    from ops.tasks.live import lines_for

    target = target_of(env, stack)
    settings, chosen = target.settings, names("--only", only)
    if id and at:
        raise UsageError("--id and --at exclude each other")
    if not id and not at:
        listed = (target_of(from_env, stack) if from_env else target).backup.list()
        return Answer(catalog_text(listed, settings.options), data=listed, settings=settings)

    which = {"at": at or None, "only": chosen, "from_environment": from_env or None}
    if dry_run:
        plan = target.plan_restore(id or None, **which, state_host=state_host or None)  # type: ignore[arg-type]
        return Answer(restore_plan_text(plan, safety=not no_safety), data=plan, settings=settings)

    def ask(found: Manifest) -> None:
        what = ", ".join(chosen or found.datastores)
        whose = f" of {found.environment}" if found.environment != settings.environment else ""
        confirm_name(
            settings,
            f"Put {what} of {settings.environment} back to {moment_text(found)} ({found.id}{whose})?",
            confirm,
        )

    with closing(lines_for(json=json, quiet=quiet, redact=target.settings.redactor)) as reporter:
        restored = target.restore(
            id or None,
            **which,  # type: ignore[arg-type]
            identity=identity or None,
            safety=not no_safety,
            wait=at_least(0, "--wait", wait),
            state_host=state_host or None,
            reporter=reporter,
            ask=ask,
        )
    return Answer(
        restored_text(restored, settings.options),
        data=restored.counts,
        outcome=restored.outcome,
        settings=settings,
    )


@task(help=helps(*_RUN, "dry_run", confirm=_CONFIRM))
def undo(
    c: Context,
    env: str = "",
    stack: str = "",
    confirm: str = "",
    state_host: str = "",
    wait: int = 0,
    dry_run: bool = False,
    json: bool = False,
    quiet: bool = False,
) -> Answer:
    """Swap back what the last restore brought; what was written since then goes with it."""
    from ops.tasks.backups_showing import undo_plan_text, undone_text
    from ops.tasks.live import lines_for

    target = target_of(env, stack)
    if dry_run:
        plan = target.plan_undo_restore(state_host=state_host or None)
        return Answer(undo_plan_text(plan), data=plan, settings=target.settings)
    question = f"Undo the last restore of {target.settings.environment}?"
    confirm_name(target.settings, question, confirm)
    with closing(lines_for(json=json, quiet=quiet, redact=target.settings.redactor)) as reporter:
        outcome = target.undo_restore(
            wait=at_least(0, "--wait", wait), state_host=state_host or None, reporter=reporter
        )
    return Answer(undone_text(outcome), outcome=outcome, settings=target.settings)


@task(
    help=helps(
        "env",
        "stack",
        "state_host",
        "dry_run",
        "json",
        "quiet",
        identity="File with the private key of an encrypted backup.",
        on="Server to rehearse on; each datastore's own without it.",
    )
)
def drill(
    c: Context,
    env: str = "",
    stack: str = "",
    identity: str = "",
    on: str = "",
    state_host: str = "",
    dry_run: bool = False,
    json: bool = False,
    quiet: bool = False,
) -> Answer:
    """Restore the newest backup into throw-away places and measure RTO and RPO; exit 1 when a target is missed."""
    from ops.tasks.backups_showing import drill_plan_text, drilled_text
    from ops.tasks.live import lines_for

    target = target_of(env, stack)
    if dry_run:
        plan = target.plan_drill(server=on or None)
        return Answer(drill_plan_text(plan), data=plan, settings=target.settings)
    with closing(lines_for(json=json, quiet=quiet, redact=target.settings.redactor)) as reporter:
        found = target.drill(
            identity=identity or None, server=on or None, state_host=state_host or None, reporter=reporter
        )
    return Answer(
        drilled_text(found),
        data=found,
        outcome=found.outcome,
        settings=target.settings,
        exit_code=1 if found.missed else 0,
    )

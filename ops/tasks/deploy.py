"""Deploy, rollback, and what they left."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from invoke.context import Context

from ops.tasks.asking import confirm, confirm_as_configured
from ops.tasks.boundary import Answer, task
from ops.tasks.options import at_least, helps, names, target_of
from ops.tasks.output import interactive, tell

if TYPE_CHECKING:
    from ops.environments import Environment
    from ops.runs.lock import Holder
    from ops.runs.reporting import Reporter

__all__ = ["deploy", "history", "plan", "rollback", "status", "unlock"]

_RUN = ("env", "stack", "servers", "state_host", "wait", "yes", "json", "quiet")


@task(
    default=True,
    help=helps(*_RUN, "version", "resume", "allow_dirty", "dry_run"),
)
def deploy(
    c: Context,
    env: str = "",
    version: str = "",
    stack: str = "",
    servers: str = "",
    state_host: str = "",
    resume: bool = False,
    wait: int = 0,
    allow_dirty: bool = False,
    yes: bool = False,
    dry_run: bool = False,
    json: bool = False,
    quiet: bool = False,
) -> Answer:
    """Deploy a version to an environment; what fails is rolled back."""
    if dry_run:
        return _plan(env, version, stack, servers, state_host, allow_dirty, resume)
    target = target_of(env, stack)
    chosen = names("--servers", servers)
    if target.settings.config.confirm != "no":
        question = f"Deploy {_what(target, version, chosen, resume, allow_dirty)}?"
        confirm_as_configured(target.settings, question, yes=yes)
    with _reporter(target, json, quiet) as reporter:
        outcome = target.deploy(
            version or None,
            resume=resume,
            servers=chosen,
            wait=at_least(0, "--wait", wait),
            state_host=state_host or None,
            allow_dirty=allow_dirty,
            reporter=reporter,
        )
    from ops.tasks.showing import outcome_text

    return Answer(outcome_text(outcome), outcome=outcome, settings=target.settings)


@task(help=helps("env", "stack", "version", "servers", "state_host", "allow_dirty", "json"))
def plan(
    c: Context,
    env: str = "",
    version: str = "",
    stack: str = "",
    servers: str = "",
    state_host: str = "",
    allow_dirty: bool = False,
    json: bool = False,
) -> Answer:
    """Show what a deploy would do, and change nothing."""
    return _plan(env, version, stack, servers, state_host, allow_dirty)


@task(
    help=helps(
        *_RUN,
        "dry_run",
        to="Release to go back to (default: the one before the one that serves).",
        secrets_of_release="Use the release's own secret values in place of today's.",
    )
)
def rollback(
    c: Context,
    env: str = "",
    to: str = "",
    stack: str = "",
    servers: str = "",
    state_host: str = "",
    secrets_of_release: bool = False,
    wait: int = 0,
    yes: bool = False,
    dry_run: bool = False,
    json: bool = False,
    quiet: bool = False,
) -> Answer:
    """Go back to an earlier release, with its own files and images and today's secrets."""
    from ops.deploy.rollback_plan import RollbackPlan
    from ops.tasks.showing import outcome_text, rollback_text

    target = target_of(env, stack)

    def ask(found: RollbackPlan) -> bool:
        text = rollback_text(found)
        if not (json or quiet):
            tell(target.settings.redactor(text))
        schema = "Go back although the database schema does not? (yes)"
        asked = bool(found.migrated_since) and confirm(target.settings, schema, "yes", yes=yes)
        question = f"Roll back {target.settings.environment}?"
        return confirm_as_configured(target.settings, question, yes=yes) or asked

    if dry_run:
        found = target.rollback_plan(
            to or None, servers=names("--servers", servers), state_host=state_host or None
        )
        return Answer(rollback_text(found), data=found, settings=target.settings)
    with _reporter(target, json, quiet, late=True) as reporter:
        outcome = target.rollback(
            to or None,
            release_secrets=secrets_of_release,
            servers=names("--servers", servers),
            wait=at_least(0, "--wait", wait),
            state_host=state_host or None,
            reporter=reporter,
            ask=ask,
        )
    return Answer(outcome_text(outcome), outcome=outcome, settings=target.settings)


@task(help=helps("env", "stack", "state_host", "json", "quiet"))
def status(
    c: Context, env: str = "", stack: str = "", state_host: str = "", json: bool = False, quiet: bool = False
) -> Answer:
    """Show which release serves on each server; exit 1 when something is off."""
    from ops.tasks.showing import status_text

    target = target_of(env, stack)
    found = target.status(state_host=state_host or None)
    data = {"agree": found.agree, **vars(found)}
    code = 0 if found.well else 1
    return Answer(
        status_text(found, target.settings.options), data=data, settings=target.settings, exit_code=code
    )


@task(help=helps("env", "stack", "state_host", "json", limit="How many runs."))
def history(
    c: Context, env: str = "", stack: str = "", state_host: str = "", limit: int = 20, json: bool = False
) -> Answer:
    """List the runs, the newest first."""
    from ops.deploy.status import newest
    from ops.tasks.showing import history_text

    target = target_of(env, stack)
    wanted = 2 * at_least(1, "--limit", limit)  # a run has one line or two
    entries = newest(target.history(wanted, state_host=state_host or None), limit)
    return Answer(history_text(entries), data=entries, settings=target.settings)


@task(help=helps("env", "stack", "state_host", "yes", "json", force="Also when its holder seems to live."))
def unlock(
    c: Context,
    env: str = "",
    stack: str = "",
    state_host: str = "",
    force: bool = False,
    yes: bool = False,
    json: bool = False,
) -> Answer:
    """Remove the lock that a dead run left; what it did stays as it is."""
    from ops.runs.lock import LONG

    target = target_of(env, stack)

    def ask(found: Holder | None, age: float) -> bool:
        told = f"{found.action} by {found.who} since {found.started_at}" if found else "an unknown run"
        life = "left unfinished" if age > LONG else f"last sign of life {age:.0f} s ago"
        question = f"Remove the lock of {target.settings.environment}: {told}, {life}? (yes)"
        return confirm(target.settings, question, "yes", yes=yes)

    holder = target.unlock(force=force, state_host=state_host or None, ask=ask)
    text = (
        f"Removed the lock of run {holder.run_id} ({holder.action} by {holder.who})."
        if holder
        else "There was no lock."
    )
    return Answer(text, data=holder, settings=target.settings)


def _what(
    target: Environment, version: str, servers: tuple[str, ...], resume: bool, allow_dirty: bool
) -> str:
    """Return what a deploy is about, for its question; raises what it would be refused for at once."""
    from ops.config import resolve_version
    from ops.config.servers import chosen_servers

    settings = target.settings
    where = f"{settings.environment} ({', '.join(chosen_servers(settings, servers))})"
    if resume and not version:
        return f"the version that was under way to {where}"
    return f"{resolve_version(settings, version or None, allow_dirty=allow_dirty).version} to {where}"


def _plan(
    env: str,
    version: str,
    stack: str,
    servers: str,
    state_host: str,
    allow_dirty: bool,
    resume: bool = False,
) -> Answer:
    from ops.tasks.showing import plan_text

    target = target_of(env, stack)
    found = target.plan(
        version or None,
        resume=resume,
        servers=names("--servers", servers),
        state_host=state_host or None,
        allow_dirty=allow_dirty,
    )
    return Answer(plan_text(found), data=found, settings=target.settings)


@contextmanager
def _reporter(target: Environment, json: bool, quiet: bool, late: bool = False) -> Iterator[Reporter]:
    from ops.tasks.live import reporter_for

    if not interactive(sys.stdout) or not late:
        reporter = reporter_for(json=json, quiet=quiet, redact=target.settings.redactor)
    else:
        from ops.tasks.live import Lines

        reporter = Lines(target.settings.redactor)  # a question is asked in between
    try:
        yield reporter
    finally:
        reporter.close()

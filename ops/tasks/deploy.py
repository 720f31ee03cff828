"""Deploy, rollback, and what they left."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from invoke.context import Context

from ops.tasks.boundary import Answer, about, confirm, confirm_as_configured, task
from ops.tasks.options import helps, names

if TYPE_CHECKING:
    from ops.environments import Environment
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
        return _plan(env, version, stack, servers, allow_dirty)
    target = _environment(env, stack)
    question = f"Deploy {version or 'the default version'} to {target.settings.environment}?"
    confirm_as_configured(target.settings, question, yes=yes)
    with _reporter(target, json, quiet) as reporter:
        outcome = target.deploy(
            version or None,
            resume=resume,
            servers=names(servers),
            wait=wait,
            state_host=state_host or None,
            allow_dirty=allow_dirty,
            reporter=reporter,
        )
    from ops.tasks.showing import outcome_text

    return Answer(outcome_text(outcome), outcome=outcome)


@task(help=helps("env", "stack", "version", "servers", "allow_dirty", "json"))
def plan(
    c: Context,
    env: str = "",
    version: str = "",
    stack: str = "",
    servers: str = "",
    allow_dirty: bool = False,
    json: bool = False,
) -> Answer:
    """Show what a deploy would do, and change nothing."""
    return _plan(env, version, stack, servers, allow_dirty)


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
    from ops.deploy.rolling_back import RollbackPlan
    from ops.tasks.showing import outcome_text, rollback_text

    target = _environment(env, stack)

    def ask(found: RollbackPlan) -> None:
        text = rollback_text(found)
        if not (json or quiet):
            print(text)
        if found.migrated_since:
            confirm("Go back although the database schema does not? (yes)", "yes", yes=yes)
        confirm_as_configured(target.settings, f"Roll back {target.settings.environment}?", yes=yes)

    if dry_run:
        found = target.rollback_plan(to or None, servers=names(servers), state_host=state_host or None)
        return Answer(rollback_text(found), data=found, outcome=about(target.settings))
    with _reporter(target, json, quiet, late=True) as reporter:
        outcome = target.rollback(
            to or None,
            release_secrets=secrets_of_release,
            servers=names(servers),
            wait=wait,
            state_host=state_host or None,
            reporter=reporter,
            ask=ask,
        )
    return Answer(outcome_text(outcome), outcome=outcome)


@task(help=helps("env", "stack", "state_host", "json", "quiet"))
def status(
    c: Context, env: str = "", stack: str = "", state_host: str = "", json: bool = False, quiet: bool = False
) -> Answer:
    """Show which release serves on each server; exit 1 when something is off."""
    from ops.tasks.showing import status_text

    target = _environment(env, stack)
    found = target.status(state_host=state_host or None)
    data = {"agree": found.agree, **vars(found)}
    code = 0 if found.agree else 1
    return Answer(status_text(found), data=data, outcome=about(target.settings), exit_code=code)


@task(help=helps("env", "stack", "state_host", "json", limit="How many runs."))
def history(
    c: Context, env: str = "", stack: str = "", state_host: str = "", limit: int = 20, json: bool = False
) -> Answer:
    """List the runs, the newest first."""
    from ops.tasks.showing import history_text

    target = _environment(env, stack)
    entries = target.history(state_host=state_host or None)
    return Answer(history_text(entries, limit), data=entries, outcome=about(target.settings))


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
    target = _environment(env, stack)
    confirm(f"Remove the lock of {target.settings.environment}? (yes)", "yes", yes=yes)
    holder = target.unlock(force=force, state_host=state_host or None)
    text = (
        f"Removed the lock of run {holder.run_id} ({holder.action} by {holder.who})."
        if holder
        else "There was no lock."
    )
    return Answer(text, data=holder, outcome=about(target.settings))


def _plan(env: str, version: str, stack: str, servers: str, allow_dirty: bool) -> Answer:
    from ops.tasks.showing import plan_text

    target = _environment(env, stack)
    found = target.plan(version or None, servers=names(servers), allow_dirty=allow_dirty)
    return Answer(target.settings.redactor(plan_text(found)), data=found, outcome=about(target.settings))


def _environment(env: str, stack: str) -> Environment:
    from ops.environments import environment

    return environment(env or None, stack=stack or None)


@contextmanager
def _reporter(target: Environment, json: bool, quiet: bool, late: bool = False) -> Iterator[Reporter]:
    from ops.tasks.live import reporter_for

    if not sys.stdout.isatty() or not late:
        reporter = reporter_for(json=json, quiet=quiet, redact=target.settings.redactor)
    else:
        from ops.tasks.live import Lines

        reporter = Lines(target.settings.redactor)  # a question is asked in between
    try:
        yield reporter
    finally:
        reporter.close()

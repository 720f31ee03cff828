"""Daily work on a stack that is deployed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from invoke.context import Context

from ops.errors import Interrupted, UsageError
from ops.outcomes import Outcome
from ops.tasks.asking import confirm, confirm_as_configured
from ops.tasks.boundary import Answer, task
from ops.tasks.options import at_least, helps, names, target_of
from ops.tasks.output import write

if TYPE_CHECKING:
    from ops.environments import Environment

__all__ = ["down", "exec_", "logs", "ps", "remove", "restart", "scale", "up"]

_CHANGE = ("env", "stack", "state_host", "wait", "yes", "json", "quiet")


@task(help=helps("env", "stack", "json"))
def ps(c: Context, env: str = "", stack: str = "", json: bool = False) -> Answer:
    """List the stack's containers on all servers."""
    from ops.tasks.showing import table

    target = target_of(env, stack)
    rows = target.processes()
    head = [["server", "container", "state", "health", "restarts", "image"]]
    lines = [[r.server, r.container, r.state, r.health, str(r.restarts), r.image] for r in rows]
    return Answer(table(head + lines), data=rows, settings=target.settings)


@task(
    help=helps(
        "env",
        "stack",
        service="Services, with commas between (default: all).",
        tail="Lines for each container.",
        follow="Go on until interrupted.",
    )
)
def logs(
    c: Context, env: str = "", stack: str = "", service: str = "", tail: int = 50, follow: bool = False
) -> Answer:
    """Show what services write, the server in front of each line."""
    try:
        target_of(env, stack).logs(
            names("--service", service), tail=at_least(0, "--tail", tail), follow=follow, write=write
        )
    except Interrupted as end:
        if not follow:
            raise
        return Answer(exit_code=end.exit_code)  # the way to end it, and no error
    return Answer()


@task(help=helps(*_CHANGE))
def up(
    c: Context,
    env: str = "",
    stack: str = "",
    state_host: str = "",
    wait: int = 0,
    yes: bool = False,
    json: bool = False,
    quiet: bool = False,
) -> Answer:
    """Start what is stopped or missing of the release that serves."""
    target = target_of(env, stack)
    _ask(target, "Start what is missing of {}?", yes)
    return _changed(target, target.up, state_host, wait, json, quiet)


@task(help=helps(*_CHANGE))
def down(
    c: Context,
    env: str = "",
    stack: str = "",
    state_host: str = "",
    wait: int = 0,
    yes: bool = False,
    json: bool = False,
    quiet: bool = False,
) -> Answer:
    """Stop the stack and remove its containers; volumes and releases stay."""
    target = target_of(env, stack)
    _ask(target, "Take down {}? Nothing serves then.", yes, always=True)
    return _changed(target, target.down, state_host, wait, json, quiet)


@task(help=helps(*_CHANGE, service="Services, with commas between (default: all)."))
def restart(
    c: Context,
    env: str = "",
    stack: str = "",
    service: str = "",
    state_host: str = "",
    wait: int = 0,
    yes: bool = False,
    json: bool = False,
    quiet: bool = False,
) -> Answer:
    """Restart services where they run; requests in flight may be lost."""
    target, chosen = target_of(env, stack), names("--service", service)
    _ask(target, f"Restart {', '.join(chosen) or 'all services'} of {{}}?", yes)
    call = partial(target.restart, chosen)
    return _changed(target, call, state_host, wait, json, quiet)


@task(help=helps(*_CHANGE, "service", replicas="Containers on each server that runs it."))
def scale(
    c: Context,
    env: str = "",
    stack: str = "",
    service: str = "",
    replicas: int = -1,
    state_host: str = "",
    wait: int = 0,
    yes: bool = False,
    json: bool = False,
    quiet: bool = False,
) -> Answer:
    """Set a service's number of containers, until the next deploy."""
    if not service or replicas < 0:
        raise UsageError(
            "--service and --replicas are needed", next_step="add, for example, --service api --replicas 4"
        )
    target = target_of(env, stack)
    _ask(target, f"Run {service} of {{}} {replicas} times on each of its servers?", yes)
    call = partial(target.scale, service, replicas)
    return _changed(target, call, state_host, wait, json, quiet)


@task(
    name="exec",
    help=helps("env", "stack", "service", "server", command="Command line, run by sh inside the container."),
)
def exec_(
    c: Context, env: str = "", stack: str = "", service: str = "", command: str = "", server: str = ""
) -> Answer:
    """Run a command in a container, with a terminal when there is one."""
    if not service or not command:
        raise UsageError(
            "--service and --command are needed",
            next_step="add, for example, --service web --command 'ls -l'",
        )
    return Answer(exit_code=target_of(env, stack).execute(service, command, server=server or None))


@task(help=helps(*_CHANGE, volumes="Remove the data volumes as well; the data is gone then."))
def remove(
    c: Context,
    env: str = "",
    stack: str = "",
    volumes: bool = False,
    state_host: str = "",
    wait: int = 0,
    yes: bool = False,
    json: bool = False,
    quiet: bool = False,
) -> Answer:
    """Remove the stack from its servers; data volumes only with --volumes."""
    target = target_of(env, stack)
    what = "its DATA and everything else" if volumes else "everything but its data volumes"
    name = target.settings.environment
    confirm(
        target.settings,
        f"Remove {target.settings.stack} from {name}: {what}. Type the environment's name:",
        name,
        yes=yes,
    )
    call = partial(target.remove, volumes=volumes)
    return _changed(target, call, state_host, wait, json, quiet)


def _ask(target: Environment, question: str, yes: bool, *, always: bool = False) -> None:
    """Ask as ops.toml says; `{}` in the question stands for the stack and where it runs."""
    where = f"{target.settings.stack} in {target.settings.environment}"
    confirm_as_configured(target.settings, question.format(where), yes=yes, always=always)


def _changed(
    target: Environment, call: Callable[..., Outcome], state_host: str, wait: int, json: bool, quiet: bool
) -> Answer:
    from ops.tasks.live import reporter_for
    from ops.tasks.showing import outcome_text

    reporter = reporter_for(json=json, quiet=quiet, redact=target.settings.redactor)
    try:
        outcome = call(state_host=state_host or None, wait=at_least(0, "--wait", wait), reporter=reporter)
    finally:
        reporter.close()
    return Answer(outcome_text(outcome), outcome=outcome, settings=target.settings)

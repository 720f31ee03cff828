"""Tasks of the configuration: look it over, show it, make one for a compose project that exists."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from invoke.context import Context

from ops.errors import UsageError
from ops.outcomes import Outcome
from ops.tasks.boundary import Answer, task
from ops.tasks.options import names

if TYPE_CHECKING:
    from ops.commands import Command, Result
    from ops.config.models import Server
    from ops.project import Checked, Initialised

__all__ = ["TASKS", "check", "init", "show"]

TASKS = ("check", "show")  # init stands at the top

_ENV = "Environment: the name of a table under [environments] in ops.toml."
_STACK = "Name of a folder under compose/, or the path of a stack folder."
_JSON = "Print one JSON document."


@task(help={"env": _ENV, "stack": _STACK, "json": _JSON, "quiet": "Print nothing when all is well."})
def check(c: Context, env: str = "", stack: str = "", json: bool = False, quiet: bool = False) -> Answer:
    """Look over ops.toml, compose files, values and secrets of an environment, without any server."""
    from ops.config import load
    from ops.environments.masking import masked
    from ops.project import check as look_over

    settings = load(env or None, stack=stack or None)
    with masked(settings), _renderer(None) as render:
        found = look_over(settings, render)
    data = {
        "services": found.services,
        "secrets": found.secrets,
        "secrets_wanted": found.wanted,
        "compose_asked": found.compose,
        "problems": [{"message": str(each), "next_step": each.next_step} for each in found.problems],
    }
    outcome = Outcome("config.check", found.stack, found.environment, warnings=found.warnings)
    return Answer(
        text=_checked(found), data=data, outcome=outcome, exit_code=0 if found.ok else 2, settings=settings
    )


@task(help={"env": _ENV, "stack": _STACK, "json": _JSON})
def show(c: Context, env: str = "", stack: str = "", json: bool = False) -> Answer:
    """Show the configuration in effect and where each value comes from, secrets masked."""
    from ops.config import load
    from ops.environments.masking import masked
    from ops.project import show as shown

    settings = load(env or None, stack=stack or None)
    with masked(settings):
        found = shown(settings)
    return Answer(text=found.text, data=found, settings=settings)


@task(
    help={
        "folder": "Folder of the compose project (default: the current one).",
        "files": "Compose files in order, with commas between, where they bear unusual names.",
        "server": "Host to read the project on, [user@]host[:port]; no docker is needed here then.",
        "force": "Write anew what is there already.",
        "json": _JSON,
        "quiet": "Print nothing on success.",
    }
)
def init(
    c: Context,
    folder: str = ".",
    files: str = "",
    server: str = "",
    force: bool = False,
    json: bool = False,
    quiet: bool = False,
) -> Answer:
    """Write ops.toml, tasks.py and .env.example for a compose project that exists."""
    from ops.project import init as make

    named = names("--files", files)
    where = _server(server) if server else None
    with _renderer(where) as render:
        done = make(Path(folder), render=render, files=named, server=where, force=force)
    return Answer(
        text=_made(done, addressed=where is not None),
        data=done,
        outcome=Outcome("init", Path(done.folder).name, ""),
    )


def _server(written: str) -> Server:
    from ops.config.models import Server

    match = re.fullmatch(r"(?:([^@\s]+)@)?(\[[^\]\s]+\]|[^:@\s]+)(?::(\d{1,5}))?", written)
    if not match:
        raise UsageError(f"--server {written}: not [user@]host[:port]")
    port = int(match[3]) if match[3] else None
    if port is not None and not 0 < port < 65536:
        raise UsageError(f"--server {written}: no port {port}")
    return Server(address=match[2].strip("[]"), user=match[1] or "", port=port)


@contextmanager
def _renderer(server: Server | None) -> Iterator[Callable[[Command], Result] | None]:
    """Give what runs docker compose: the server, else this machine, else nothing."""
    from ops.config import StackConfig
    from ops.hosts import Cancellation

    if server is not None:
        from ops.hosts.fleet import Fleet

        config = StackConfig(servers={"app": server})
        with Fleet(config, Path.cwd(), "init", Cancellation()) as fleet:
            yield fleet["app"].run
    elif shutil.which("docker") is None:
        yield None
    else:
        from ops.hosts.local import LocalHost

        host = LocalHost("this machine")
        try:
            yield host.run
        finally:
            host.close()


def _checked(found: Checked) -> str:
    lines = [
        f"Problem: {each}" + (f"\n  Next: {each.next_step}" if each.next_step else "")
        for each in found.problems
    ]
    lines += [f"Warning: {each}" for each in found.warnings]
    if found.ok and not found.compose:
        lines.append(
            "Not asked: Compose itself, which is not on this machine; deploy.plan asks it on the servers."
        )
    secrets = f"{found.secrets} of {_count(found.wanted, 'secret')} with a value"
    what = f"{found.stack}, {found.environment}: {_count(len(found.services), 'service')}, {secrets}"
    lines.append(
        f"{what}, {_count(len(found.problems), 'problem')}, {_count(len(found.warnings), 'warning')}"
    )
    return "\n".join(lines)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _made(done: Initialised, *, addressed: bool) -> str:
    lines = [f"Wrote {', '.join(done.written)} in {done.folder}."]
    if done.kept:
        lines.append(f"Kept what was there: {', '.join(done.kept)} (--force writes anew).")
    lines += [f"Look: {remark}" for remark in done.remarks]
    if done.secrets:
        lines.append(
            f"Secrets, by their names: {', '.join(done.secrets)}. Give them values in .env.<environment>."
        )
    if addressed:
        lines.append("Next: read ops.toml, then inv config.check --env <environment>")
    else:
        lines.append(
            "Next: read ops.toml, give [servers.app] the address of your server, "
            "then inv config.check --env <environment>"
        )
    return "\n".join(lines)

"""Task of the images that a stack builds itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from invoke.context import Context

from ops.errors import Interrupted
from ops.outcomes import Outcome
from ops.tasks.boundary import Answer, task
from ops.tasks.options import helps, names
from ops.tasks.output import say

if TYPE_CHECKING:
    from ops.build import Built
    from ops.build.planning import Planned

__all__ = ["build"]


@task(
    default=True,
    help=helps(
        *("env", "stack", "version", "allow_dirty", "json", "quiet"),
        service="Services, with commas between (default: all with `build:`).",
        push="Push to [build] registry; without one there images always go to a throw-away registry.",
        dry_run="Print the commands; build nothing.",
    ),
)
def build(
    c: Context,
    env: str = "",
    stack: str = "",
    version: str = "",
    service: str = "",
    push: bool = False,
    allow_dirty: bool = False,
    dry_run: bool = False,
    json: bool = False,
    quiet: bool = False,
) -> Answer:
    """Build the stack's images on this machine, with version and commit in their labels."""
    from ops.build import build as make
    from ops.build import plan
    from ops.config import load, resolve_version
    from ops.environments.masking import masked
    from ops.hosts import Cancelled
    from ops.hosts.local import LocalHost
    from ops.runs.interruption import Interruption

    settings = load(env or None, stack=stack or None)
    services = names("--service", service)
    interruption = Interruption()
    host = LocalHost("this machine", cancellation=interruption.cancellation)
    with masked(settings), interruption.listening():
        try:
            wanted = resolve_version(settings, version or None, allow_dirty=allow_dirty)
            if dry_run:
                planned = plan(settings, host, wanted, services=services, push=push)
                outcome = Outcome("build", settings.stack, settings.environment, version=wanted.version)
                return Answer(
                    _planned(planned), {"dry_run": True, "images": planned}, outcome, settings=settings
                )
            built = make(
                settings,
                host,
                wanted,
                services=services,
                push=push,
                say=_silent if quiet else say,
                cancellation=interruption.cancellation,
            )
        except Cancelled:
            raise Interrupted(
                "the build was interrupted; nothing was deployed", signal_number=interruption.number or 2
            ) from None
    return Answer(_built(built), {"images": built.images}, built.outcome, settings=settings)


def _silent(line: str) -> None:
    pass


def _planned(planned: tuple[Planned, ...]) -> str:
    if not planned:
        return "Nothing to build: no service of the compose files has `build:`."
    lines = []
    for each in planned:
        lines += [f"{each.service}: {each.reference} ({each.way})", *(f"  {line}" for line in each.commands)]
    return "\n".join(lines)


def _built(built: Built) -> str:
    if not built.images:
        return "Nothing to build: no service of the compose files has `build:`."
    lines = [f"{each.reference}  {each.digest or 'not pushed'}" for each in built.images.values()]
    return "\n".join([*lines, f"Log: {built.outcome.log}"])

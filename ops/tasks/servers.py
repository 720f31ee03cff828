"""Servers before any stack runs on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from invoke.context import Context

from ops.tasks.asking import confirm
from ops.tasks.boundary import Answer, task
from ops.tasks.options import helps, target_of
from ops.tasks.output import tell

if TYPE_CHECKING:
    from ops.servers.preparing import Prepared
    from ops.servers.trusting import Trusted

__all__ = ["check", "prepare", "trust"]

_WHICH = ("env", "stack", "server", "json", "quiet")


@task(help=helps(*_WHICH, "yes", replace="Accept a key in place of the one that is known."))
def trust(
    c: Context,
    env: str = "",
    stack: str = "",
    server: str = "",
    replace: bool = False,
    yes: bool = False,
    json: bool = False,
    quiet: bool = False,
) -> Answer:
    """Show the host keys of servers that are not known yet, and record them."""

    def agree(seen: Trusted) -> bool:
        confirm(
            target.settings,
            f"{seen.server} ({seen.name}) shows {seen.fingerprint} ({seen.kind}). Is that its key? (yes)",
            "yes",
            yes=yes,
        )
        return True

    target = target_of(env, stack)
    found = target.trust((server,) if server else (), replace=replace, agree=agree)
    lines = [
        f"{one.server}: {one.fingerprint} ({one.kind}) {'recorded in ' + one.file if one.recorded else 'is known'}"
        for one in found
    ]
    return Answer("\n".join(lines), data=found, settings=target.settings)


@task(help=helps(*_WHICH))
def check(
    c: Context, env: str = "", stack: str = "", server: str = "", json: bool = False, quiet: bool = False
) -> Answer:
    """Look at what servers have and lack for a deploy; exit 1 when something is missing, 6 when one does not answer."""
    target = target_of(env, stack)
    found = target.check_servers((server,) if server else ())
    lines = []
    for one in found:
        if one.reachable:
            lines.append(
                f"{one.server}: {one.system}, {one.architecture}, user {one.user}, Docker {one.docker or 'none'}, Compose "
                f"{one.compose or 'none'}, {one.free // 2**30} GiB free, clock {one.clock_off:+.1f} s"
            )
        else:
            lines.append(f"{one.server}: no answer")
        lines += [f"  {problem}" for problem in one.problems]
        lines += [f"  Next: {step}" for step in one.next_steps]
    if all(one.good for one in found):
        lines.append("Ready.")
    code = 6 if not all(one.reachable for one in found) else 0 if all(one.good for one in found) else 1
    return Answer("\n".join(lines), data=found, settings=target.settings, exit_code=code)


@task(help=helps(*_WHICH, "dry_run", "yes"))
def prepare(
    c: Context,
    env: str = "",
    stack: str = "",
    server: str = "",
    dry_run: bool = False,
    yes: bool = False,
    json: bool = False,
    quiet: bool = False,
) -> Answer:
    """Install Docker where it is missing, make the stack's folder, give the user the rights."""
    target = target_of(env, stack)
    planned = target.prepare_servers((server,) if server else (), dry_run=True)
    if not dry_run and any(one.done for one in planned):
        if not (json or quiet):
            tell(target.settings.redactor(_told(planned, "would")))
        confirm(target.settings, "Do this? (yes)", "yes", yes=yes)
        planned = target.prepare_servers((server,) if server else (), dry_run=False)
    return Answer(_told(planned, "would" if dry_run else "did"), data=planned, settings=target.settings)


def _told(found: tuple[Prepared, ...], word: str) -> str:
    lines = []
    for one in found:
        lines += [f"{one.server}: {word} {step}" for step in one.done] or [f"{one.server}: nothing to do"]
    return "\n".join(lines)

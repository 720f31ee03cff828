"""Options that many tasks share: their help, and what they come to, so that one option means one thing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ops.errors import UsageError

if TYPE_CHECKING:
    from ops.environments import Environment

__all__ = ["HELP", "at_least", "helps", "names", "target_of"]

HELP: Mapping[str, str] = {
    "env": "Environment of ops.toml, such as production.",
    "stack": "Stack under compose/, or a folder with an ops.toml (default: OPS_STACK, else the current folder).",
    "version": "Version to use (default: what ops.toml says).",
    "servers": "Only these servers, with commas between.",
    "state_host": "Server with lock and journal, where ops.toml's own is down.",
    "wait": "Seconds to wait for another run to end.",
    "yes": "Answer yes to what would be asked.",
    "resume": "Go on with a run that died, or bring a server that was lost up to date.",
    "allow_dirty": "Accept a git tree with changes that no commit holds.",
    "dry_run": "Show what would be done; change nothing.",
    "json": "Print one JSON document.",
    "quiet": "Print nothing on success.",
    "service": "Service of the compose files.",
    "server": "Server of ops.toml.",
    "only": "Only these datastores, with commas between.",
}


def helps(*options: str, **own: str) -> dict[str, str]:
    """Return the help of shared options by name, and of the task's own."""
    return {**{option: HELP[option] for option in options}, **own}


def names(option: str, text: str) -> tuple[str, ...]:
    """Given an option and what stands behind it, names with commas between, return them; none where it was not given.

    Raises UsageError for text that holds no name: it must not mean all.
    """
    found = tuple(part.strip() for part in text.split(",") if part.strip())
    if text and not found:
        raise UsageError(
            f"{option} names nothing: {text!r}", next_step=f"give it names, or leave {option} out"
        )
    return found


def at_least(least: int, option: str, number: int) -> int:
    """Return a number that is not below the least; raises UsageError for one that is."""
    if number < least:
        raise UsageError(f"{option} takes a number from {least} on, not {number}")
    return number


def target_of(env: str, stack: str) -> Environment:
    """Return the environment that --env and --stack name, or the default one; raises as `environment` does."""
    from ops.environments import environment

    return environment(env or None, stack=stack or None)

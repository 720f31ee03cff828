"""The help of options that many tasks share, so that one option means one thing."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["HELP", "helps", "names"]

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
}


def helps(*options: str, **own: str) -> dict[str, str]:
    """Return the help of shared options by name, and of the task's own."""
    return {**{option: HELP[option] for option in options}, **own}


def names(text: str) -> tuple[str, ...]:
    """Given names with commas between, return them."""
    return tuple(part.strip() for part in text.split(",") if part.strip())

"""Which folder is the stack: `--stack`, else OPS_STACK, else the nearest ops.toml."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from pathlib import Path

from ops.errors import UsageError

__all__ = ["find_stack", "known_stacks"]


def find_stack(stack: str | None, start: Path, environ: Mapping[str, str] = os.environ) -> Path:
    """Return the folder of the ops.toml meant by `stack`, by OPS_STACK, or by `start` and its parents.

    Raises UsageError that lists the stacks found under compose/.
    """
    wanted = stack or environ.get("OPS_STACK") or ""
    levels = (start, *start.parents)
    if not wanted:
        for level in levels:
            if _has_ops_toml(level):
                return level
        raise UsageError(
            f"no ops.toml in {start} or above it{_listed(start)}",
            next_step="name the stack with --stack or OPS_STACK, go to its folder, or run `opsbook init`",
        )
    for level in levels:
        if _has_ops_toml(level / "compose" / wanted):
            return level / "compose" / wanted
    said = "--stack" if stack else "OPS_STACK"
    try:
        folder = (start / Path(wanted).expanduser()).resolve()
    except (RuntimeError, OSError, ValueError) as error:  # no such user, links in a circle, no path at all
        raise UsageError(f"{said} {wanted}: {error}") from error
    if _has_ops_toml(folder):
        return folder
    if folder.name == "ops.toml" and _has_ops_toml(folder.parent):
        return folder.parent
    near = difflib.get_close_matches(wanted, known_stacks(start), n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise UsageError(
        f"{said} {wanted}: no such stack{_listed(start)}{hint}",
        next_step="name a folder that has an ops.toml; opsbook init writes one beside a compose file",
    )


def known_stacks(start: Path) -> tuple[str, ...]:
    """Return the names of the folders with an ops.toml under the nearest compose/ folder that has any."""
    for level in (start, *start.parents):
        found = sorted(path.parent.name for path in level.glob("compose/*/ops.toml"))
        if found:
            return tuple(found)
    return ()


def _has_ops_toml(folder: Path) -> bool:
    """Raises UsageError for a folder that this user may not look into, or a name that no folder can have."""
    try:
        return (folder / "ops.toml").is_file()
    except OSError as error:
        raise UsageError(f"{folder}: {error.strerror}") from error


def _listed(start: Path) -> str:
    names = known_stacks(start)
    return (
        f"; stacks under compose/: {', '.join(names)}" if names else "; there are none under compose/ either"
    )

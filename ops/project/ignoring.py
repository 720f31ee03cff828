"""What git shall leave alone in a stack folder: values with secrets, and the logs of runs."""

from __future__ import annotations

import subprocess
from pathlib import Path

__all__ = ["unignored"]

_LINES = {
    ".ops/": ".ops/logs",
    ".env": ".env",
    ".env.*": ".env.production",
}  # a line, and a name that it is for
_EXAMPLE = ".env.example"


def unignored(folder: Path) -> tuple[str, ...]:
    """Return the lines that the .gitignore of a folder lacks, in their order; that of a parent folder counts."""
    ignored = _ignored_by_git(folder)
    if ignored is None:
        file = folder / ".gitignore"
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines() if file.is_file() else []
        ignored = {name for line, name in _LINES.items() if line in lines}
        if ".env.*" in lines and f"!{_EXAMPLE}" not in lines:
            ignored.add(_EXAMPLE)
    lacking = [line for line, name in _LINES.items() if name not in ignored]
    if ".env.*" in lacking or _EXAMPLE in ignored:
        lacking.append(f"!{_EXAMPLE}")
    return tuple(lacking)


def _ignored_by_git(folder: Path) -> set[str] | None:
    """Return which names the repository around a folder ignores; None without git or repository."""
    names = [*_LINES.values(), _EXAMPLE]
    own = ("-c", "core.excludesFile=")  # a person's own file is not there for the others
    try:
        done = subprocess.run(
            ("git", *own, "check-ignore", "--no-index", "--", *names),
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return set(done.stdout.splitlines()) if done.returncode in (0, 1) else None

"""Which version a command means: a literal, a variable, or what git calls the checkout."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ops.commands import Secret
from ops.errors import UsageError

if TYPE_CHECKING:
    from ops.config.settings import Settings

__all__ = ["Version", "git_revision", "resolve_version"]

_LONGEST = 106  # a release's id, 22 characters longer, is an image tag too, and those end at 128

_TAG = re.compile(rf"[A-Za-z0-9_][A-Za-z0-9_.-]{{0,{_LONGEST - 1}}}")
_SHOWN = 10


@dataclass(frozen=True)
class Version:
    """A version that is a valid image tag; `revision` is the commit, known only for a version from git."""

    version: str
    revision: str | None = None


def resolve_version(settings: Settings, version: str | None, *, allow_dirty: bool = False) -> Version:
    """Given what --version said (None: the default in ops.toml), return the version to use.

    `git` is `git describe --always --tags`; a dirty tree is refused unless `allow_dirty`, which adds
    `-dirty`. Raises UsageError for that, for a name without value, and for text that cannot be an image tag.
    """
    wanted = version or settings.config.version
    if wanted == "git":
        return _from_git(settings.folder, allow_dirty)
    if wanted.startswith("env:"):
        name = wanted.removeprefix("env:")
        value = settings.values.get(name)
        if not value:
            raise UsageError(
                f"the version comes from {name}, which has no value",
                next_step=f"set {name} or give --version",
            )
        if isinstance(value, Secret):
            raise UsageError(f"{name} is a secret and cannot be the version")
        return Version(_tag(value, f"the value of {name}"))
    return Version(_tag(wanted, "--version" if version else "version in ops.toml"))


def git_revision(folder: Path) -> str | None:
    """Return the commit that a folder's checkout stands on; None without git, repository or commit."""
    try:
        return _git(folder, "rev-parse", "--verify", "HEAD").strip()
    except UsageError:
        return None


def _from_git(folder: Path, allow_dirty: bool) -> Version:
    described = _git(folder, "describe", "--always", "--tags").strip()
    revision = _git(folder, "rev-parse", "--verify", "HEAD").strip()
    changed = _git(folder, "status", "--porcelain").splitlines()
    if not changed:
        return Version(_tag(described, "what git describe says"), revision)
    if not allow_dirty:
        shown = ", ".join(line[3:] for line in changed[:_SHOWN])
        more = f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
        raise UsageError(
            f"the version comes from git, and the tree has changes that no commit holds: {shown}{more}",
            next_step="commit them, give --version, or add --allow-dirty",
        )
    return Version(_tag(f"{described}-dirty", "what git describe says"), revision)


def _git(folder: Path, *argv: str) -> str:
    try:
        done = subprocess.run(
            ("git", *argv), cwd=folder, capture_output=True, text=True, check=False, timeout=30
        )
    except FileNotFoundError as error:
        raise UsageError(
            "the version comes from git, which is not installed", next_step="give --version"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise UsageError(f"git {argv[0]} did not end within 30 s", next_step="give --version") from error
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        said = lines[-1] if lines else f"status {done.returncode}"
        raise UsageError(
            f"the version comes from git, but git {argv[0]} failed: {said}", next_step="give --version"
        )
    return done.stdout


def _tag(text: str, source: str) -> str:
    if not _TAG.fullmatch(text):
        raise UsageError(
            f'"{text}" ({source}) cannot be an image tag: letters, digits, "_", "." and "-", at most {_LONGEST}, '
            'the first no "." or "-"'
        )
    return text

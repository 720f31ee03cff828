"""Finds what stands in a folder that has no ops.toml yet: compose files, environments, what Compose reads."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

from ops.config import Settings, StackConfig, Values, dotenv
from ops.config.closure import Closure, read_files
from ops.config.settings import COMPOSE_NAMES
from ops.errors import ConfigError, UsageError

__all__ = ["compose_files", "environments", "overlays", "provisional"]

_NO_ENVIRONMENT = {"example", "sample", "template", "dist", "local", "override"}


def compose_files(folder: Path, files: tuple[str, ...]) -> tuple[Path, ...]:
    """Return the files that are named, else the one that Compose would take, else the only one there is.

    Raises UsageError when that names none or several.
    """
    if files:
        absent = [name for name in files if not (folder / name).is_file()]
        if absent:
            raise UsageError(f"no {', '.join(absent)} in {folder}")
        return tuple(Path(os.path.normpath(folder / name)) for name in files)
    for name in COMPOSE_NAMES:
        if (folder / name).is_file():
            return (folder / name,)
    others = sorted(path for path in folder.glob("*compose*.y*ml") if path.is_file())
    if len(others) == 1:
        return (others[0],)
    if not others:
        raise UsageError(
            f"no compose file in {folder}",
            next_step="name the folder with --folder, or the files with --files",
        )
    names = ",".join(path.name for path in others)
    raise UsageError(
        f"several compose files in {folder}: {names}", next_step=f"say which, in order: --files {names}"
    )


def environments(folder: Path, paths: tuple[Path, ...]) -> tuple[str, ...]:
    """Return the environments that compose.staging.yaml or .env.staging tell of, else production."""
    names = {path.stem.removeprefix(f"{paths[0].stem}.") for path in overlays(folder, paths[0])}
    names |= {path.name.removeprefix(".env.") for path in folder.glob(".env.*")}
    found = sorted(
        name for name in names - _NO_ENVIRONMENT if re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,62}", name)
    )
    return tuple(found) or ("production",)


def overlays(folder: Path, first: Path) -> tuple[Path, ...]:
    """Return the compose files beside the first that environments have of their own."""
    found = sorted(folder.glob(f"{first.stem}.*.y*ml"))
    return tuple(path for path in found if path.stem.removeprefix(f"{first.stem}.") not in _NO_ENVIRONMENT)


def provisional(folder: Path, paths: tuple[Path, ...]) -> tuple[Settings, Closure]:
    """Return settings that serve to follow the compose files, and all that these name; absent env files pass.

    Raises ConfigError for what is broken or outside the folder.
    """
    texts = dotenv.read(folder / ".env") if (folder / ".env").is_file() else {}
    values = Values(dict(texts), dict.fromkeys(texts, ".env"))
    config = StackConfig(files=tuple(path.relative_to(folder).as_posix() for path in paths))
    settings = Settings(folder, folder.name, "init", folder.name, config, values)
    closure = read_files(settings)
    gone = {path.relative_to(folder).as_posix() for path in closure.absent}
    faults = [fault for fault in closure.faults if not any(f"names {name}, which" in fault for name in gone)]
    if faults:
        raise ConfigError("\n".join(faults))
    return settings, replace(closure, faults=())

"""Relative bind mounts: what is content of a release, what is data, and where each lives on a server."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ops.engines.layout import Layout
from ops.errors import ConfigError

__all__ = ["Content", "Mount", "classify", "pack"]

_IGNORED = {".git", ".ops", "__pycache__", ".DS_Store"}


@dataclass(frozen=True)
class Content:
    """Files of the stack folder that travel with a release: (relative path, bytes, mode), and their hash."""

    source: str
    files: tuple[tuple[str, bytes, int], ...]
    folder: bool
    digest: str


@dataclass(frozen=True)
class Mount:
    """A bind mount's new source on the server, and the content that must stand there (None for data)."""

    path: str
    content: Content | None


def pack(folder: Path, relative: str) -> Content:
    """Given the stack folder and a path in it, return its content; a folder is read whole, sorted by path.

    What is not there is an empty folder.
    """
    root = folder / relative
    whole = not root.is_file()
    paths = (
        sorted(p for p in root.rglob("*") if p.is_file() and not _IGNORED & set(p.relative_to(root).parts))
        if whole
        else [root]
    )
    files = tuple(
        (
            path.relative_to(root).as_posix() if whole else root.name,
            path.read_bytes(),
            path.stat().st_mode & 0o777,
        )
        for path in paths
    )
    digest = hashlib.sha256()
    for name, content, mode in files:
        digest.update(os.fsencode(f"{name}\0{mode:o}\0{len(content)}\0") + content)
    return Content(relative, files, whole, digest.hexdigest())


def classify(
    folder: Path,
    relative: str,
    *,
    read_only: bool,
    service: str,
    proxy: bool,
    data: Sequence[str],
    content: Sequence[str],
    layout: Layout,
) -> Mount:
    """Given a bind source inside the stack folder, return where it lives on the server.

    `[persist]` decides where it names the path. Else what stands in the stack folder is content and what does
    not is data. Folders of the proxy keep one path for ever, so that a change of configuration recreates nothing.
    Raises ConfigError for a folder that is mounted for writing and is not named by `[persist]`.
    """
    path = folder / relative
    if _named(relative, data):
        return Mount(f"{layout.shared}/{relative}", None)
    if not path.exists():
        if _named(relative, content):
            raise ConfigError(
                f"service {service} mounts ./{relative}, which [persist] calls content, but it is not there"
            )
        return Mount(f"{layout.shared}/{relative}", None)
    if path.is_dir() and not read_only and not proxy and not _named(relative, content):
        raise ConfigError(
            f"service {service} mounts the folder ./{relative} for writing: is it content of a release, or data that "
            "outlives releases?",
            next_step=f'say so in ops.toml: [persist] data = ["{relative}"] (or content = ["{relative}"]), or mount it read-only',
        )
    packed = pack(folder, relative)
    if proxy and packed.folder:
        return Mount(f"{layout.proxy}/{relative}", packed)
    where = f"{layout.files}/{packed.digest}"
    return Mount(where if packed.folder else f"{where}/{PurePosixPath(relative).name}", packed)


def _named(relative: str, names: Iterable[str]) -> bool:
    wanted = PurePosixPath(relative)
    for name in names:
        listed = PurePosixPath(name)
        if listed == wanted or listed in wanted.parents:
            return True
    return False

"""Content of the stack folder: files that travel with a release and stand on a server under their hash."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Content", "pack"]

_IGNORED = {".git", ".ops", "__pycache__", ".DS_Store"}


@dataclass(frozen=True)
class Content:
    """Files of the stack folder that travel with a release: (relative path, bytes, mode), and their hash."""

    source: str
    files: tuple[tuple[str, bytes, int], ...]
    folder: bool
    digest: str


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

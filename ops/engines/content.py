"""Content of the stack folder: files, links and empty folders that stand on a server under their hash."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ops.errors import ConfigError

__all__ = ["Content", "follow", "pack"]

_IGNORED = {".git", ".ops", "__pycache__", ".DS_Store"}
_FOREIGN_WRITE = 0o022
_File = tuple[str, bytes, int]


@dataclass(frozen=True)
class Content:
    """What of the stack folder travels with a release, by relative path, and its hash.

    `files` are (path, bytes, mode), `links` (path, what the link says), `empty` the folders with nothing in them.
    """

    source: str
    files: tuple[_File, ...]
    folder: bool
    digest: str
    links: tuple[tuple[str, str], ...] = ()
    empty: tuple[str, ...] = ()


def pack(folder: Path, relative: str) -> Content:
    """Given the stack folder and a path in it, return its content; a folder is read whole, sorted by path.

    Links in a folder stay links, wherever they lead: a container resolves them among its own files, as it does when
    Compose mounts the folder itself. What is not there is an empty folder. Raises ConfigError for what cannot be read.
    """
    root = folder / relative
    files: list[_File] = []
    links: list[tuple[str, str]] = []
    empty: list[str] = []
    try:
        if root.is_file():
            return _hashed(relative, [_read(root, root.name)], (), (), folder=False)
        for path in _leaves(root):
            name = path.relative_to(root).as_posix()
            if path.is_symlink():
                links.append((name, os.readlink(path)))  # noqa: PTH115  # a Path would spell it anew
            elif path.is_dir():
                empty.append(name)
            elif path.is_file():  # a socket or a pipe belongs to a program on this machine
                files.append(_read(path, name))
    except OSError as error:
        where = os.path.relpath(error.filename or root, folder)
        raise ConfigError(
            f"./{where} is mounted, but cannot be read here: {error.strerror}",
            next_step="make it readable, or move it out of what is mounted",
        ) from error
    return _hashed(relative, files, links, empty, folder=True)


def follow(folder: Path, content: Content, *, inside: tuple[str, ...] = ()) -> Content:
    """Return content with what its links lead to in place of the links; `inside` are the folders that led here.

    Raises ConfigError for a link that leads out of the stack folder, to nothing, or to a folder that it stands in.
    """
    inside = (*inside, os.path.realpath(folder / content.source))
    files, empty = list(content.files), list(content.empty)
    for name, said in content.links:
        target = pack(folder, _target(folder, f"{content.source}/{name}", said, inside))
        found = follow(folder, target, inside=inside)
        if found.folder:
            files += [(f"{name}/{below}", data, mode) for below, data, mode in found.files]
            empty += [f"{name}/{below}" for below in found.empty]
            empty += [] if found.files or found.empty else [name]
        else:
            files += [(name, data, mode) for _, data, mode in found.files]
    return _hashed(content.source, files, (), empty, folder=content.folder)


def _target(folder: Path, name: str, said: str, inside: tuple[str, ...]) -> str:
    """Return where a link leads, relative to the stack folder."""
    wrong = ""
    stack = Path(os.path.realpath(folder))
    try:
        target = Path(os.path.realpath(folder / name, strict=True))
    except OSError:
        wrong = "which is not there"
    else:
        if not target.is_relative_to(stack):
            wrong = "which is outside the stack folder"
        elif str(target) in inside:
            wrong = "a folder that it stands in itself"
    if wrong:
        raise ConfigError(
            f"./{os.path.normpath(name)} is a link to {said}, {wrong}",
            next_step="put the file itself there, or a link to one in the stack folder: the proxy's folders are kept file by file",
        )
    return target.relative_to(stack).as_posix()


def _leaves(folder: Path) -> Iterator[Path]:
    """Return everything below a folder but folders that hold something, in the order of paths; links are not followed."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.name in _IGNORED:
            continue
        if path.is_dir() and not path.is_symlink():
            yield from list(_leaves(path)) or [path]
        else:
            yield path


def _read(path: Path, name: str) -> _File:
    # git keeps no write bits: whether a checkout has them for group and others is the umask of who made it, and two
    # operators would recreate each other's containers. What only its owner may read stays so.
    return name, path.read_bytes(), path.stat().st_mode & 0o777 & ~_FOREIGN_WRITE


def _hashed(
    source: str,
    files: Iterable[_File],
    links: Iterable[tuple[str, str]],
    empty: Iterable[str],
    *,
    folder: bool,
) -> Content:
    """The hash is part of a mount's path: where it changes, what mounts it is recreated."""
    files = tuple(sorted(files, key=lambda file: file[0].split("/")))
    links, empty = tuple(sorted(links)), tuple(sorted(empty))
    digest = hashlib.sha256()
    for name, content, mode in files:
        digest.update(os.fsencode(f"{name}\0{mode:o}\0{len(content)}\0") + content)
    for name, said in links:
        digest.update(os.fsencode(f"{name}\0link\0{said}\0"))
    for name in empty:
        digest.update(os.fsencode(f"{name}\0folder\0"))
    return Content(source, files, folder, digest.hexdigest(), links, empty)

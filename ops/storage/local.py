"""Backups in a folder of this machine."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ops.storage.base import Finding, Item, StorageFailed, Stored, Wishes

__all__ = ["LocalStorage"]

PIECE = 1 << 20
ROOM = 1 << 30  # bytes: a folder with less is told as too full
_UNFINISHED = ".unfinished-"  # begins the name of a file that is being written


class LocalStorage:
    """A folder; objects are files in it, written under another name, forced to the disk, then renamed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def shown(self) -> str:
        return str(self._folder)

    @contextmanager
    def upload(self, key: str) -> Iterator[_File]:
        with self._told(f"write {key}"):
            file = _File(self._path(key), key)
        try:
            yield file
        finally:
            file.drop()

    def put(self, key: str, content: bytes) -> None:
        with self.upload(key) as upload:
            upload.write(content)
            upload.finish()

    def read(self, key: str) -> Iterator[bytes]:
        with self._told(f"read {key}"):
            try:
                file = self._path(key).open("rb")
            except FileNotFoundError:
                raise KeyError(key) from None
            with file:
                while piece := file.read(PIECE):
                    yield piece

    def items(self, prefix: str) -> Iterator[Item]:
        with self._told(f"list {prefix}"):
            found = []
            for path in self._files(prefix):
                if not path.name.startswith(_UNFINISHED):
                    with suppress(FileNotFoundError):  # removed since it was listed
                        found.append(Item(path.relative_to(self._folder).as_posix(), path.stat().st_size))
        yield from sorted(found, key=lambda item: item.key)

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            with self._told(f"delete {key}"):
                path = self._path(key)
                path.unlink(missing_ok=True)
                for folder in path.parents:
                    if folder == self._folder:
                        break
                    try:
                        folder.rmdir()
                    except OSError:
                        break  # something else is in it

    def locked_until(self, key: str) -> None:
        """Nothing here is locked."""

    def examine(self, wishes: Wishes) -> tuple[Finding, ...]:
        if not self._folder.is_dir():
            return (Finding("folder", None, "not there yet; the first backup makes it"),)
        found = [Finding("folder", True, "there")]
        probe = f"{wishes.now}.opsbook-probe-{secrets.token_hex(4)}"
        try:
            self.put(probe, b"probe")
            found.append(Finding("write", True, "written, forced to the disk and renamed"))
            told = "works" if b"".join(self.read(probe)) == b"probe" else "other bytes came back"
            found.append(Finding("read", told == "works", told))
        except StorageFailed as error:
            found.append(Finding("write", False, error.message))
        finally:
            with suppress(StorageFailed):
                self.delete([probe])
        free = shutil.disk_usage(self._folder).free
        found.append(Finding("room", free >= ROOM, f"{free / 1e9:.1f} GB free"))
        return tuple(found)

    def prepare(self, wishes: Wishes, *, create: bool, apply: bool, really: bool) -> tuple[str, ...]:
        if not create or self._folder.is_dir():
            return ()
        if really:
            with self._told("make the folder"):
                self._folder.mkdir(parents=True, mode=0o700)
        return (f"make {self._folder}",)

    def unfinished(self, prefix: str) -> tuple[str, ...]:
        with self._told(f"list {prefix}"):
            return tuple(
                sorted(
                    path.relative_to(self._folder).as_posix()
                    for path in self._files(prefix)
                    if path.name.startswith(_UNFINISHED)
                )
            )

    def discard(self, keys: Iterable[str]) -> None:
        self.delete(keys)

    def _path(self, key: str) -> Path:
        return self._folder / key

    def _files(self, prefix: str) -> Iterator[Path]:
        below = self._path(prefix.rpartition("/")[0])
        for parent, _, names in os.walk(below, onerror=_unless_gone):
            for name in names:
                path = Path(parent) / name
                if path.relative_to(self._folder).as_posix().startswith(prefix):
                    yield path

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StorageFailed(
                f"{self.shown}: cannot {what}: {error.strerror or error}",
                next_step="make room there, or give it another place: [backup.local] path in ops.toml",
            ) from error


class _File:
    def __init__(self, path: Path, key: str) -> None:
        self._path, self._key = path, key
        made = [folder for folder in path.parents if not folder.exists()]
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        for folder in made:  # or a power cut takes them, with all that is in them
            _force(folder.parent)
        self._draft = path.with_name(f"{_UNFINISHED}{secrets.token_hex(4)}-{path.name}")
        # What a dump holds is as secret as the database.
        self._file = os.fdopen(os.open(self._draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb", PIECE)
        self._hash = hashlib.sha256()
        self._size = 0
        self._open = True

    @property
    def written(self) -> tuple[int, str]:
        return self._size, self._hash.hexdigest()

    def write(self, data: bytes, /) -> None:
        with self._told():
            self._file.write(data)
        self._hash.update(data)
        self._size += len(data)

    def finish(self) -> tuple[Stored, ...]:
        with self._told():
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._draft.replace(self._path)
            _force(self._path.parent)
        self._open = False
        return (Stored(self._key, *self.written),)

    def drop(self) -> None:
        if not self._open:
            return
        with suppress(OSError):
            self._file.close()
        with suppress(OSError):
            self._draft.unlink()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StorageFailed(
                f"cannot write {self._path}: {error.strerror or error}",
                left_behind="nothing: what was written of it is removed",
                next_step="make room there, or give it another place: [backup.local] path in ops.toml",
            ) from error


def _unless_gone(error: OSError) -> None:
    """A folder that cannot be read is not an empty one."""
    if not isinstance(error, FileNotFoundError):
        raise error


def _force(folder: Path) -> None:
    """Have what was made or renamed in a folder on the disk before anything counts on it."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)

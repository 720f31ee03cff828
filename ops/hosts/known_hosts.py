"""known_hosts files: who is known under a name, and lines added or replaced atomically."""

from __future__ import annotations

import base64
import binascii
import fnmatch
import hashlib
import hmac
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = ["HostKey", "Verdict", "judge", "key_types", "record"]

Verdict = Literal["known", "unknown", "changed", "revoked"]


@dataclass(frozen=True)
class HostKey:
    """A server's public key: its type and base64 body, as known_hosts writes them."""

    kind: str
    body: str

    @property
    def fingerprint(self) -> str:
        """`SHA256:…`, as ssh-keygen shows it."""
        digest = hashlib.sha256(base64.b64decode(self.body)).digest()
        return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


@dataclass(frozen=True)
class _Line:
    mark: str
    names: tuple[str, ...]
    key: HostKey


def judge(files: Iterable[Path], name: str, key: HostKey) -> Verdict:
    """Given what a server showed, say what the files know of it; a known name with other keys only is `changed`."""
    lines = [line for file in files for line in _read(file) if _matches(line.names, name)]
    if any(line.mark == "@revoked" and line.key.body == key.body for line in lines):
        return "revoked"
    keys = [line.key for line in lines if not line.mark]
    if any(known == key for known in keys):
        return "known"
    return "changed" if keys else "unknown"


def key_types(files: Iterable[Path], name: str) -> tuple[str, ...]:
    """Return the types of the keys known under a name, so that the server is asked for one of them."""
    found = [
        line.key.kind
        for file in files
        for line in _read(file)
        if not line.mark and _matches(line.names, name)
    ]
    return tuple(dict.fromkeys(found))


def record(file: Path, name: str, key: HostKey, *, replace: bool = False) -> None:
    """Add a line for `name`; with `replace`, take the name out of all other lines first.

    The file is written anew beside itself and renamed; it keeps its mode (0600 for a new one). Where the other
    names are hashed, this one is too.
    """
    text = file.read_text(errors="surrogateescape") if file.exists() else ""
    lines = text.splitlines()
    hashed = any(line.startswith("|1|") for line in lines)
    kept = [new for line in lines if (new := _without(line, name) if replace else line) is not None]
    kept.append(f"{_hash(name) if hashed else name} {key.kind} {key.body}")
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    mode = file.stat().st_mode & 0o777 if file.exists() else 0o600
    target = file.resolve()
    descriptor, new_file = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(descriptor, "w", errors="surrogateescape") as output:
            output.write("\n".join(kept) + "\n")
        Path(new_file).chmod(mode)
        Path(new_file).replace(target)
    except BaseException:
        with suppress(FileNotFoundError):
            Path(new_file).unlink()
        raise


def _read(file: Path) -> Iterator[_Line]:
    try:
        lines = file.read_text(errors="surrogateescape").splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return
    for text in lines:
        line = _parse(text)
        if line is not None:
            yield line


def _parse(text: str) -> _Line | None:
    fields = text.split()
    if not fields or fields[0].startswith("#"):
        return None
    mark = fields.pop(0) if fields[0].startswith("@") else ""
    if len(fields) < 3:
        return None
    try:
        base64.b64decode(fields[2], validate=True)
    except (binascii.Error, ValueError):
        return None
    return _Line(mark, tuple(fields[0].split(",")), HostKey(fields[1], fields[2]))


def _matches(names: Iterable[str], name: str) -> bool:
    found = False
    for pattern in names:
        if pattern.startswith("!"):
            if _fits(pattern[1:], name):
                return False
        elif _fits(pattern, name):
            found = True
    return found


def _fits(pattern: str, name: str) -> bool:
    if not pattern.startswith("|1|"):
        # In known_hosts [host]:port is literal: only * and ? are wild.
        return fnmatch.fnmatchcase(name.lower(), pattern.lower().replace("[", "[[]"))
    with suppress(binascii.Error, ValueError):
        _, _, salt, digest = pattern.split("|")
        ours = hmac.new(base64.b64decode(salt), name.encode(), hashlib.sha1).digest()
        return hmac.compare_digest(ours, base64.b64decode(digest))
    return False


def _without(text: str, name: str) -> str | None:
    line = _parse(text)
    if line is None or line.mark or not _matches(line.names, name):
        return text
    others = [pattern for pattern in line.names if not _fits(pattern, name)]
    return " ".join((",".join(others), *text.split()[1:])) if others else None


def _hash(name: str) -> str:
    salt = os.urandom(20)
    digest = hmac.new(salt, name.encode(), hashlib.sha1).digest()
    return f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(digest).decode()}"

"""From a dump to the storage: compressed where that is left to this machine, encrypted, counted, never held whole."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ops.errors import ConfigError
from ops.storage.base import Stored, Upload

__all__ = ["Sent", "Source", "checked_recipients", "send"]


@dataclass(frozen=True)
class Sent:
    """A stream that is in the storage: its objects in order, and its size in bytes and SHA-256 from before age."""

    objects: tuple[Stored, ...]
    size: int
    sha256: str


def send(
    chunks: Iterable[bytes],
    upload: Upload,
    *,
    level: int | None = None,
    threads: int = 0,
    recipients: Sequence[str] = (),
) -> Sent:
    """Hand a stream to an upload and finish it, through zstd where there is a `level`, and age where there are recipients.

    Raises whatever `chunks` and the upload raise; then nothing is published.
    """
    stream = chunks if level is None else _compressed(chunks, level, threads)
    if not recipients:
        for piece in stream:
            upload.write(piece)
        return Sent(upload.finish(), *upload.written)
    source = Source(stream)
    _encrypt(source, upload, recipients)
    return Sent(upload.finish(), source.size, source.hash.hexdigest())


def checked_recipients(recipients: Sequence[str]) -> None:
    """Raise ConfigError for what is no recipient of age: `age1…` or an SSH public key."""
    for text in recipients:
        _recipient(text)


def _compressed(chunks: Iterable[bytes], level: int, threads: int) -> Iterator[bytes]:
    import zstandard

    compressor = zstandard.ZstdCompressor(level=level, threads=threads or os.cpu_count() or 1).compressobj()
    for piece in chunks:
        if done := compressor.compress(piece):
            yield done
    yield compressor.flush()


def _encrypt(source: Source, upload: Upload, recipients: Sequence[str]) -> None:
    import pyrage

    target = _Target(upload)
    try:
        pyrage.encrypt_io(source, target, [_recipient(text) for text in recipients])
    except pyrage.EncryptError:
        # What was raised on either side of it comes back as text: the error itself is raised here.
        if (error := source.error or target.error) is not None:
            raise error from None
        raise


def _recipient(text: str) -> object:
    import pyrage

    kind = pyrage.ssh if text.startswith("ssh-") else pyrage.x25519
    try:
        return kind.Recipient.from_str(text)
    except pyrage.RecipientError as error:
        shown = (
            repr(text[:20]) if text.startswith(("age1", "ssh-")) else "one of them"
        )  # it may be a private key
        raise ConfigError(
            f"[backup] recipients: {shown} is no recipient of age: {error}",
            next_step="age-keygen prints one that begins with age1; an SSH public key does as well",
        ) from None


class Source:
    """A stream as a file that age reads; `error` is what the stream raised."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._held = b""
        self.hash = hashlib.sha256()
        self.size = 0
        self.error: BaseException | None = None

    def read(self, size: int) -> bytes:
        try:
            while not self._held:
                self._held = next(self._chunks)
                self.hash.update(self._held)
                self.size += len(self._held)
        except StopIteration:
            return b""
        except BaseException as error:
            self.error = error
            raise
        piece, self._held = self._held[:size], self._held[size:]
        return piece


class _Target:
    """What age writes to."""

    def __init__(self, upload: Upload) -> None:
        self._upload = upload
        self.error: BaseException | None = None

    def write(self, data: bytes) -> int:
        try:
            self._upload.write(data)
        except BaseException as error:
            self.error = error
            raise
        return len(data)

    def flush(self) -> None: ...

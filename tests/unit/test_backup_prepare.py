"""The storage looked at before backups go there: a folder, and what a bucket is asked to keep by itself."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from backed import Stack
from invoke.exceptions import Exit

from ops.backup.retention import Retention, without_locked
from ops.errors import ConfigError
from ops.storage.opening import wishes_of
from ops.tasks import backup as tasks
from ops.tasks.backups_showing import pruned_text

pytestmark = pytest.mark.parity("B8")

NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)


@pytest.fixture
def stack(tmp_path):
    return Stack(tmp_path)


def told(found):
    return {one.name: one.ok for one in found.findings}


class TestFolder:
    """Backups of this machine's own."""

    def test_one_that_is_not_there_is_told_and_made_where_asked_for(self, stack):
        shop = stack.environment()
        before = shop.backup.prepare()
        assert (told(before), before.ok) == ({"folder": None}, True)
        assert shop.backup.prepare(create=True, dry_run=True).done == before.wanted
        assert not (stack.folder / ".ops/backups").exists()
        made = shop.backup.prepare(create=True)
        assert told(made) == {"folder": True, "write": True, "read": True, "room": True}
        assert (stack.folder / ".ops/backups").stat().st_mode & 0o077 == 0
        assert made.wanted == ()
        assert shop.backup.prepare(create=True).done == ()

    def test_the_probe_is_gone(self, stack):
        shop = stack.environment()
        shop.backup.prepare(create=True)
        assert list((stack.folder / ".ops/backups").rglob("*")) == []

    def test_one_that_cannot_be_written_is_a_fault(self, stack, tmp_path):
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "elsewhere/shop").symlink_to("/proc/version")
        found = stack.environment(f'[backup.local]\npath = "{tmp_path}/elsewhere"\n').backup.prepare()
        assert (told(found)["write"], found.ok) == (False, False)

    def test_one_of_a_user_that_there_is_not_is_refused(self, stack):
        shop = stack.environment('[backup.local]\npath = "~nobody-of-that-name/backups"\n')
        with pytest.raises(ConfigError, match="path = '~nobody-of-that-name/backups'"):
            shop.backup.list()

    def test_one_that_is_nearly_full_is_a_fault(self, stack, monkeypatch):
        monkeypatch.setattr("ops.storage.local.ROOM", 1 << 80)
        assert told(stack.environment().backup.prepare(create=True))["room"] is False


class TestWishes:
    """Where a rule for backups may reach."""

    @pytest.mark.parametrize(
        ("prefix", "below"),
        [
            ("{stack}/{environment}", "shop/production/"),
            ("{host}/{stack}/{environment}/{year}/{month}", "here/shop/production/"),
            ("backups/{stack}-{environment}/{year}", "backups/shop-production/"),
            ("{stack}-{environment}-{year}", None),  # shop-production-2 would be meant as well
            ("{year}/{stack}/{environment}", None),
            ("backups/{month}/{stack}/{environment}", None),
            ("{stack}/{year}/{environment}", None),
        ],
    )
    def test_as_far_as_the_names_of_stack_and_environment(self, stack, prefix, below):
        s3 = f'[backup.s3]\nbucket = "b"\nprefix = "{prefix}"\n'
        wishes = wishes_of(stack.environment(s3).settings, "here")
        assert wishes.prefix == below
        assert wishes.rule == "opsbook-shop-production"
        assert wishes.now.endswith("/")
        assert "{" not in wishes.now

    def test_a_storage_class_where_one_is_named(self, stack):
        s3 = '[backup.s3]\nbucket = "b"\ntransition_days = 30\ntransition_class = "GLACIER_IR"\n'
        assert wishes_of(stack.environment(s3).settings, "here").moves == (30, "GLACIER_IR")
        assert wishes_of(stack.environment('[backup.s3]\nbucket = "b"\n').settings, "here").moves is None

    def test_a_lock_without_checksums_is_refused(self, stack):
        with pytest.raises(ConfigError, match="lock_days needs checksums"):
            stack.environment('[backup.s3]\nbucket = "b"\nlock_days = 1\nchecksums = "off"\n')


def test_those_that_are_locked_stay_and_say_until_when():
    """One whose lock has run out goes."""
    plan = Retention({"c": ("count",)}, ("b", "a"))
    locks = {"a": NOW, "b": NOW + timedelta(days=1), "c": NOW + timedelta(days=2)}
    found = without_locked(plan, locks, NOW)
    assert found.delete == ("a",)
    assert found.keep == {"c": ("count",), "b": ("locked until 2026-03-05 12:00 UTC",)}


def test_a_pruning_leaves_what_the_storage_locks_and_goes_on(stack, monkeypatch):
    """The oldest of three is locked, the second goes."""
    shop = stack.environment()
    ids = [shop.backup.full().manifest.id for _ in range(3)]
    until = datetime.now(UTC) + timedelta(days=1)
    monkeypatch.setattr(
        "ops.storage.local.LocalStorage.locked_until", lambda storage, key: until if ids[0] in key else None
    )
    found = stack.environment("[backup.keep]\ncount = 1\nmin = 1\n").backup.prune()
    assert found.backups == (ids[1],)
    assert found.keep.keep[ids[0]][0].startswith("locked until")
    assert ids[0] in pruned_text(found, dry_run=False)
    assert [entry.id for entry in shop.backup.list().entries] == [ids[0], ids[2]]


class TestTask:
    """At a terminal and in scripts."""

    def run(self, stack, capsys, **options):
        from invoke.context import Context

        try:
            tasks.prepare(Context(), env="production", stack=str(stack.folder), **options)
            code = 0
        except Exit as end:
            code = end.code
        return code, capsys.readouterr()

    def test_it_shows_and_changes_nothing(self, stack, capsys):
        stack.environment()
        code, said = self.run(stack, capsys)
        assert (code, "not there yet" in said.out) == (0, True)
        assert not (stack.folder / ".ops/backups").exists()

    def test_a_fault_is_exit_code_1_and_a_document_says_which(self, stack, capsys, monkeypatch):
        stack.environment()
        monkeypatch.setattr("ops.storage.local.ROOM", 1 << 80)
        code, said = self.run(stack, capsys, create=True, json=True)
        document = json.loads(said.out)
        assert (code, document["ok"]) == (1, False)
        assert [one["name"] for one in document["data"]["findings"] if one["ok"] is False] == ["room"]
        assert document["data"]["done"] == [f"make {stack.folder}/.ops/backups"]

    def test_a_change_is_asked_for_as_ops_toml_says(self, stack, capsys):
        stack.toml = f'confirm = "name"\n{stack.toml}'
        stack.environment()
        code, said = self.run(stack, capsys, create=True)
        assert (code, "--yes" in said.err) == (2, True)
        assert self.run(stack, capsys, create=True, yes=True)[0] == 0

"""Increments of files on this machine as its own server, and the chains that they make."""

import os
import re

import pytest
from backed import Stack

from ops.archive.manifest import Manifest
from ops.backup import backing_up
from ops.errors import ConfigError, FailedUnchanged, OpsError
from ops.storage.base import StorageFailed
from ops.storage.local import LocalStorage

pytestmark = pytest.mark.parity("B2")


@pytest.fixture
def stack(tmp_path):
    found = Stack(tmp_path)
    found.toml += "increments = true\n"
    return found


def members(taken, name="uploads"):
    return taken.manifest.datastores[name].counts["files"]["members"]


def states(stack):
    return sorted(path.name for path in (stack.root / "increments").iterdir())


def test_an_increment_holds_what_changed_alone(stack):
    shop = stack.environment()
    full = shop.backup.full()
    (stack.uploads / "it's ü" / "new.txt").write_text("new")
    one = shop.backup.incremental()
    two = shop.backup.incremental()
    assert (members(full), members(one), members(two)) == (4, 2, 0)  # a folder whose content changed is one
    found = [entry.manifest for entry in shop.backup.list().entries]
    assert [(m.kind, m.chain, m.after) for m in found] == [
        ("full", full.manifest.id, ""),
        ("incremental", full.manifest.id, full.manifest.id),
        ("incremental", full.manifest.id, one.manifest.id),
    ]
    assert states(stack) == [f"uploads.{two.manifest.id}.list"]


def test_a_full_backup_begins_a_new_chain(stack):
    shop = stack.environment()
    shop.backup.full()
    shop.backup.incremental()
    full = shop.backup.full()
    assert members(full) == 4
    assert shop.backup.incremental().manifest.chain == full.manifest.id


def test_a_datastore_without_increments_is_dumped_whole(stack):
    (stack.root / "shared" / "other").mkdir()
    (stack.root / "shared" / "other" / "x").write_text("x")
    shop = stack.environment('[datastores.files.other]\npath = "other"\n')
    shop.backup.full()
    taken = shop.backup.incremental()
    assert (members(taken), members(taken, "other")) == (0, 2)


def test_a_backup_of_some_datastores_leaves_the_chain_as_it_is(stack):
    (stack.root / "shared" / "other").mkdir()
    shop = stack.environment('[datastores.files.other]\npath = "other"\n')
    full = shop.backup.full()
    shop.backup.full(only=("uploads",))
    assert shop.backup.incremental().manifest.chain == full.manifest.id


def test_the_age_of_the_newest_backup_is_that_of_the_increment(stack):
    shop = stack.environment()
    shop.backup.full()
    newest = shop.backup.incremental().manifest.id
    found = shop.backup.status()
    assert (found.code, found.newest, found.alarms) == (0, newest, ())


def test_an_increment_that_fails_is_made_up_for_by_the_next(stack, monkeypatch):
    shop = stack.environment()
    shop.backup.full()
    (stack.uploads / "a.txt").write_text("second")

    def full(storage, key, content):
        raise StorageFailed("no room")

    with monkeypatch.context() as patched:
        patched.setattr(LocalStorage, "put", full)
        with pytest.raises(StorageFailed):
            shop.backup.incremental()
    taken = shop.backup.incremental()
    assert members(taken) == 1
    assert states(stack) == [f"uploads.{taken.manifest.id}.list"]


class TestRefused:
    """Nothing is stored, and the next step is a full backup."""

    def refused(self, shop, said):
        stored = len(shop.backup.list().entries)
        with pytest.raises(FailedUnchanged, match=said) as failure:
            shop.backup.incremental()
        assert "inv backup.full --env production" in failure.value.next_step
        assert len(shop.backup.list().entries) == stored
        status = shop.backup.status()
        assert status.code == 2
        assert re.search(said, " ".join(status.alarms))

    def test_without_a_full_backup(self, stack):
        self.refused(stack.environment(), "no good full backup")

    def test_behind_a_full_backup_of_some_datastores(self, stack):
        shop = stack.environment()
        shop.backup.full(only=("uploads",))
        self.refused(shop, "no good full backup of all")

    def test_behind_one_that_was_taken_without_them(self, stack):
        stack.toml = stack.toml.replace("increments = true\n", "")
        stack.environment().backup.full()
        stack.toml += "increments = true\n"
        self.refused(stack.environment(), "without increments")

    def test_when_the_list_of_what_was_there_is_gone(self, stack):
        shop = stack.environment()
        shop.backup.full()
        (state,) = (stack.root / "increments").iterdir()
        state.unlink()
        self.refused(shop, "is gone")

    def test_when_the_globs_are_others(self, stack):
        stack.environment().backup.full()
        stack.toml += 'exclude = ["*.tmp"]\n'
        self.refused(stack.environment(), "globs are others")

    def test_when_a_backup_of_the_chain_is_damaged(self, stack):
        shop = stack.environment()
        shop.backup.full()
        taken = shop.backup.incremental()
        shop.backup.incremental()
        _, part = taken.manifest.datastores["uploads"].parts
        (stack.folder / ".ops/backups" / part.objects[0].key).unlink()
        self.refused(shop, "is damaged")
        faults = [entry.fault for entry in shop.backup.list().entries]
        assert faults[0] is None
        assert "missing" in faults[1]
        assert faults[2] == f"it builds on {taken.manifest.id}, which is damaged"
        assert [one.verified.fault for one in shop.backup.verify()] == faults

    def test_damage_that_is_found_now_breaks_what_builds_on_it(self, stack):
        shop = stack.environment()
        shop.backup.full()
        taken = shop.backup.incremental().manifest
        last = shop.backup.incremental().manifest.id
        file = stack.folder / ".ops/backups" / taken.datastores["uploads"].parts[1].objects[0].key
        file.write_bytes(bytes(file.stat().st_size))
        first, second, third = (one.verified.fault for one in shop.backup.verify())
        assert first is None
        assert "another SHA-256" in second
        assert third == f"it builds on {taken.id}, which is damaged"
        assert shop.backup.verify(last)[0].verified.fault == third

    def test_a_backup_from_the_future_is_neither_the_latest_nor_built_on(self, stack, monkeypatch):
        shop = stack.environment()
        with monkeypatch.context() as patched:  # a clock that was wrong once
            patched.setattr("ops.runs.watching.new_run_id", lambda: "20990101T000000Z-0001")
            then = "2099-01-01T00:00:00Z"
            patched.setattr(
                backing_up,
                "Manifest",
                lambda **fields: Manifest(**{**fields, "started_at": then, "finished_at": then}),
            )
            ahead = shop.backup.full().manifest
        assert (ahead.id, ahead.started_at) == ("20990101T000000Z-0001", then)
        full = shop.backup.full().manifest.id
        taken = shop.backup.incremental().manifest
        assert taken.chain == full
        assert shop.restore("latest", safety=False).backup == taken.id
        assert shop.backup.status().alarms == ()

    def test_when_no_datastore_wants_them(self, stack):
        stack.toml = stack.toml.replace("increments = true\n", "")
        with pytest.raises(ConfigError, match="asks for no increments"):
            stack.environment().backup.incremental()


def test_globs_choose_what_an_increment_takes(stack):
    stack.toml += 'include = ["*.txt"]\nexclude = ["not.txt"]\n'
    shop = stack.environment()
    full = shop.backup.full()
    (stack.uploads / "new.txt").write_text("new")
    (stack.uploads / "new.jpg").write_text("new")
    (stack.uploads / "not.txt").write_text("new")
    assert (members(full), members(shop.backup.incremental())) == (3, 2)


def test_a_file_that_cannot_be_read_fails_the_increment(stack, tmp_path, monkeypatch):
    shop = stack.environment()
    shop.backup.full()
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "tar").write_text(
        '#!/bin/sh\n/bin/tar "$@"; s=$?; [ "$1" = --version ] || echo "tar: ./a.txt: Warning: Cannot open: Permission denied" >&2; exit $s\n'
    )
    (tools / "tar").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    with pytest.raises(OpsError, match="Permission denied"):
        shop.backup.incremental()


def test_a_file_that_goes_behind_the_list_is_a_warning(stack, tmp_path, monkeypatch):
    shop = stack.environment()
    shop.backup.full()
    (stack.uploads / "goes").write_text("soon")
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "tar").write_text(
        f'#!/bin/sh\n[ "$1" = --version ] || rm -f {stack.uploads}/goes\nexec /bin/tar "$@"\n'
    )
    (tools / "tar").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    taken = shop.backup.incremental()
    assert "./goes" in " ".join(taken.manifest.datastores["uploads"].warnings)
    shop.restore(taken.manifest.id, safety=False)
    assert sorted(path.name for path in stack.uploads.iterdir()) == ["a.txt", "it's ü"]


def test_what_tar_says_too_much_leaves_what_the_next_increment_needs(stack, tmp_path, monkeypatch):
    monkeypatch.setattr(backing_up, "TELLING", 2000)
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "tar").write_text(
        '#!/bin/sh\nseq -f "tar: %g: file changed as we read it" 1000 >&2\nexec /bin/tar "$@"\n'
    )
    (tools / "tar").chmod(0o755)
    shop = stack.environment()
    with monkeypatch.context() as patched:
        patched.setenv("PATH", f"{tools}:{os.environ['PATH']}")
        saved = shop.backup.full().manifest.datastores["uploads"]
    assert saved.counts == {"files": {"members": 4}}
    assert 0 < len(saved.warnings) < 100
    shop.backup.incremental()


def test_rules_let_go_of_a_chain_as_a_whole(stack):
    shop = stack.environment("[backup.keep]\ncount = 1\nmin = 1\n")
    first = [shop.backup.full().manifest.id, shop.backup.incremental().manifest.id]
    second = shop.backup.full()
    assert sorted(second.expired) == sorted(first)
    assert shop.backup.incremental().expired == ()


def test_a_plan_of_an_increment_changes_nothing(stack):
    shop = stack.environment()
    shop.backup.full()
    before = stack.stored, states(stack)
    found = shop.backup.plan(incremental=True)
    assert (found.kind, [stream.datastore for stream in found.streams]) == (
        "incremental",
        ["uploads", "uploads"],
    )
    assert (stack.stored, states(stack)) == before

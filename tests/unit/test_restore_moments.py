"""Files brought back to a moment of a chain, on this machine as its own server."""

import os
from datetime import UTC, datetime

import pyrage
import pytest
from backed import Stack

from ops.archive.manifest import Damaged
from ops.errors import UsageError

pytestmark = [pytest.mark.parity("B2"), pytest.mark.parity("B12")]


@pytest.fixture
def stack(tmp_path):
    found = Stack(tmp_path)
    found.toml += "increments = true\n"
    return found


def tree(stack):
    return {
        path.relative_to(stack.uploads).as_posix(): path.read_bytes() if path.is_file() else None
        for path in stack.uploads.rglob("*")
    }


def moment():
    """Return a time that lies behind all that was done and before all that comes."""
    found = datetime.now(UTC).isoformat()
    while datetime.now(UTC).isoformat() <= found:
        continue
    return found


def grown(shop, stack):
    """Return what there was behind a full backup and three increments, with the ids and moments to come back to each."""
    seen = []
    (stack.uploads / "sub").mkdir()
    (stack.uploads / "sub" / "kept").write_text("kept")
    taken = shop.backup.full()
    seen.append((taken.manifest.id, moment(), tree(stack)))

    def change():
        (stack.uploads / "a.txt").write_text("second")
        (stack.uploads / "new").mkdir()
        (stack.uploads / "new" / "file").write_text("new")

    def remove():
        (stack.uploads / "it's ü" / "b.bin").unlink()
        (stack.uploads / "sub").rename(stack.uploads / "renamed")

    def move():
        (stack.uploads / "new" / "file").rename(stack.uploads / "it's ü" / "moved")
        (stack.uploads / "new").rmdir()
        (stack.uploads / "a.txt").unlink()
        (stack.uploads / "a.txt").mkdir()

    for what in (change, remove, move):
        what()
        taken = shop.backup.incremental()
        seen.append((taken.manifest.id, moment(), tree(stack)))
    return seen


def test_each_state_of_a_chain_comes_back_by_its_id(stack):
    shop = stack.environment()
    for backup, _, before in reversed(grown(shop, stack)):
        shop.restore(backup, safety=False)
        assert tree(stack) == before


def test_each_state_of_a_chain_comes_back_by_its_time(stack):
    shop = stack.environment()
    for _, at, before in grown(shop, stack):
        restored = shop.restore(at=at, safety=False)
        assert tree(stack) == before
        assert restored.as_of["uploads"] <= at


def test_the_latest_is_the_last_increment(stack):
    shop = stack.environment()
    *_, (newest, _, before) = grown(shop, stack)
    (stack.uploads / "more").write_text("more")
    assert shop.restore("latest", safety=False).backup == newest
    assert tree(stack) == before


def test_an_encrypted_chain_comes_back_with_the_identity(stack, tmp_path):
    identity = pyrage.x25519.Identity.generate()
    (tmp_path / "key").write_text(str(identity))
    shop = stack.environment(f'[backup]\nrecipients = ["{identity.to_public()}"]\n')
    _, (_, at, before), *_ = grown(shop, stack)
    assert all(b"second" not in path.read_bytes() for path in stack.folder.rglob("*.age"))
    with pytest.raises(UsageError, match="encrypted"):
        shop.restore(at=at, safety=False)
    shop.restore(at=at, identity=str(tmp_path / "key"), safety=False)
    assert tree(stack) == before


def test_a_chain_goes_on_behind_a_restore_of_files(stack):
    shop = stack.environment()
    grown(shop, stack)
    first = shop.backup.list().entries[0].id
    shop.restore(first, safety=False)
    before = tree(stack)
    taken = shop.backup.incremental()
    (stack.uploads / "a.txt").write_text("gone")
    shop.restore(taken.manifest.id, safety=False)
    assert tree(stack) == before


def test_an_undo_brings_back_what_was_live(stack):
    shop = stack.environment()
    _, (_, at, _), *_ = grown(shop, stack)
    before = tree(stack)
    shop.restore(at=at)
    shop.undo_restore()
    assert tree(stack) == before


def test_a_time_before_all_backups_is_refused_with_what_is_possible(stack):
    shop = stack.environment()
    at = moment()
    full = shop.backup.full()
    with pytest.raises(UsageError, match=f"possible are {full.manifest.finished_at[:19]}.* or later"):
        shop.restore(at=at)


def test_an_increment_on_a_damaged_one_is_refused_before_anything_is_touched(stack):
    shop = stack.environment()
    _, _, (damaged, _, _), (newest, _, before) = grown(shop, stack)
    (stack.folder / f".ops/backups/shop/production/{damaged}/uploads.tar.zst").unlink()
    with pytest.raises(Damaged, match=f"builds on {damaged}"):
        shop.restore(newest)
    assert tree(stack) == before


def test_one_of_a_backup_and_a_time_is_given(stack):
    shop = stack.environment()
    for given in ({}, {"backup": "latest", "at": "2026-11-22T14:03:00Z"}):
        with pytest.raises(UsageError, match="either"):
            shop.restore(**given)


@pytest.mark.parametrize("compress", ["auto", "operator", "none"])
def test_old_files_that_were_moved_in_are_part_of_the_increment(stack, compress, tmp_path):
    """Their time of change alone tells that they are new here."""

    shop = stack.environment(f'[backup]\ncompress = "{compress}"\n')
    (tmp_path / "old").write_text("old")
    os.utime(tmp_path / "old", (1e9, 1e9))
    shop.backup.full()
    (tmp_path / "old").rename(stack.uploads / "old")
    before = tree(stack)
    taken = shop.backup.incremental()
    (stack.uploads / "old").unlink()
    shop.restore(taken.manifest.id, safety=False)
    assert tree(stack) == before

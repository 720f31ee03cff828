"""Restores and their way back, of files on this machine as its own server."""

import json
import os
import shutil
import subprocess
import sys
import time
from functools import partial

import pyrage
import pytest
from backed import Stack

from ops.archive.manifest import Damaged
from ops.commands import Command
from ops.datastores.base import Stream
from ops.datastores.files import Files
from ops.environments import environment
from ops.errors import FailedUnchanged, Locked, NeedsPerson, OpsError, RolledBack, UsageError
from ops.restore import filling, restoring, swapping, undoing
from ops.runs.phases import Phase
from ops.runs.reporting import Silent
from ops.storage.base import StorageFailed
from ops.tasks.backups_showing import undone_text

pytestmark = pytest.mark.parity("B13")


@pytest.fixture
def stack(tmp_path):
    return Stack(tmp_path)


def tree(folder):
    """Return what lies in a folder: bytes and modes by path."""
    return {
        path.relative_to(folder).as_posix(): (
            path.read_bytes() if path.is_file() else None,
            path.stat().st_mode,
        )
        for path in folder.rglob("*")
    }


def beside(stack):
    return sorted(path.name for path in stack.uploads.parent.iterdir() if path.name != "uploads")


def damage(stack):
    (stack.uploads / "a.txt").write_text("overwritten")
    (stack.uploads / "it's ü" / "b.bin").unlink()
    (stack.uploads / "new.txt").write_text("written since")


def test_an_archive_of_tars_own_record_size_comes_back(stack, monkeypatch):
    with monkeypatch.context() as older:
        older.setattr("ops.datastores.files._RECORDS", "--blocking-factor=20")
        stack.environment().backup.full()
    before = tree(stack.uploads)
    damage(stack)
    stack.environment().restore("latest")
    assert tree(stack.uploads) == before


@pytest.mark.parametrize("compress", ["auto", "operator", "none"])
def test_files_come_back_as_they_were(stack, compress):
    (stack.uploads / "a.txt").chmod(0o640)
    stack.uploads.chmod(0o751)
    (stack.uploads / "link").symlink_to("a.txt")
    shop = stack.environment(f'[backup]\ncompress = "{compress}"\n')
    before, folder = tree(stack.uploads), stack.uploads.stat()
    shop.backup.full()
    damage(stack)
    restored = shop.restore("latest")
    assert tree(stack.uploads) == before
    assert (stack.uploads / "link").is_symlink()
    assert restored.counts["uploads"] == {"files": {"members": 5}}
    after = stack.uploads.stat()
    assert (after.st_mode, after.st_ino) == (folder.st_mode, folder.st_ino)  # a container has it mounted


def test_an_encrypted_backup_needs_its_identity(stack, tmp_path):
    identity, other = pyrage.x25519.Identity.generate(), pyrage.x25519.Identity.generate()
    (tmp_path / "key").write_text(f"# created: today\n{identity}\n")
    (tmp_path / "other").write_text(str(other))
    shop = stack.environment(f'[backup]\nrecipients = ["{identity.to_public()}"]\n')
    before = tree(stack.uploads)
    shop.backup.full()
    damage(stack)
    damaged = tree(stack.uploads)
    for wrong, said in ((None, "--identity"), (str(tmp_path / "other"), "right private key")):
        with pytest.raises(UsageError) as failure:
            shop.restore("latest", identity=wrong)
        assert said in failure.value.next_step
        assert tree(stack.uploads) == damaged
        assert beside(stack) == []
        assert len(shop.backup.list().entries) == 1  # refused before a safety backup
    shop.restore("latest", identity=str(tmp_path / "key"))
    assert tree(stack.uploads) == before


def test_what_the_globs_leave_out_stays(stack):
    stack.toml += 'exclude = ["cache", "*.tmp"]\n'
    (stack.uploads / "cache").mkdir()
    (stack.uploads / "cache" / "1").write_text("old")
    (stack.uploads / "it's ü" / "x.tmp").write_text("old")
    shop = stack.environment()
    shop.backup.full()
    (stack.uploads / "cache" / "1").write_text("new")
    damage(stack)
    shop.restore("latest")
    assert (stack.uploads / "cache" / "1").read_text() == "new"
    assert (stack.uploads / "it's ü" / "x.tmp").read_text() == "old"
    assert (stack.uploads / "a.txt").read_text() == "first"
    assert not (stack.uploads / "new.txt").exists()


@pytest.mark.parametrize("glob", ["cache", "cache/*"])
def test_an_empty_folder_that_was_excluded_stays(stack, glob):
    stack.toml += f'exclude = ["{glob}"]\n'
    (stack.uploads / "cache" / "sub").mkdir(parents=True)
    (stack.uploads / "cache" / "sub").chmod(0o1777)
    (stack.uploads / "cache").chmod(0o770)
    shop = stack.environment()
    shop.backup.full()
    before = tree(stack.uploads)
    shop.restore("latest")
    assert tree(stack.uploads) == before


def test_what_the_globs_do_not_take_stays(stack):
    stack.toml += 'include = ["*.txt"]\n'
    stack.uploads.chmod(0o755)
    shop = stack.environment()
    shop.backup.full()
    damage(stack)
    (stack.uploads / "photo.jpg").write_text("kept")
    shop.restore("latest")
    assert sorted(tree(stack.uploads)) == ["a.txt", "it's ü", "photo.jpg"]
    assert (stack.uploads / "a.txt").read_text() == "first"
    assert stack.uploads.stat().st_mode & 0o777 == 0o755


def test_what_was_not_counted_is_restored_with_a_warning(stack, monkeypatch):
    shop = stack.environment()
    with monkeypatch.context() as patched:
        patched.setattr(Files, "counts_of", lambda *arguments: {})
        shop.backup.full()
    (warning,) = shop.restore("latest", safety=False).outcome.warnings
    assert warning.startswith("uploads: nothing of it was counted")
    shop.backup.full()
    assert shop.restore("latest", safety=False).outcome.warnings == ()


def test_an_undo_brings_back_what_was_live(stack):
    shop = stack.environment()
    shop.backup.full()
    damage(stack)
    damaged = tree(stack.uploads)
    shop.restore("latest")
    outcome = shop.undo_restore()
    assert tree(stack.uploads) == damaged
    assert outcome.targets["uploads"].result == "rolled_back"
    assert beside(stack) == []
    with pytest.raises(UsageError, match="no restore to undo"):
        shop.undo_restore()


def test_an_undo_is_refused_where_what_was_kept_is_gone(stack, monkeypatch):
    """Before anybody is stopped, and whoever reads it knows what is missing."""
    shop = stack.environment()
    shop.backup.full()
    damage(stack)
    shop.restore("latest")
    before, record = tree(stack.uploads), (stack.root / "restored.json").read_text()
    (kept,) = beside(stack)
    shutil.rmtree(stack.uploads.parent / kept)
    monkeypatch.setattr(undoing, "stop", lambda *arguments: pytest.fail("writers were stopped"))
    for undo in (shop.plan_undo_restore, shop.undo_restore):
        with pytest.raises(UsageError, match=rf"nothing was undone.* uploads on here: .*{kept}$") as failure:
            undo()
        assert "inv backup.list --env production" in failure.value.next_step
    assert tree(stack.uploads) == before
    assert (stack.root / "restored.json").read_text() == record
    assert stack.journal[-1].event == "failed"
    assert not (stack.root / "locks" / "change").exists()


def test_an_undo_that_ended_between_swap_and_record_is_done_by_the_next(stack, monkeypatch):
    """What was kept is live by then, and is not missed."""
    shop = stack.environment()
    shop.backup.full()
    damage(stack)
    damaged = tree(stack.uploads)
    shop.restore("latest")

    def fails(*arguments):
        raise NeedsPerson("a service is not healthy")

    with monkeypatch.context() as patched:
        patched.setattr(undoing, "_serve", fails)
        with pytest.raises(NeedsPerson):
            shop.undo_restore()
    assert shop.undo_restore().targets["uploads"].result == "rolled_back"
    assert tree(stack.uploads) == damaged
    assert beside(stack) == []


def test_an_undo_on_a_new_server_leaves_it_empty_again(stack):
    shop = stack.environment()
    shop.backup.full()
    shutil.rmtree(stack.uploads)
    shop.restore("latest")
    shop.undo_restore()
    assert tree(stack.uploads) == {}
    assert beside(stack) == []


def test_only_the_last_restore_is_kept_for_an_undo(stack):
    shop = stack.environment()
    shop.backup.full()
    for text in ("one", "two"):
        (stack.uploads / "a.txt").write_text(text)
        shop.restore("latest")
    assert len(beside(stack)) == 1
    shop.undo_restore()
    assert (stack.uploads / "a.txt").read_text() == "two"


def test_an_undo_that_waited_for_a_restore_undoes_that_one(stack, monkeypatch):
    """What it read before it had the lock is of the restore before, whose way back is gone by then."""
    shop = stack.environment()
    shop.backup.full()
    (stack.uploads / "a.txt").write_text("one")
    shop.restore("latest")
    (stack.uploads / "a.txt").write_text("two")
    lock = undoing.lock_stack

    def waits(*arguments, **options):
        monkeypatch.setattr(undoing, "lock_stack", lock)
        shop.restore("latest")
        return lock(*arguments, **options)

    monkeypatch.setattr(undoing, "lock_stack", waits)
    shop.undo_restore()
    assert (stack.uploads / "a.txt").read_text() == "two"
    assert beside(stack) == []


def test_a_backup_is_restored_by_its_id(stack):
    shop = stack.environment()
    first = shop.backup.full().manifest.id
    (stack.uploads / "a.txt").write_text("second")
    shop.backup.full()
    shop.restore(first)
    assert (stack.uploads / "a.txt").read_text() == "first"


def test_one_of_some_datastores_is_not_the_latest(stack):
    (stack.root / "shared/other").mkdir()
    shop = stack.environment('[datastores.files.other]\npath = "other"\n')
    whole = shop.backup.full().manifest.id
    shop.backup.full(only=("other",))
    assert shop.restore("latest", safety=False).backup == whole
    assert shop.drill().backup == whole


def test_it_works_where_the_folder_is_gone_but_for_its_name(stack):
    shop = stack.environment()
    before = tree(stack.uploads)
    shop.backup.full()
    for path in sorted(stack.uploads.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    shop.restore("latest")
    assert tree(stack.uploads) == before


def test_a_folder_that_is_a_link_is_followed(stack):
    elsewhere = stack.uploads.parent / "elsewhere"
    stack.uploads.rename(elsewhere)
    stack.uploads.symlink_to(elsewhere)
    shop = stack.environment()
    before = tree(elsewhere)
    shop.backup.full()
    damage(stack)
    damaged = tree(elsewhere)
    shop.restore("latest")
    assert tree(elsewhere) == before
    assert stack.uploads.is_symlink()
    shop.undo_restore()
    assert tree(elsewhere) == damaged


def test_it_works_where_the_folder_was_never_made(stack):
    shop = stack.environment()
    before = tree(stack.uploads)
    shop.backup.full()
    shutil.rmtree(stack.uploads)
    shop.restore("latest")
    assert tree(stack.uploads) == before


def test_folders_come_back_with_their_modes_also_where_globs_take_their_files_alone(stack):
    stack.toml += 'include = ["it*/*"]\n'
    (stack.uploads / "it's ü").chmod(0o707)
    (stack.uploads / "empty").mkdir(mode=0o750)
    shop = stack.environment()
    before = tree(stack.uploads)
    shop.backup.full()
    shutil.rmtree(stack.uploads / "it's ü")
    (stack.uploads / "empty").rmdir()
    shop.restore("latest")
    assert tree(stack.uploads) == before


class TestSafety:
    """The backup of what a restore replaces."""

    def test_it_holds_what_was_replaced_and_is_not_the_latest(self, stack):
        shop = stack.environment()
        before = tree(stack.uploads)
        shop.backup.full()
        damage(stack)
        damaged = tree(stack.uploads)
        kept = shop.restore("latest").safety
        shop.restore("latest")
        assert tree(stack.uploads) == before
        shop.restore(kept)
        assert tree(stack.uploads) == damaged

    def test_none_is_taken_where_it_is_not_wanted_or_nothing_is_there(self, stack):
        shop = stack.environment()
        shop.backup.full()
        assert shop.restore("latest", safety=False).safety is None
        shutil.rmtree(stack.uploads)
        assert shop.restore("latest").safety is None
        assert len(shop.backup.list().entries) == 1

    def test_no_old_backup_goes_for_it(self, stack):
        """The one that is to be restored might be it."""
        everything = stack.environment()
        oldest = everything.backup.full().manifest.id
        before = tree(stack.uploads)
        damage(stack)
        for _ in range(3):
            everything.backup.full()
        shop = stack.environment("[backup.keep]\ncount = 1\nmin = 1\n")
        shop.restore(oldest)
        assert tree(stack.uploads) == before

    def test_one_that_fails_leaves_everything_as_it_was(self, stack, monkeypatch):
        shop = stack.environment()
        shop.backup.full()
        damage(stack)
        damaged = tree(stack.uploads)
        broken = Command("echo broken >&2; exit 1")
        monkeypatch.setattr(Files, "streams", lambda *arguments: (Stream("files", broken, "tar", "none"),))
        with pytest.raises(OpsError, match=r"the safety backup failed: .*broken") as failure:
            shop.restore("latest")
        assert "--no-safety" in failure.value.next_step
        assert tree(stack.uploads) == damaged
        assert beside(stack) == []
        assert stack.journal[-1].event == "failed"

    def test_its_steps_and_bytes_are_shown_in_the_phases_of_the_restore(self, stack):
        shop = stack.environment()
        shop.backup.full()
        told = []

        class Listener(Silent):
            def phase(self, phase):
                told.append(phase)

            def step(self, host, title):
                told.append(title)

            def moved(self, host, size):
                told.append((host, size))

        shop.restore("latest", reporter=Listener())
        assert [one for one in told if isinstance(one, Phase)] == ["check", "lock", "backup", "switch"]
        host, size = told[told.index(f"tar {stack.uploads}") + 1]
        assert host == "here"
        assert size > 0

    def test_it_does_not_count_for_the_rpo(self, stack):
        shop = stack.environment("[backup]\nrpo = 0.001\n")
        newest = shop.backup.full().manifest.id
        shop.restore("latest")
        assert shop.backup.status().newest == newest


def test_a_backup_of_another_environment_is_restored_only_where_it_is_named(stack):
    stack.toml = stack.toml.replace(
        "[datastores", '[environments.staging.servers.here]\naddress = "local"\n[datastores'
    )
    shop = stack.environment()
    taken = shop.backup.full().manifest.id
    before = tree(stack.uploads)
    staging = environment("staging", stack=str(stack.folder))
    with pytest.raises(UsageError, match=r"no backup .* of shop staging") as failure:
        staging.restore(taken)
    assert "--from-env" in failure.value.next_step
    staging.restore(taken, from_environment="production")
    assert tree(stack.root.parent / "staging" / "shared" / "uploads") == before
    assert tree(stack.uploads) == before


@pytest.mark.parametrize("when", ["before", "behind"])
def test_a_backup_that_is_pruned_while_it_is_restored_is_told_as_that(stack, monkeypatch, when):
    """Before it is checked, or behind that; nobody would look for damage then, or for what became of the live data."""
    stack.toml = stack.toml.replace(
        "[datastores", '[environments.staging.servers.here]\naddress = "local"\n[datastores'
    )
    shop = stack.environment()
    oldest = shop.backup.full().manifest.id
    shop.backup.full()
    shop = stack.environment("[backup.keep]\ncount = 1\nmin = 1\n")
    staging, live = environment("staging", stack=str(stack.folder)), stack.root.parent / "staging"
    (live / "shared/uploads").mkdir(parents=True)
    (live / "shared/uploads/a.txt").write_text("of staging")
    check_all = restoring.check_all

    def checked(*arguments):
        for step in (shop.backup.prune, partial(check_all, *arguments))[:: 1 if when == "before" else -1]:
            step()

    monkeypatch.setattr(restoring, "check_all", checked)
    with pytest.raises(Damaged) as failure:
        staging.restore(oldest, from_environment="production")
    storage = stack.folder / ".ops/backups"
    assert failure.value.message == (
        f"backup {oldest} was removed from {storage} before it was read to its end, probably by a pruning of production; "
        "the live data is as it was"
    )
    where = f"--env staging --stack {stack.folder} --from-env production"
    assert (
        failure.value.next_step
        == f"inv restore {where} lists those that are there; restore one of them with --id"
    )
    assert [path.name for path in (live / "shared").rglob("*")] == ["uploads", "a.txt"]
    assert (live / "shared/uploads/a.txt").read_text() == "of staging"
    assert not (live / "restored.json").exists()


def test_what_to_type_next_is_about_where_is_restored_not_where_the_backup_is_of(stack, monkeypatch):
    stack.toml = stack.toml.replace(
        "[datastores", '[environments.staging.servers.here]\naddress = "local"\n[datastores'
    )
    stack.environment().backup.full()

    def held(run, wait):
        raise Locked("another run is at it", next_step="inv deploy.status")

    monkeypatch.setattr(restoring, "lock_stack", held)
    with pytest.raises(Locked) as failure:
        environment("staging", stack=str(stack.folder)).restore("latest", from_environment="production")
    assert failure.value.next_step == f"inv deploy.status --env staging --stack {stack.folder}"


class TestRefused:
    """Before anything is touched."""

    @pytest.fixture
    def shop(self, stack):
        shop = stack.environment()
        shop.taken = shop.backup.full()
        damage(stack)
        self.before = tree(stack.uploads)
        yield shop
        assert tree(stack.uploads) == self.before
        assert beside(stack) == []

    def file(self, stack, shop):
        (stored,) = shop.taken.manifest.datastores["uploads"].parts[0].objects
        return stack.folder / ".ops/backups" / stored.key

    def test_an_unknown_id(self, shop):
        with pytest.raises(UsageError, match="there is no backup 2020"):
            shop.restore("2020")

    def test_a_flipped_bit(self, stack, shop):
        file = self.file(stack, shop)
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
        with pytest.raises(Damaged, match="another SHA-256"):
            shop.restore("latest")

    def test_an_object_that_is_cut_off(self, stack, shop):
        file = self.file(stack, shop)
        os.truncate(file, file.stat().st_size - 1)
        with pytest.raises(UsageError, match="no whole backup"):
            shop.restore("latest")
        with pytest.raises(Damaged, match="missing or cut off"):
            shop.restore(shop.taken.manifest.id)

    def test_an_object_that_goes_while_its_manifest_stays(self, stack, shop, monkeypatch):
        file, check_all = self.file(stack, shop), restoring.check_all

        def checked(*arguments):
            file.unlink()
            check_all(*arguments)

        monkeypatch.setattr(restoring, "check_all", checked)
        with pytest.raises(Damaged, match=r"uploads.tar.zst is missing in [^,]*$"):
            shop.restore("latest")

    def test_what_a_server_says_ends_the_reading_of_what_would_take_hours(self, stack, shop, monkeypatch):
        def endless(storage, part, check, heard):
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline:
                check()
            raise AssertionError("it reads on")

        monkeypatch.setattr(filling, "check_part", endless)
        monkeypatch.setattr(Files, "look", lambda store: Command("echo 'no tar here' >&2; exit 1"))
        with pytest.raises(FailedUnchanged, match="datastore uploads: no tar here"):
            shop.restore("latest")

    def test_a_manifest_that_was_edited(self, stack, shop):
        file = self.file(stack, shop).with_name("manifest.json")
        data = json.loads(file.read_text())
        data["datastores"]["uploads"]["counts"]["files"]["members"] = 9
        file.write_text(json.dumps(data))
        with pytest.raises(Damaged, match="does not match"):
            shop.restore(shop.taken.manifest.id)

    def test_a_datastore_that_the_backup_lacks(self, shop):
        with pytest.raises(UsageError, match="holds no db; it holds: uploads"):
            shop.restore("latest", only=("db",))

    def test_a_person_who_does_not_agree(self, shop):
        def ask(found):
            raise UsageError("not confirmed")

        with pytest.raises(UsageError, match="not confirmed"):
            shop.restore("latest", ask=ask)

    def test_a_lock_that_another_holds(self, stack, shop):
        lock = stack.root / "locks" / "change"
        lock.mkdir(parents=True)
        (lock / "heartbeat").touch()
        with pytest.raises(Locked):
            shop.restore("latest")

    def test_counts_that_do_not_match(self, stack, shop, monkeypatch):
        monkeypatch.setattr(Files, "counted", lambda files, text: {"files": {"members": 3}})
        with pytest.raises(Damaged, match="members came to 3, and was 4"):
            shop.restore("latest")

    def test_a_tar_that_fails(self, stack, shop, tmp_path, monkeypatch):
        tools = tmp_path / "tools"
        tools.mkdir()
        (tools / "tar").write_text(
            '#!/bin/sh\n[ "$1" = --extract ] || exec /bin/tar "$@"; echo no space >&2; exit 2\n'
        )
        (tools / "tar").chmod(0o755)
        monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
        with pytest.raises(FailedUnchanged, match="no space"):
            shop.restore("latest")
        assert stack.journal[-1].event == "failed"
        assert not (stack.root / "locks" / "change").exists()

    def test_a_storage_that_breaks_while_it_is_restored(self, stack, shop, monkeypatch):
        def breaks(*arguments):
            yield b""
            raise StorageFailed("gone")

        monkeypatch.setattr(filling, "opened", breaks)
        with pytest.raises(StorageFailed, match="gone"):
            shop.restore("latest")


class TestSwapping:
    """The moment in which live data is touched."""

    @pytest.fixture
    def shop(self, stack):
        shop = stack.environment()
        shop.backup.full()
        damage(stack)
        return shop

    def test_a_swap_that_fails_half_way_is_taken_back(self, stack, shop, tmp_path, monkeypatch):
        before = tree(stack.uploads)
        tools = tmp_path / "tools"
        tools.mkdir()
        calls = tmp_path / "calls"
        (tools / "mv").write_text(
            f'#!/bin/sh\n[ "$1" = -t ] && echo >> {calls} && [ "$(wc -l < {calls})" = 2 ] && exit 1; exec /bin/mv "$@"\n'
        )
        (tools / "mv").chmod(0o755)
        monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
        with pytest.raises(RolledBack, match="everything is as it was") as failure:
            shop.restore("latest")
        assert failure.value.exit_code == 3
        assert tree(stack.uploads) == before
        assert beside(stack) == []
        assert stack.journal[-1].event == "rolled_back"

    @pytest.mark.parametrize("last", range(1, 9))
    def test_one_that_is_killed_at_any_step_is_undone_whole(self, stack, shop, tmp_path, monkeypatch, last):
        before = tree(stack.uploads)
        tools = tmp_path / "tools"
        tools.mkdir()
        calls = tmp_path / "calls"
        for name in ("mv", "chmod", "chown"):  # the swap's shell dies with the tool that is called then
            (tools / name).write_text(
                f'#!/bin/sh\ncase "$*" in *uploads.ops-*) echo >> {calls};; esac\n'
                f'[ ! -e {tmp_path}/on ] || [ "$(wc -l < {calls})" -lt {last} ] || {{ kill -9 $PPID; exit 1; }}\n'
                f'exec /bin/{name} "$@"\n'
            )
            (tools / name).chmod(0o755)
        (tmp_path / "on").touch()
        monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
        with pytest.raises(OpsError):
            shop.restore("latest")
        (tmp_path / "on").unlink()
        if (stack.root / "restored.json").exists() and tree(stack.uploads) != before:
            shop.undo_restore()
        assert tree(stack.uploads) == before

    def test_one_that_died_before_it_wrote_anything_down_is_told_from_one_that_was_undone(self, stack, shop):
        before = tree(stack.uploads)
        died = "import os, signal; from ops.restore import restoring; "
        died += "restoring._save = lambda *arguments: os.kill(os.getpid(), signal.SIGKILL); "
        died += "from ops.environments import environment; import sys; "
        died += "environment('production', stack=sys.argv[1]).restore('latest')"
        subprocess.run([sys.executable, "-c", died, str(stack.folder)], check=False)
        outcome = shop.undo_restore(wait=30)
        assert undone_text(outcome) == "Nothing was undone: the restore that died had changed nothing."
        assert tree(stack.uploads) == before
        shop.restore("latest")
        assert undone_text(shop.undo_restore()) == "Undone: uploads as before the restore."

    def test_one_that_dies_before_it_leaves_the_one_before_to_be_undone(self, stack, shop, monkeypatch):
        shop.restore("latest")
        record = (stack.root / "restored.json").read_text()
        (stack.uploads / "a.txt").write_text("since the first restore")
        before = tree(stack.uploads)
        remember = restoring.remember

        def dies(run, *arguments):
            remember(run, *arguments)
            raise NeedsPerson("killed")  # leaves the record behind, as a kill does

        with monkeypatch.context() as patched:
            patched.setattr(restoring, "remember", dies)
            with pytest.raises(NeedsPerson):
                shop.restore("latest")
        assert (stack.root / "restored.json").read_text() != record
        shop.undo_restore()
        assert tree(stack.uploads) == before
        assert (stack.root / "restored.json").read_text() == record

    def test_what_nobody_foresaw_is_taken_back_as_well(self, stack, shop, monkeypatch):
        before = tree(stack.uploads)

        def unforeseen(*arguments):
            raise KeyError("State")

        monkeypatch.setattr(swapping, "gate", unforeseen)
        with pytest.raises(RolledBack, match="unexpected KeyError"):
            shop.restore("latest")
        assert tree(stack.uploads) == before
        assert beside(stack) == []
        assert stack.journal[-1].event == "rolled_back"

    def test_what_nobody_foresaw_behind_it_leaves_an_undo(self, stack, shop, monkeypatch):
        before = tree(stack.uploads)

        def unforeseen(*arguments):
            raise KeyError("State")

        monkeypatch.setattr(restoring, "forget", unforeseen)
        with pytest.raises(OpsError, match="unexpected KeyError"):
            shop.restore("latest")
        assert tree(stack.uploads) != before
        shop.undo_restore()
        assert tree(stack.uploads) == before

    def test_writers_that_will_not_stop_are_started_again_and_not_stopped_once_more(self, shop, monkeypatch):
        calls = []

        def stop(*arguments):
            calls.append("stop")
            raise FailedUnchanged("docker stop: no answer")

        monkeypatch.setattr(swapping, "stop", stop)
        monkeypatch.setattr(swapping, "start", lambda *arguments: calls.append("start"))
        with pytest.raises(RolledBack):
            shop.restore("latest")
        assert calls == ["stop", "start"]

    def test_one_that_cannot_be_taken_back_needs_a_person(self, stack, shop, monkeypatch):
        broken = Command("echo broken >&2; exit 1", changes="files")
        monkeypatch.setattr(Files, "swap", lambda *arguments: broken)
        monkeypatch.setattr(Files, "swap_back", lambda *arguments: broken)
        with pytest.raises(NeedsPerson) as failure:
            shop.restore("latest")
        assert "inv restore.undo" in failure.value.next_step


def test_the_journal_tells_start_and_end(stack):
    shop = stack.environment()
    shop.backup.full()
    shop.restore("latest")
    assert [(line.action, line.event) for line in stack.journal][2:] == [
        ("restore", "started"),
        ("backup.full", "started"),
        ("backup.full", "done"),
        ("restore", "done"),
    ]
    assert not (stack.root / "locks" / "backup").exists()

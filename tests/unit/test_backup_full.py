"""A full backup from the first question to the manifest, of files on this machine as its own server."""

import io
import json
import os
import tarfile
import time

import pyrage
import pytest
import zstandard
from backed import Stack

from ops.errors import ConfigError, FailedUnchanged, Interrupted, Locked, OpsError, UsageError
from ops.runs.interruption import Interruption
from ops.storage.base import StorageFailed
from ops.storage.local import LocalStorage

pytestmark = pytest.mark.parity("B3")


@pytest.fixture
def stack(tmp_path):
    return Stack(tmp_path)


def unpacked(stack, taken, *identities):
    (part,) = taken.manifest.datastores["uploads"].parts
    content = b"".join((stack.folder / ".ops/backups" / stored.key).read_bytes() for stored in part.objects)
    if identities:
        content = pyrage.decrypt(content, list(identities))
    if part.compression == "zstd":
        content = zstandard.ZstdDecompressor().stream_reader(content).read()
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        return {
            member.name: archive.extractfile(member).read() if member.isfile() else None
            for member in archive.getmembers()
        }


EVERYTHING = {
    ".": None,
    "./a.txt": b"first",
    "./it's ü": None,
    "./it's ü/b.bin": bytes(range(256)) * 1000,
}


@pytest.mark.parametrize("compress", ["auto", "server", "operator", "none"])
def test_files_come_back_as_they_were(stack, compress):
    taken = stack.environment(f'[backup]\ncompress = "{compress}"\n').backup.full()
    assert unpacked(stack, taken) == EVERYTHING
    assert taken.manifest.datastores["uploads"].counts == {"files": {"members": 4}}


def test_encrypted_files_come_back_with_the_identity(stack):
    identity = pyrage.x25519.Identity.generate()
    taken = stack.environment(f'[backup]\nrecipients = ["{identity.to_public()}"]\n').backup.full()
    assert unpacked(stack, taken, identity) == EVERYTHING
    assert taken.manifest.datastores["uploads"].parts[0].encrypted
    assert all(b"first" not in path.read_bytes() for path in stack.folder.rglob("*.age"))


def test_globs_choose_what_is_taken(stack):
    stack.toml += 'include = ["*.txt", "it*"]\nexclude = ["*.bin"]\n'
    assert sorted(unpacked(stack, stack.environment().backup.full())) == [".", "./a.txt", "./it's ü"]


def test_its_members_are_counted_however_much_tar_has_to_say(stack, tmp_path, monkeypatch):
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "tar").write_text(
        '#!/bin/sh\nseq -f "tar: %g: file changed as we read it" 1000 >&2\nexec /bin/tar "$@"\n'
    )
    (tools / "tar").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    saved = stack.environment().backup.full().manifest.datastores["uploads"]
    assert saved.counts == {"files": {"members": 4}}
    assert len(saved.warnings) == 1000


def test_it_is_listed_and_written_into_the_journal(stack):
    shop = stack.environment()
    taken = shop.backup.full()
    (entry,) = shop.backup.list().entries
    assert (entry.manifest, entry.missing) == (taken.manifest, ())
    assert [(line.action, line.event) for line in stack.journal] == [
        ("backup.full", "started"),
        ("backup.full", "done"),
    ]
    assert taken.outcome.targets["uploads"].kind == "datastore"
    assert not (stack.root / "locks" / "backup").exists()


def test_each_backup_is_one_of_its_own(stack):
    shop = stack.environment()
    ids = [shop.backup.full().manifest.id for _ in range(3)]
    assert [entry.id for entry in shop.backup.list().entries] == ids


def test_a_plan_changes_nothing_and_names_what_would_be_written(stack):
    found = stack.environment().backup.plan()
    (stream,) = found.streams
    assert (stream.datastore, stream.server) == ("uploads", "here")
    assert stream.key.startswith("shop/production/ID/uploads.tar")
    assert not (stack.folder / ".ops/backups").exists()
    assert sorted(path.name for path in stack.root.iterdir()) == ["shared"]


class TestFailing:
    """Nothing is listed, nothing is left, and the error says what happened."""

    def none_left(self, stack, event="failed"):
        assert stack.environment().backup.list().entries == ()
        assert stack.stored == []
        assert not (stack.root / "locks" / "backup").exists()
        assert stack.journal[-1].event == event

    def test_a_folder_that_there_is_not(self, stack):
        with pytest.raises(FailedUnchanged, match="datastore other"):
            stack.environment('[datastores.files.other]\npath = "nowhere"\n').backup.full()

    def test_a_dump_that_fails_behind_its_last_byte(self, stack, tmp_path, monkeypatch):
        tools = tmp_path / "tools"
        tools.mkdir()
        (tools / "tar").write_text(
            '#!/bin/sh\n/bin/tar "$@"; s=$?; [ "$1" = --version ] && exit $s; echo broken >&2; exit 2\n'
        )
        (tools / "tar").chmod(0o755)
        monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
        with pytest.raises(OpsError, match="broken") as failure:
            stack.environment().backup.full()
        assert failure.value.exit_code == 1
        assert failure.value.left_behind is None
        self.none_left(stack)

    def test_a_storage_that_refuses_the_manifest(self, stack, monkeypatch):
        def full(storage, key, content):
            raise StorageFailed("no room")

        monkeypatch.setattr(LocalStorage, "put", full)
        with pytest.raises(StorageFailed, match="no room"):
            stack.environment().backup.full()
        self.none_left(stack)

    def test_what_cannot_be_removed_is_told(self, stack, monkeypatch):
        def refuse(*arguments):
            raise StorageFailed("no right")

        monkeypatch.setattr(LocalStorage, "put", refuse)
        monkeypatch.setattr(LocalStorage, "delete", refuse)
        with pytest.raises(StorageFailed) as failure:
            stack.environment().backup.full()
        assert "shop/production/" in failure.value.left_behind

    def test_an_interrupt(self, stack, monkeypatch):
        made, write = [], LocalStorage.upload

        def interruption():
            made.append(Interruption())
            return made[-1]

        def upload(storage, key):
            made[0].cancellation.cancel()
            return write(storage, key)

        with monkeypatch.context() as patched:
            patched.setattr("ops.environments.backups.Interruption", interruption)
            patched.setattr(LocalStorage, "upload", upload)
            with pytest.raises(Interrupted):
                stack.environment().backup.full()
        self.none_left(stack, "interrupted")

    def test_a_second_backup_at_the_same_time_is_refused_and_leaves_the_first_alone(self, stack):
        lock = stack.root / "locks" / "backup"
        lock.mkdir(parents=True)
        (lock / "heartbeat").touch()
        with pytest.raises(Locked):
            stack.environment().backup.full()
        assert lock.exists()
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:  # it died: nobody beats
            try:
                stack.environment().backup.full()
                break
            except Locked:
                continue
        assert len(stack.environment().backup.list().entries) == 1


class TestMistakes:
    """What is refused before anything is asked of a server."""

    def test_nothing_to_back_up(self, stack):
        stack.toml = stack.toml.partition("[datastores")[0]
        with pytest.raises(UsageError, match="nothing to back up"):
            stack.environment().backup.full()

    def test_an_unknown_datastore(self, stack):
        with pytest.raises(UsageError, match="unknown datastore uplaods; known: uploads"):
            stack.environment().backup.full(only=("uplaods",))

    def test_a_recipient_that_is_none(self, stack):
        with pytest.raises(ConfigError, match="no recipient"):
            stack.environment('[backup]\nrecipients = ["age1x"]\n').backup.full()

    def test_a_datastore_that_may_be_on_two_servers(self, stack):
        more = '[environments.production]\nstate_host = "here"\n[environments.production.servers.there]\naddress = "local"\n'
        with pytest.raises(ConfigError, match="which server is datastore uploads on") as failure:
            stack.environment(more).backup.full()
        assert 'server = "here"' in failure.value.next_step


def test_the_journal_line_of_a_failure_tells_it(stack):
    with pytest.raises(FailedUnchanged):
        stack.environment('[datastores.files.other]\npath = "nowhere"\n').backup.full()
    line = json.loads((stack.root / "journal.jsonl").read_text().splitlines()[-1])
    assert (line["event"], line["exit_code"]) == ("failed", 1)
    assert "nowhere" in line["message"]

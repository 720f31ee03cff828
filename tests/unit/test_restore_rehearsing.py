"""Backups that prove themselves, of files on this machine as its own server."""

import hashlib
import io
import json
import tarfile

import pyrage
import pytest
from backed import Stack

from ops.archive.manifest import Manifest, Verified
from ops.commands import Command
from ops.datastores.files import Files
from ops.errors import FailedUnchanged, UsageError

pytestmark = pytest.mark.parity("B10")


@pytest.fixture
def stack(tmp_path):
    return Stack(tmp_path)


def tree(stack):
    return sorted(path.relative_to(stack.root).as_posix() for path in (stack.root / "shared").rglob("*"))


def verified(stack):
    (path,) = (stack.folder / ".ops/backups").rglob("verified.json")
    return Verified.from_json(path.read_bytes())


@pytest.mark.parametrize("level", [2, 3])
@pytest.mark.parametrize("compress", ["auto", "none"])
def test_a_good_backup_is_read_and_restored_and_nothing_is_left_of_that(stack, level, compress):
    shop = stack.environment(f'[backup]\ncompress = "{compress}"\n')
    shop.backup.full()
    before = tree(stack)
    (found,) = shop.backup.verify(level=level)
    assert (found.verified.level, found.verified.fault) == (level, None)
    assert verified(stack).level == level
    assert tree(stack) == before
    assert not list(stack.root.glob("scratch-*"))


def rewritten(stack, change):
    """Change the stored dump and what the manifest says of it, so that it is what was written, and still no good."""
    (path,) = (stack.folder / ".ops/backups").rglob("manifest.json")
    manifest = json.loads(path.read_text())
    (part,) = manifest["datastores"]["uploads"]["parts"]
    (stored,) = part["objects"]
    file = stack.folder / ".ops/backups" / stored["key"]
    content = change(file.read_bytes())
    file.write_bytes(content)
    for one in (part, stored):
        one.update(size=len(content), sha256=hashlib.sha256(content).hexdigest())
    manifest.pop("sha256")
    manifest.pop("format")
    fresh = Manifest(**{**manifest, "datastores": {}})
    data = json.loads(fresh.to_json()) | {"datastores": manifest["datastores"]}
    data.pop("sha256")
    text = json.dumps(data, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    path.write_text(json.dumps({**data, "sha256": hashlib.sha256(text.encode()).hexdigest()}))


def test_what_tar_cannot_read_is_found_by_level_2(stack):
    shop = stack.environment('[backup]\ncompress = "none"\n')
    shop.backup.full()
    rewritten(stack, lambda content: b"x" * 2048 + content[2048:])
    assert shop.backup.verify(level=1)[0].verified.fault is None
    assert "tar --list" in shop.backup.verify(level=2)[0].verified.fault
    with pytest.raises(UsageError, match="no whole backup"):
        shop.restore("latest")


def test_what_lacks_a_file_is_found_by_level_3(stack):
    shop = stack.environment('[backup]\ncompress = "none"\n')
    shop.backup.full()

    def without_one(content):
        target = io.BytesIO()
        with (
            tarfile.open(fileobj=io.BytesIO(content)) as old,
            tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as new,
        ):
            for member in old.getmembers():
                if member.name != "./a.txt":
                    new.addfile(member, old.extractfile(member) if member.isfile() else None)
        return target.getvalue()

    rewritten(stack, without_one)
    assert shop.backup.verify(level=2)[0].verified.fault is None
    assert "members came to 3, and was 4" in shop.backup.verify(level=3)[0].verified.fault
    assert not list(stack.root.glob("scratch-*"))


@pytest.mark.parametrize("level", [2, 3])
def test_an_encrypted_one_needs_its_key_and_without_it_nothing_is_said_of_it(stack, tmp_path, level):
    identity = pyrage.x25519.Identity.generate()
    (tmp_path / "key").write_text(str(identity))
    shop = stack.environment(f'[backup]\nrecipients = ["{identity.to_public()}"]\n')
    shop.backup.full()
    with pytest.raises(UsageError) as failure:
        shop.backup.verify(level=level)
    assert (failure.value.exit_code, failure.value.next_step) == (2, "add --identity FILE")
    assert verified(stack).level == 0
    assert shop.backup.verify("latest", level=level, identity=str(tmp_path / "key"))[0].verified.fault is None
    with pytest.raises(UsageError):
        shop.drill()
    assert shop.drill(identity=str(tmp_path / "key")).missed == ()


def test_a_server_that_is_not_up_to_it_says_nothing_of_the_backup(stack, monkeypatch):
    shop = stack.environment()
    shop.backup.full()
    monkeypatch.setattr(Files, "beside", lambda *arguments: Command("echo no space >&2; exit 1"))
    with pytest.raises(FailedUnchanged, match="no space"):
        shop.backup.verify(level=3)
    assert verified(stack).level == 0
    assert stack.journal[-1].event == "failed"
    assert not list(stack.root.glob("scratch-*"))


def test_an_unknown_server_and_an_unknown_level_are_refused(stack):
    shop = stack.environment()
    shop.backup.full()
    with pytest.raises(UsageError, match="there is no server far; there are: here"):
        shop.backup.verify(level=3, server="far")
    with pytest.raises(UsageError, match="there is no level 4"):
        shop.backup.verify(level=4)


def test_a_drill_measures_and_writes_the_journal(stack):
    shop = stack.environment()
    taken = shop.backup.full()
    found = shop.drill()
    assert found.backup == taken.manifest.id
    assert 0 < found.rto < 60
    assert 0 <= found.rpo < 60
    assert found.counts["uploads"] == {"files": {"members": 4}}
    line = stack.journal[-1]
    assert (line.action, line.event, line.exit_code) == ("restore.drill", "done", 0)
    assert f"backup {taken.manifest.id}: RTO" in line.message


@pytest.mark.parametrize("target", ["rpo", "rto"])
def test_a_target_that_is_missed_is_in_the_journal_and_told_to_the_notifiers(stack, target):
    shop = stack.environment(f'[backup]\n{target} = 0.0001\n[[notify]]\nkind = "log"\non = ["failure"]\n')
    shop.backup.full()
    assert shop.drill().missed == (target.upper(),)
    assert (stack.journal[-1].event, stack.journal[-1].exit_code) == ("failed", 1)
    told = [json.loads(line) for line in (stack.folder / ".ops/notify.log").read_text().splitlines()]
    assert [(line["action"], line["message"]) for line in told] == [
        ("restore.drill", f"{target.upper()} missed")
    ]

"""Writes paused for a consistent backup, of files on this machine as its own server."""

import os
import signal
import subprocess
import sys
import time

import pytest
from backed import Stack

from ops.errors import ConfigError, FailedUnchanged, NeedsPerson, OpsError
from ops.storage.local import LocalStorage


@pytest.fixture
def stack(tmp_path):
    return Stack(tmp_path)


def pausing(stack, *, enter="true", leave="true", limit=60):
    """Return the table of a pause that keeps a file `paused` and a diary."""
    mark = stack.root / "paused"
    return (
        f"[backup]\nconsistent = true\n[backup.maintenance]\nlimit = {limit}\n"
        f"enter = '''touch {mark}; echo enter >> {stack.root}/diary; {enter}'''\n"
        f"leave = '''rm -f {mark}; echo leave >> {stack.root}/diary; {leave}'''\n"
    )


def diary(stack):
    return (stack.root / "diary").read_text().split()


def test_writes_are_paused_while_it_dumps_and_go_on_behind_it(stack, monkeypatch):
    seen = []
    upload = LocalStorage.upload

    def watching(storage, key):
        if "uploads" in key:
            seen.append((stack.root / "paused").exists())
        return upload(storage, key)

    monkeypatch.setattr(LocalStorage, "upload", watching)
    stack.environment(pausing(stack)).backup.full()
    assert seen == [True]
    assert diary(stack) == ["enter", "leave"]
    assert not (stack.root / "paused").exists()


def test_a_pause_that_cannot_be_entered_fails_the_backup_and_is_left(stack):
    shop = stack.environment(pausing(stack, enter="echo no such service >&2; exit 3"))
    with pytest.raises(FailedUnchanged, match="no such service"):
        shop.backup.full()
    assert diary(stack) == ["enter", "leave"]
    assert shop.backup.list().entries == ()


def test_a_dump_that_fails_leaves_the_pause(stack):
    shop = stack.environment(pausing(stack))
    stack.uploads.rename(stack.uploads.with_name("away"))
    with pytest.raises(OpsError, match="there is no folder"):
        shop.backup.full()
    assert not (stack.root / "paused").exists()


def slow_tar(tmp_path, monkeypatch, seconds):
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "tar").write_text(
        f'#!/bin/sh\ncase "$*" in *--create*) echo $$ > {tmp_path}/dumping; sleep {seconds};; esac; exec /bin/tar "$@"\n'
    )
    (tools / "tar").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")


def test_one_that_lasts_too_long_ends_by_itself_and_the_backup_fails(stack, tmp_path, monkeypatch):
    slow_tar(tmp_path, monkeypatch, 2)
    shop = stack.environment(pausing(stack, limit=0.4))
    with pytest.raises(FailedUnchanged, match=r"paused for 0.4 s, and the dumps take longer"):
        shop.backup.full()
    assert diary(stack) == ["enter", "leave"]
    assert shop.backup.list().entries == ()


def test_one_that_cannot_be_left_needs_a_person_and_says_what_to_type(stack):
    shop = stack.environment(pausing(stack, leave="echo gone >&2; exit 1"))
    with pytest.raises(NeedsPerson, match="gone") as failure:
        shop.backup.full()
    assert "echo leave" in failure.value.next_step


def test_an_operator_that_is_killed_leaves_no_pause_behind(stack, tmp_path, monkeypatch):
    slow_tar(tmp_path, monkeypatch, 30)
    stack.environment(pausing(stack))
    begun = subprocess.Popen(
        [sys.executable, "-m", "ops.tasks", "backup.full", "--env", "production"], cwd=stack.folder
    )
    until(lambda: (tmp_path / "dumping").exists())
    os.kill(begun.pid, signal.SIGKILL)
    begun.wait()
    until(lambda: diary(stack) == ["enter", "leave"])
    assert not (stack.root / "paused").exists()


def until(found):
    end = time.monotonic() + 30
    while not found():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_consistent_needs_to_know_how(stack):
    with pytest.raises(ConfigError, match="maintenance"):
        stack.environment("[backup]\nconsistent = true\n")

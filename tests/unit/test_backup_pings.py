"""Who is not there hears how a backup ends: pings over real HTTP, and the notifiers."""

import json
import threading
import time
import uuid

import pytest
from backed import Stack
from invoke.context import Context
from invoke.exceptions import Exit
from listening import Switch

from ops.errors import ConfigError, FailedUnchanged, Interrupted, Locked, Unreachable, UsageError
from ops.notify import ping as pings
from ops.runs.interruption import Interruption
from ops.storage.base import StorageFailed
from ops.storage.local import LocalStorage
from ops.tasks.backup import verify
from ops.tasks.boundary import Answer

pytestmark = pytest.mark.parity("B11")

NOTIFY = '[[notify]]\nkind = "log"\n'


@pytest.fixture
def stack(tmp_path):
    return Stack(tmp_path)


@pytest.fixture
def switch(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    found = Switch()
    monkeypatch.setenv("PING", found.url)
    yield found
    found.close()


def pinging(stack, more="", url="env:PING"):
    return stack.environment(f'[backup.ping]\nurl = "{url}"\n{more}')


def told(stack):
    lines = (stack.folder / ".ops/notify.log").read_text().splitlines()
    return [(line["action"], line["exit_code"]) for line in map(json.loads, lines)]


def log_of(stack):
    (path,) = (stack.folder / ".ops/logs").glob("*.log")
    return path.read_text()


class TestPings:
    """Start, then success or failure, of one run."""

    def test_a_backup_tells_its_start_and_its_success_with_the_end_of_the_log(self, stack, switch):
        taken = pinging(stack).backup.full()
        assert switch.events == ["start", ""]
        assert {one.rid for one in switch.pings} == {pings.rid(taken.manifest.id)}
        assert uuid.UUID(switch.pings[0].rid).version == 5
        assert all(f"run {taken.manifest.id}" in one.text for one in switch.pings)
        assert "uploads.tar" in switch.pings[1].text
        assert taken.outcome.warnings == ()

    def test_a_failure_tells_why_with_the_end_of_the_log(self, stack, switch):
        with pytest.raises(FailedUnchanged):
            pinging(stack, '[datastores.files.other]\npath = "nowhere"\n').backup.full()
        assert switch.events == ["start", "fail"]
        assert "failed with exit code 1" in switch.pings[1].text
        assert "nowhere" in switch.pings[1].text
        assert "phase backup" in switch.pings[1].text

    def test_a_lock_that_another_holds_is_a_failure(self, stack, switch):
        (stack.root / "locks/backup").mkdir(parents=True)
        (stack.root / "locks/backup/heartbeat").touch()
        with pytest.raises(Locked):
            pinging(stack).backup.full()
        assert switch.events == ["start", "fail"]
        assert "exit code 5" in switch.pings[1].text

    def test_a_signal_is_a_failure(self, stack, switch, monkeypatch):
        made = Interruption()
        made.cancellation.cancel()
        monkeypatch.setattr("ops.environments.backups.Interruption", lambda: made)
        with pytest.raises(Interrupted):
            pinging(stack).backup.full()
        assert switch.events == ["start", "fail"]
        assert "exit code 130" in switch.pings[1].text

    def test_a_server_that_cannot_be_reached_is_a_failure(self, stack, switch):
        stack.toml = stack.toml.replace('address = "local"', 'address = "127.0.0.1"\nport = 1')
        with pytest.raises(Unreachable):
            pinging(stack).backup.full()
        assert switch.events == ["start", "fail"]
        assert "exit code 6" in switch.pings[1].text

    def test_a_storage_without_its_key_is_a_failure(self, stack, switch):
        s3 = '[backup.s3]\nbucket = "shop"\naccess_key = "env:NOT_SET"\nsecret_key = "env:NOT_SET_EITHER"\n'
        with pytest.raises(ConfigError):
            pinging(stack, s3).backup.full()
        assert switch.events == ["start", "fail"]
        assert "NOT_SET has no value" in switch.pings[1].text

    def test_a_datastore_that_there_is_not_is_a_failure(self, stack, switch):
        stack.toml = stack.toml.partition("[datastores")[0]
        with pytest.raises(UsageError):
            pinging(stack).backup.full()
        assert switch.events == ["start", "fail"]

    def test_a_fault_of_the_storage_is_a_failure(self, stack, switch, monkeypatch):
        def full(*arguments):
            raise StorageFailed("no room")

        monkeypatch.setattr(LocalStorage, "put", full)
        with pytest.raises(StorageFailed):
            pinging(stack).backup.full()
        assert "no room" in switch.pings[1].text

    def test_a_part_is_not_what_the_switch_waits_for(self, stack, switch):
        pinging(stack).backup.full(only=("uploads",))
        assert switch.pings == []

    def test_a_look_at_all_backups_has_a_check_of_its_own(self, stack, switch):
        shop = stack.environment('[backup.ping]\nverify = "env:PING"\n')
        taken = shop.backup.full()
        assert switch.pings == []
        shop.backup.verify()
        assert switch.events == ["start", ""]
        (part,) = taken.manifest.datastores["uploads"].parts
        (stack.folder / ".ops/backups" / part.objects[0].key).write_bytes(b"x" * part.objects[0].size)
        shop.backup.verify(taken.manifest.id)
        assert len(switch.pings) == 2
        assert shop.backup.verify()[0].verified.fault
        assert switch.events == ["start", "", "start", "fail"]
        assert f"1 of 1 backup(s) damaged: {taken.manifest.id}" in switch.pings[3].text

    def test_a_look_at_no_backup_at_all_is_a_failure(self, stack, switch):
        shop = stack.environment('[backup.ping]\nverify = "env:PING"\n')
        assert shop.backup.verify() == ()
        assert switch.events == ["start", "fail"]
        assert "there is no backup" in switch.pings[1].text
        with pytest.raises(Exit) as ended:
            verify(Context(), env="production", stack=str(stack.folder))
        assert ended.value.code == 1

    def test_a_url_in_ops_toml_keeps_its_own_query(self, stack, switch):
        pinging(stack, url=f"{switch.url}/?create=1").backup.full()
        assert switch.events == ["start", ""]
        assert all(one.query.startswith("create=1&rid=") for one in switch.pings)

    def test_a_long_log_is_cut_to_its_end(self, stack, switch, monkeypatch):
        monkeypatch.setattr("ops.runs.watching._TAIL", 200)
        pinging(stack).backup.full()
        head, run, *tail = switch.pings[1].text.splitlines()
        assert head.startswith("backup.full of shop production by ")
        assert run.startswith("run ")
        assert 0 < len("\n".join(tail)) <= 200
        assert "phase backup" not in switch.pings[1].text


class TestTrouble:
    """A ping that does not arrive is a warning that holds nothing of the URL; the backup is one."""

    def warned(self, stack, reason, count=2):
        taken = pinging(stack).backup.full()
        assert len(stack.environment().backup.list().entries) == 1
        assert [reason in text for text in taken.outcome.warnings] == [True] * count
        assert log_of(stack).count(reason) == count
        assert "5ecb7e4d" not in log_of(stack) + "".join(taken.outcome.warnings)

    def test_a_switch_that_answers_500_is_asked_once_more(self, stack, switch):
        switch.answer = lambda event: 500
        self.warned(stack, "HTTP status 500")
        assert switch.events == ["start", "start", "", ""]

    def test_a_switch_that_answers_500_once_is_no_trouble(self, stack, switch):
        answers = iter([500, 200, 429, 200])
        switch.answer = lambda event: next(answers)
        assert pinging(stack).backup.full().outcome.warnings == ()

    def test_a_check_that_there_is_not_is_not_asked_for_again(self, stack, switch):
        switch.answer = lambda event: 404
        self.warned(stack, "HTTP status 404")
        assert switch.events == ["start", ""]

    def test_a_switch_that_hangs_is_given_up(self, stack, switch, monkeypatch):
        monkeypatch.setattr(pings, "TIMEOUT", 0.1)
        ended = threading.Event()
        switch.answer = lambda event: 200 + (0 if ended.wait(60) else 1)
        begun = time.monotonic()
        self.warned(stack, "timed out")
        assert time.monotonic() - begun < 20
        ended.set()

    def test_nobody_waits_for_long_whatever_hangs(self, stack, switch, monkeypatch):
        monkeypatch.setattr(pings, "PATIENCE", 0.2)
        ended = threading.Event()
        switch.answer = lambda event: 200 + (0 if ended.wait(60) else 1)
        begun = time.monotonic()
        self.warned(stack, "no answer within 0.2 s")
        assert time.monotonic() - begun < pings.TIMEOUT
        ended.set()

    def test_a_switch_that_is_gone(self, stack, switch):
        switch.close()
        self.warned(stack, "Connection refused")

    @pytest.mark.parametrize(
        "url", ["ftp://5ecb7e4d", "5ecb7e4d", "http://[5ecb7e4d", "http://host/5ecb 7e4d"]
    )
    def test_a_url_that_is_none(self, stack, switch, monkeypatch, url):
        monkeypatch.setenv("PING", url)
        self.warned(stack, "the URL cannot be used")

    def test_a_name_without_a_value(self, stack, switch, monkeypatch):
        monkeypatch.delenv("PING")
        self.warned(stack, "nobody is pinged: PING has no value", 1)

    def test_a_failure_keeps_its_own_exit_code_and_takes_the_warning_along(self, stack, switch):
        switch.close()
        with pytest.raises(FailedUnchanged) as failure:
            pinging(stack, '[datastores.files.other]\npath = "nowhere"\n').backup.full()
        assert "did not arrive" in failure.value.outcome.warnings[0]
        assert failure.value.outcome.action == "backup.full"

    def test_a_url_in_ops_toml_must_be_one(self, stack):
        with pytest.raises(ConfigError, match=r"backup.ping.url: .*env:NAME"):
            pinging(stack, url="hc-ping.com/5ecb7e4d")


@pytest.mark.parametrize("written", ["env:PING", "itself"])
def test_the_url_is_masked_wherever_it_would_be_seen(stack, switch, written):
    """Whoever has it may ping."""
    shop = pinging(stack, url=switch.url if written == "itself" else written)
    assert shop.settings.redactor(f"see {switch.url}/start") == "see ***/start"
    from ops.project.showing import show

    answer = Answer(show(shop.settings).text, settings=shop.settings)
    assert "5ecb7e4d" not in answer.redact(answer.text)


def test_a_deploy_does_not_miss_the_value_of_a_ping(stack, monkeypatch):
    """It is for backups alone, and not even those fail without it."""
    from ops.config.values import missing

    monkeypatch.delenv("PING", raising=False)
    assert missing(pinging(stack).settings) == []


class TestNotifiers:
    """They hear of backups, prunings and restores as they do of deploys."""

    def test_ends_of_all_kinds(self, stack):
        shop = stack.environment(NOTIFY)
        taken = shop.backup.full()
        shop.backup.prune()
        shop.restore(taken.manifest.id)
        shop.undo_restore()
        assert told(stack) == [("backup.full", 0), ("backup.prune", 0), ("restore", 0), ("restore.undo", 0)]

    def test_failures_of_all_kinds(self, stack):
        shop = stack.environment(NOTIFY)
        taken = shop.backup.full()
        (stack.root / "locks/backup").mkdir(parents=True)
        (stack.root / "locks/backup/heartbeat").touch()
        for call in (
            shop.backup.full,
            shop.backup.prune,
            lambda: shop.restore(taken.manifest.id),
        ):
            with pytest.raises(Locked):
                call()
        with pytest.raises(UsageError):
            shop.undo_restore()
        assert told(stack)[1:] == [
            ("backup.full", 5),
            ("backup.prune", 5),
            ("restore", 5),
            ("restore.undo", 2),
        ]

    def test_looking_is_no_run(self, stack):
        shop = stack.environment(NOTIFY)
        shop.backup.plan()
        shop.backup.list()
        shop.backup.prune(dry_run=True)
        assert not (stack.folder / ".ops/notify.log").exists()

    def test_one_that_cannot_be_told_is_a_warning(self, stack):
        (stack.folder / "taken").touch()
        taken = stack.environment('[[notify]]\nkind = "log"\npath = "taken/below"\n').backup.full()
        assert "notifier log" in taken.outcome.warnings[0]

    def test_one_line_says_which_run_it_was(self, stack):
        shop = stack.environment(NOTIFY)
        shop.backup.prune()
        line = json.loads((stack.folder / ".ops/notify.log").read_text())
        assert line["seconds"] >= 0
        assert line["at"]

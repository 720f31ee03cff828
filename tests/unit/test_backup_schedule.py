"""Schedules on this machine: what they say to systemd and cron, put there, shown, taken away."""

import os
import re
import shutil
import subprocess
import sys
from itertools import pairwise

import pytest
from backed import Stack
from hypothesis import given
from hypothesis import strategies as st
from scheduled import Machine, command_of

from ops.backup.timers import Job, block_of, cron_block, crontab_with, service_unit, timer_unit
from ops.backup.timing import when
from ops.errors import ConfigError, FailedUnchanged, NeedsPerson, UsageError

pytestmark = pytest.mark.parity("B16")


def job(at="02:00", every=None, calendar=None, **other):
    wanted = {
        "stack": "shop",
        "environment": "production",
        "task": "backup.full",
        "argv": ("/opt/it's 100%/python", "-m", "ops.tasks", "a $HOME \\ b"),
        "folder": "/srv/my 100% shop's",
        "path": "/opt/bin:/bin",
        "log": "/srv/log",
    } | other
    return Job(**wanted, when=when(None if every or calendar else at, calendar, every))


class TestWhen:
    """One time, told to systemd and to cron."""

    @pytest.mark.parametrize(
        ("at", "every", "calendar", "cron"),
        [
            (None, None, "*-*-* 02:00:00", "0 2 * * *"),
            ("4:05", None, "*-*-* 04:05:00", "5 4 * * *"),
            ("23:59", None, "*-*-* 23:59:00", "59 23 * * *"),
            (None, "1m", "*-*-* *:0/1:00", "* * * * *"),
            (None, "15m", "*-*-* *:0/15:00", "*/15 * * * *"),
            (None, "60m", "*-*-* *:00:00", "0 * * * *"),
            (None, "1h", "*-*-* *:00:00", "0 * * * *"),
            (None, "6h", "*-*-* 0/6:00:00", "0 */6 * * *"),
            (None, "1d", "*-*-* 00:00:00", "0 0 * * *"),
            (None, "24h", "*-*-* 00:00:00", "0 0 * * *"),
        ],
    )
    def test_it_is_said_in_both_tongues(self, at, every, calendar, cron):
        found = when(at, None, every)
        assert (found.calendar, found.cron) == (calendar, cron)
        assert found.spread <= 300

    @pytest.mark.parametrize(
        ("at", "calendar", "every"),
        [
            ("24:00", None, None),
            ("2", None, None),
            ("02:00\n* * * * * root id", None, None),
            (None, None, "7m"),
            (None, None, "90m"),
            (None, None, "5h"),
            (None, None, "2d"),
            (None, None, "0h"),
            (None, None, "hourly"),
            (None, "daily\nExecStart=id", None),
            ("02:00", None, "1h"),
            ("02:00", "daily", None),
        ],
    )
    def test_what_is_no_time_is_refused(self, at, calendar, every):
        with pytest.raises(UsageError):
            when(at, calendar, every)

    @pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
    @pytest.mark.parametrize("every", ["1m", "15m", "30m", "1h", "6h", "12h", "1d"])
    def test_systemd_reads_them_as_meant(self, every):
        asked = ["systemd-analyze", "calendar", "--iterations=3", when(every=every).calendar]
        told = subprocess.run(
            asked, capture_output=True, text=True, env={**os.environ, "TZ": "UTC"}, check=True
        )
        times = re.findall(r"(\d\d):(\d\d):00 UTC", told.stdout)
        minutes = [60 * int(hour) + int(minute) for hour, minute in times]
        units = {"m": 1, "h": 60, "d": 1440}
        assert {(b - a) % 1440 for a, b in pairwise(minutes)} == {int(every[:-1]) * units[every[-1]] % 1440}


class TestUnits:
    """What systemd reads."""

    def test_the_words_of_the_command_and_the_folder_arrive_as_they_are(self):
        text = service_unit(job(), "root")
        assert "WorkingDirectory=/srv/my 100%% shop's\n" in text
        assert """ExecStart=/usr/bin/env "/opt/it's 100%%/python" -m ops.tasks "a $$HOME \\\\ b"\n""" in text
        assert "User=root\n" in text

    def test_a_user_s_own_unit_names_no_user(self):
        assert "User=" not in service_unit(job(), None)

    def test_what_was_missed_is_made_up_for(self):
        text = timer_unit(job(every="1h"))
        assert "OnCalendar=*-*-* *:00:00\nRandomizedDelaySec=300\nPersistent=true\n" in text

    def test_a_folder_that_would_be_more_than_one_line_is_refused(self):
        for write in (lambda one: service_unit(one, "root"), cron_block):
            with pytest.raises(UsageError):
                write(job(folder="/srv/a\nExecStart=/bin/id"))
        with pytest.raises(UsageError):
            service_unit(job(folder="/srv/a\\"), "root")

    @pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
    @pytest.mark.parametrize("user", ["root", None])
    def test_systemd_accepts_them(self, tmp_path, user):
        python = tmp_path / "it's 100%" / "py thon"
        python.parent.mkdir()
        python.symlink_to(sys.executable)
        one = job(argv=(str(python), "-c", "pass"), folder=str(tmp_path))
        (tmp_path / "opsbook-x.service").write_text(service_unit(one, user))
        (tmp_path / "opsbook-x.timer").write_text(timer_unit(one))
        found = subprocess.run(
            [
                "systemd-analyze",
                "verify",
                "--recursive-errors=no",
                *map(str, sorted(tmp_path.glob("opsbook-x.*"))),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (found.returncode, [line for line in found.stderr.splitlines() if "opsbook" in line]) == (
            0,
            [],
        )


lines = st.lists(st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"])), max_size=5)


class TestCrontab:
    """Lines among those of others."""

    whose = "opsbook shop/production backup.full"

    def test_a_shell_gets_the_very_words(self, tmp_path):
        """As cron hands it over: \\% is %, and the rest goes to sh."""
        folder = tmp_path / "my 100% shop's"
        folder.mkdir()
        show = tmp_path / "it's 100%"
        show.write_text('#!/bin/sh\npwd; echo "$PATH"; printf "<%s>" "$@"; umask\n')
        show.chmod(0o755)
        words = ("-m", "a $HOME \\ b", "50%", "it's")
        text = cron_block(
            job(argv=(str(show), *words), folder=str(folder), log=str(folder / "log %"), path=os.defpath)
        )
        _, line, _ = text.splitlines()
        assert line.startswith("0 2 * * * ")
        subprocess.run(["sh", "-c", line.removeprefix("0 2 * * * ").replace("\\%", "%")], check=True)
        told = (folder / "log %").read_text()
        assert told == f"{folder}\n{os.defpath}\n<-m><a $HOME \\ b><50%><it's>0077\n"
        assert not re.search(r"(?<!\\)%", line)

    def test_a_calendar_of_systemd_is_refused_with_the_way_on(self):
        with pytest.raises(UsageError) as failure:
            cron_block(job(calendar="Mon *-*-* 02:00:00"))
        assert "--at or --every" in failure.value.next_step

    @given(before=lines, after=lines, end=st.sampled_from(["", "\n"]))
    def test_the_lines_of_others_stay_byte_for_byte(self, before, after, end):
        text = "\n".join(before + after) + end
        block = cron_block(job())
        once = crontab_with(text, self.whose, block)
        assert block_of(once, self.whose) == block
        assert once.startswith(text)
        moved = "".join(f"{line}\n" for line in before) + block + "\n".join(after) + end
        other = cron_block(job(at="05:00"))
        assert crontab_with(moved, self.whose, other) == moved.replace(block, other)
        assert crontab_with(moved, self.whose, "") == moved.replace(block, "")
        assert crontab_with(text, self.whose, "") == text

    def test_the_block_of_another_stack_stays(self):
        theirs = cron_block(job(stack="shop-production"))
        assert crontab_with(theirs, self.whose, "") == theirs
        assert block_of(theirs, self.whose) == ""

    @pytest.mark.parametrize("missing", [0, 2])
    def test_a_block_that_somebody_broke_up_is_left_to_a_person(self, missing):
        broken = cron_block(job()).splitlines(keepends=True)
        del broken[missing]
        with pytest.raises(FailedUnchanged, match="no beginning, no end"):
            crontab_with("".join(broken), self.whose, "")


@pytest.fixture
def machine(tmp_path, monkeypatch):
    return Machine(tmp_path, monkeypatch)


@pytest.fixture
def shop(tmp_path):
    return Stack(tmp_path).environment()


class TestCron:
    """Where systemd does not run."""

    def test_it_is_shown_before_anything_is_there(self, machine, shop):
        machine.cron()
        found = shop.backup.schedule()
        assert (found.done, found.means, found.installed) == ("nothing", "cron", ())
        (piece,) = found.planned
        assert sys.executable in piece.content
        assert "backup.full --env production" in piece.content
        assert not machine.tab.exists()

    def test_it_is_put_among_other_lines_and_taken_away(self, machine, shop):
        machine.cron()
        others = b"MAILTO=me\n# caf\xe9 \xff\n\n1 2 * * *  theirs % x"
        machine.tab.write_bytes(others)
        done = shop.backup.schedule(do="install", every="1h")
        assert machine.tab.read_bytes() == others + b"\n" + done.planned[0].content.encode()
        assert done.installed == done.planned
        assert shop.backup.schedule().installed == done.planned
        removed = shop.backup.schedule(do="remove")
        assert (removed.done, removed.installed) == ("removed", ())
        assert machine.tab.read_bytes() == others + b"\n"

    def test_a_second_installation_takes_the_place_of_the_first(self, machine, shop):
        machine.cron()
        shop.backup.schedule(do="install")
        shop.backup.schedule(do="install", at="05:00")
        assert machine.tab.read_text().count("ops.tasks") == 1
        assert "\n0 5 * * * " in machine.tab.read_text()

    def test_tasks_stand_beside_one_another_and_go_one_by_one_or_all(self, machine, shop):
        machine.cron()
        shop.backup.schedule(do="install")
        shop.backup.schedule(do="install", task="backup.verify", options=("--level", "0"))
        assert "backup.verify" in machine.tab.read_text()
        assert "--quiet --level 0" in machine.tab.read_text()
        shop.backup.schedule(do="remove", task="backup.verify")
        assert "backup.verify" not in machine.tab.read_text()
        assert "backup.full" in machine.tab.read_text()
        shop.backup.schedule(do="remove")
        assert not machine.tab.exists()

    def test_the_very_line_takes_a_backup(self, machine, shop, tmp_path):
        machine.cron()
        shop.backup.schedule(do="install")
        line = command_of(machine.tab.read_text())
        done = subprocess.run(
            ["env", "-i", f"HOME={tmp_path}", "sh", "-c", line], capture_output=True, check=False
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
        assert len(shop.backup.list().entries) == 1
        assert (shop.settings.folder / ".ops/schedule.log").read_text() == ""

    def test_a_dry_run_tells_and_does_nothing(self, machine, shop):
        machine.cron()
        found = shop.backup.schedule(do="install", dry_run=True)
        assert found.done == "nothing"
        assert "0 2 * * *" in found.planned[0].content
        assert not machine.tab.exists()

    def test_a_crontab_that_cannot_be_read_is_not_written_anew(self, machine, shop):
        machine.cron(none="You (root) are not allowed to use this program (crontab)")
        with pytest.raises(FailedUnchanged, match="not allowed"):
            shop.backup.schedule(do="install")
        assert not machine.tab.exists()

    def test_a_machine_with_neither_is_told_what_to_install(self, machine, shop, monkeypatch):
        for tool in ("sh", "id", "test", "grep", "cat", "mktemp", "rm", "head", "sleep", "kill", "setsid"):
            if found := shutil.which(tool):
                (machine.tools / tool).symlink_to(found)
        monkeypatch.setenv("PATH", str(machine.tools))
        with pytest.raises(FailedUnchanged, match="neither systemd nor a crontab") as failure:
            shop.backup.schedule()
        assert "apt-get install cron" in failure.value.next_step


class TestSystemd:
    """Where it runs."""

    def test_units_are_written_and_the_timer_is_on(self, machine, shop):
        machine.systemd()
        done = shop.backup.schedule(do="install", calendar="Mon *-*-* 02:00:00")
        name = "opsbook-shop-production-backup.full"
        assert machine.units == [f"{name}.service", f"{name}.timer"]
        assert "OnCalendar=Mon *-*-* 02:00:00\n" in (machine.folder / "units" / f"{name}.timer").read_text()
        assert machine.asked == ["daemon-reload", f"enable --now {name}.timer"]
        assert done.installed == done.planned
        assert done.means == "systemd"

    def test_they_go_again(self, machine, shop):
        machine.systemd()
        shop.backup.schedule(do="install")
        shop.backup.schedule(do="remove")
        assert machine.units == []
        assert machine.asked[2:] == [
            "disable --now opsbook-shop-production-backup.full.timer",
            "daemon-reload",
        ]

    def test_a_line_of_cron_s_gives_way(self, machine, shop):
        machine.cron()
        shop.backup.schedule(do="install")
        machine.systemd()
        done = shop.backup.schedule(do="install")
        assert not machine.tab.exists()
        assert done.installed == done.planned

    def test_a_unit_of_another_s_is_left_alone(self, machine, shop):
        """`a-b` in `c` and `a` in `b-c` would bear one name."""
        machine.systemd()
        (machine.folder / "units").mkdir()
        theirs = machine.folder / "units" / "opsbook-shop-production-backup.full.service"
        theirs.write_text("# opsbook shop-production/x backup.full; made\n")
        with pytest.raises(FailedUnchanged, match="not of opsbook shop/production"):
            shop.backup.schedule(do="install")
        assert "shop-production/x" in theirs.read_text()

    @pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
    def test_a_calendar_that_systemd_does_not_know_is_refused(self, machine, shop):
        machine.systemd()
        with pytest.raises(UsageError, match="calendar"):
            shop.backup.schedule(do="install", calendar="every full moon")
        assert machine.units == []

    def test_what_systemd_refuses_is_told_with_what_is_left(self, machine, shop):
        machine.systemd(refuse="enable")
        with pytest.raises(NeedsPerson, match="Failed to do that") as failure:
            shop.backup.schedule(do="install")
        assert "opsbook-shop-production-backup.full.timer" in failure.value.left_behind
        shop.backup.schedule(do="remove")
        assert machine.units == []


class TestRefusals:
    """What would not work at two in the morning."""

    def test_a_value_of_this_shell_alone(self, machine, tmp_path, monkeypatch):
        machine.cron()
        monkeypatch.setenv("S3_KEY", "a-key-of-this-shell")
        monkeypatch.setenv("S3_SECRET", "a-secret-of-this-shell")
        s3 = '[backup.s3]\nbucket = "shop"\naccess_key = "env:S3_KEY"\nsecret_key = "env:S3_SECRET"\n'
        stack = Stack(tmp_path)
        with pytest.raises(ConfigError, match="S3_KEY, S3_SECRET") as failure:
            stack.environment(s3).backup.schedule(do="install")
        assert ".env.production" in failure.value.next_step
        (stack.folder / ".env").write_text("S3_KEY=a-key-of-a-file\nS3_SECRET=a-secret-of-a-file\n")
        monkeypatch.delenv("S3_KEY")
        monkeypatch.delenv("S3_SECRET")
        assert stack.environment(s3).backup.schedule(do="install").done == "installed"

    def test_credentials_of_amazon_s_own_names_in_this_shell_alone(self, machine, tmp_path, monkeypatch):
        machine.cron()
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIA")
        stack = Stack(tmp_path)
        with pytest.raises(ConfigError, match="AWS_ACCESS_KEY_ID"):
            stack.environment('[backup.s3]\nbucket = "shop"\n').backup.schedule(do="install")
        assert stack.environment().backup.schedule(do="install", dry_run=True).planned

    def test_a_key_in_an_agent_of_this_shell_is_worth_a_word(self, machine, tmp_path, monkeypatch):
        machine.cron()
        monkeypatch.setenv("SSH_AUTH_SOCK", "/tmp/agent")
        stack = Stack(tmp_path)
        assert not any("SSH agent" in note for note in stack.environment().backup.schedule().notes)
        stack.toml = stack.toml.replace('"local"', '"shop.example.org"')
        assert any("SSH agent" in note for note in stack.environment().backup.schedule().notes)

    def test_a_library_that_only_this_shell_finds(self, machine, shop, tmp_path, monkeypatch):
        machine.cron()
        bare = tmp_path / "python"
        bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
        bare.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(bare))
        with pytest.raises(FailedUnchanged, match="does not run Opsbook without"):
            shop.backup.schedule(do="install")
        assert not machine.tab.exists()

    def test_a_task_that_runs_by_no_schedule(self, machine, shop):
        machine.cron()
        with pytest.raises(UsageError, match=r"restore\.undo runs by no schedule"):
            shop.backup.schedule(do="install", task="restore.undo")

"""What a run leaves behind for people: the journal on the state host, the log on this machine."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shells import run

from ops.commands import Command, Redactor, Secret, quote
from ops.engines.layout import Layout
from ops.runs import log as log_module
from ops.runs.journal import Entry, append, now, parse_journal, read_journal
from ops.runs.log import RunLog

ENTRY = Entry("2026-01-01T00:00:00Z", "run-1", "deploy", "started", "ann@desk")
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)


@given(
    st.builds(
        Entry,
        *[TEXT] * 5,
        version=TEXT,
        exit_code=st.none() | st.integers(0, 255),
        seconds=st.none() | st.just(0.0) | st.floats(0, 1e6),
        message=st.none() | TEXT,
        previous=st.dictionaries(TEXT, st.none() | TEXT, max_size=2),
        migrated=st.booleans(),
    )
)
def test_an_entry_reads_back_as_it_was_written(entry):
    assert parse_journal(entry.to_json() + "\n") == (entry,)


def test_what_is_not_known_takes_no_room():
    assert set(ENTRY.to_json().split('"')[1::4]) == {"at", "run_id", "action", "event", "who"}


@pytest.mark.parametrize("broken", ["", "{", '{"at": "2026', "3", '{"unknown": 1}'])
def test_a_line_that_was_cut_off_is_skipped(broken):
    assert parse_journal(f"{ENTRY.to_json()}\n{broken}\n{ENTRY.to_json()}\n") == (ENTRY, ENTRY)


def test_the_time_is_rfc_3339_in_utc():
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", now())


@pytest.fixture
def added(tmp_path, shell):
    """Adds a line to the journal; `stdin` stands for one that comes there."""
    layout = Layout(str(tmp_path / "it's"), "shop", "production")
    folder = tmp_path / "it's" / "shop" / "production"
    folder.mkdir(parents=True)

    def add(line=None, stdin=None):
        assert run(Command(f"cd {quote(layout.root)} && {append(line)}", stdin=stdin), shell).ok

    add.layout, add.journal = layout, folder / "journal.jsonl"
    return add


def test_lines_are_added_and_the_newest_are_read(added, shell):
    for number in range(4):
        added(f'{{"n": "{number} it\'s \\ 100%"}}')
    added(stdin=b'{"n": "4"}\n')
    lines = run(read_journal(added.layout, 2), shell).stdout.splitlines()
    assert lines == ['{"n": "3 it\'s \\ 100%"}', '{"n": "4"}']


@pytest.mark.parametrize("entry", [{"line": '{"n": 2}'}, {"stdin": b'{"n": 2}\n'}])
def test_a_line_that_a_full_disk_cut_off_does_not_take_the_next_one_with_it(added, entry):
    added.journal.write_text('{"n": 1')
    added(**entry)
    assert added.journal.read_text() == '{"n": 1\n{"n": 2}\n'


def test_without_a_journal_nothing_is_read(tmp_path, shell):
    result = run(read_journal(Layout(str(tmp_path), "shop", "production")), shell)
    assert (result.ok, result.stdout) == (True, "")


class TestLog:
    """The full log of a run."""

    def test_each_line_bears_the_time_and_the_host(self, tmp_path):
        with RunLog(tmp_path, "run", Redactor()) as log:
            log.write("one\ntwo", "web1")
        for line in log.path.read_text().splitlines():
            assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3} web1 +(one|two)", line)

    def test_secrets_are_masked_in_it(self, tmp_path):
        with RunLog(tmp_path, "run", Redactor([Secret("hunter22")])) as log:
            log.write("password=hunter22")
        assert "hunter22" not in log.path.read_text()
        assert "password=***" in log.path.read_text()

    def test_only_its_owner_reads_it(self, tmp_path):
        with RunLog(tmp_path, "run", Redactor()) as log:
            assert log.path.stat().st_mode & 0o777 == 0o600

    def test_the_newest_are_kept(self, tmp_path, monkeypatch):
        monkeypatch.setattr(log_module, "KEPT", 3)
        for number in range(5):
            RunLog(tmp_path, f"2026010{number}T000000Z-aa", Redactor()).close()
        kept = sorted(path.name[:8] for path in (tmp_path / ".ops" / "logs").iterdir())
        assert kept == ["20260102", "20260103", "20260104"]

    def test_a_full_disk_does_not_stop_the_run(self, tmp_path):
        (tmp_path / ".ops" / "logs").mkdir(parents=True)
        (tmp_path / ".ops" / "logs" / "run.log").symlink_to("/dev/full")
        with RunLog(tmp_path, "run", Redactor()) as log:
            log.write("does not fit")

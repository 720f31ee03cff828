"""The strict fake: nothing unexpected passes, nothing expected is forgotten."""

from __future__ import annotations

import re

import pytest

from ops.commands import Command
from ops.errors import Unreachable
from ops.hosts import Cancellation, Cancelled, CommandFailed
from ops.hosts.fake import FakeHost


def test_what_is_expected_is_answered_in_order():
    host = FakeHost().expect("one", stdout="1").expect(re.compile("tw"), status=3)
    assert host.run(Command("one")).stdout == "1"
    assert host.run(Command("two")).status == 3
    assert host.scripts == ["one", "two"]
    host.finish()


def test_another_command_fails_and_shows_the_difference():
    host = FakeHost().expect("docker ps -q")
    with pytest.raises(AssertionError, match=r"(?s)- docker ps -q\n.*\+ docker ps -a"):
        host.run(Command("docker ps -a"))


def test_a_command_too_many_fails():
    with pytest.raises(AssertionError, match="nothing more was expected"):
        FakeHost().run(Command("rm"))


def test_leaving_it_with_something_missing_fails():
    with pytest.raises(AssertionError, match="docker pull"), FakeHost().expect("docker pull"):
        pass


def test_an_error_inside_is_not_hidden_by_what_is_missing():
    with pytest.raises(ValueError, match="mine"), FakeHost().expect("docker pull"):
        raise ValueError("mine")


def test_what_is_allowed_runs_at_any_place_and_the_last_wins():
    host = FakeHost().expect("one").allow(re.compile("^date"), stdout="old").allow("date", stdout="new")
    assert host.run(Command("date")).stdout == "new"
    host.run(Command("one"))
    assert host.run(Command("date -u")).stdout == "old"


def test_a_batch_stops_behind_the_first_failure():
    host = FakeHost().expect("a").expect("b", status=1)
    assert len(host.run_all([Command("a"), Command("b"), Command("c")])) == 2


def test_an_answer_may_be_an_error_or_a_function():
    host = FakeHost().expect("a", answer=Unreachable("gone"))
    with pytest.raises(Unreachable):
        host.run(Command("a"))


def test_streams_files_and_ports_are_recorded():
    host = FakeHost().expect("load").expect("dump", stdout="data", status=1)
    host.stream_in(Command("load"), [b"a", b"b"])
    host.put(b"x", "/f", mode=0o600)
    with host.expose(1, 2):
        pass
    with host.stream_out(Command("dump")) as chunks:
        assert next(chunks) == b"data"
        with pytest.raises(CommandFailed):
            next(chunks)
    assert (host.streamed, host.puts, host.exposed) == ([b"ab"], {"/f": (b"x", 0o600)}, [(1, 2)])
    assert host.get("/f") == b"x"


def test_a_cancellation_stops_it_and_its_other_face_goes_on():
    cancellation = Cancellation()
    host = FakeHost(cancellation=cancellation).allow("x")
    cancellation.cancel()
    with pytest.raises(Cancelled):
        host.run(Command("x"))
    assert host.with_cancellation(Cancellation()).run(Command("x")).ok

"""What does not come to its own end is ended, or it is told that this is not known; a shell that follows a script."""

from __future__ import annotations

import re
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from ops.commands import Command
from ops.errors import Unreachable
from ops.hosts import Cancellation, Cancelled, ConnectionLost, TimedOut
from ops.hosts.runner import Runner

BEGIN, END, NEXT_END = b"@ B 42\n", b"@ E 0 0\n", b"@ E 1 0\n"


class Clock:
    """Goes on when it is told to."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now


class FollowingShell:
    """Says one thing at each look, `@` for its marker, and lets so many seconds pass; then it says nothing more."""

    trouble = ""

    def __init__(self, clock, says, takes=1 << 30):
        self.clock = clock
        self.says = list(says)
        self.takes = takes
        self.read = b""
        self.status = None
        self.ended = False

    def send(self, data):
        taken = data[: self.takes - len(self.read)]
        self.read += taken
        return len(taken)

    def finish_input(self):
        pass

    def receive(self, seconds):
        if not self.read:
            return b"", b""
        passes, said = self.says.pop(0) if self.says else (1, b"")
        self.clock.now += passes
        self.ended = said is None
        marker = re.search(rb"B %s\\n' ([0-9a-f]{16}) ([0-9a-f]{16})", self.read)
        said = (said or b"").replace(b"@", b"\x1e" + b"".join(marker.groups()) if marker else b"@")
        return said, said


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr("ops.hosts.conversation.time", SimpleNamespace(monotonic=made.monotonic))
    return made


@pytest.fixture
def ended():
    """The process groups that were ended."""
    return []


@pytest.fixture
def over(clock, ended):
    """Make a runner over a shell that says these things."""

    def make(*says, stop=ended.append, cancellation=None, takes=1 << 30):
        @contextmanager
        def start():
            yield FollowingShell(clock, says, takes)

        return Runner("web1", start, stop, cancellation or Cancellation())

    return make


def test_each_command_of_a_batch_has_its_own_time(over, ended):
    runner = over((0, BEGIN), (2.5, END), (1, b""), (1, b""), (0, NEXT_END))
    results = runner.run_all([Command("one", timeout=3), Command("two", timeout=3)])
    assert [result.status for result in results] == [0, 0]
    assert ended == []


def test_a_command_over_its_time_is_ended(over, ended):
    with pytest.raises(TimedOut, match="longer than 3 s and was ended: one"):
        over((0, BEGIN), (4, b"")).run(Command("one", timeout=3))
    assert ended == [42]


def test_the_second_command_of_a_batch_is_told_as_the_one_that_took_too_long(over):
    with pytest.raises(TimedOut, match="longer than 2 s and was ended: two"):
        over((0, BEGIN), (1, END), (3, b"")).run_all([Command("one", timeout=9), Command("two", timeout=2)])


def test_an_end_that_came_while_nobody_looked_counts(over, ended):
    """As on a machine that is too busy to look in time."""
    assert over((60, BEGIN), (0, b"out" + END)).run(Command("one", timeout=3)).stdout == "out"
    assert ended == []


def test_a_command_whose_shell_begins_after_its_time_is_ended_then(over, ended):
    with pytest.raises(TimedOut):
        over((5, b""), (1, b""), (1, b""), (1, BEGIN)).run(Command("one", timeout=3))
    assert ended == [42]


def test_a_command_that_is_cancelled_before_its_shell_began_is_ended_then(over, ended):
    cancellation = Cancellation()

    def source():
        cancellation.cancel()
        yield b"x"

    with pytest.raises(Cancelled):
        over((1, b""), (1, BEGIN), cancellation=cancellation).stream_in(Command("one"), source())
    assert ended == [42]


def test_a_shell_that_never_begins_is_told_as_lost(over, ended):
    with pytest.raises(ConnectionLost, match=r"no shell began .* this could not be ended: one") as caught:
        over().run(Command("one", timeout=3))
    assert caught.value.left_behind
    assert ended == []


def test_a_connection_that_breaks_before_the_shell_began_is_not_told_as_an_end(over):
    with pytest.raises(ConnectionLost, match="broke"):
        over((5, b""), (1, b""), (1, b""), (1, None)).run(Command("one", timeout=3))


def test_a_shell_without_its_whole_script_is_not_waited_for(over, clock, ended):
    """It runs nothing of a part."""
    with pytest.raises(TimedOut):
        over(takes=20).run(Command("one", timeout=3))
    assert clock.now < 10
    assert ended == []


@pytest.mark.parametrize("reason", [Unreachable("the connection is gone", target="web1"), OSError("no sh")])
def test_what_cannot_be_ended_is_told_with_the_reason(over, reason):
    def stop(group):
        raise reason

    with pytest.raises(ConnectionLost, match=r"one$") as caught:
        over((0, BEGIN), (4, b""), stop=stop).run(Command("one", timeout=3))
    assert str(caught.value).startswith(
        f"web1: {'the connection is gone' if isinstance(reason, Unreachable) else 'no sh'}, so "
    )
    assert caught.value.left_behind == "it is not known whether it still runs"

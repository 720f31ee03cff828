"""The dry run's safety net lets nothing through that changes something."""

from __future__ import annotations

import pytest

from ops.commands import Command
from ops.errors import OpsError
from ops.hosts import Cancellation
from ops.hosts.fake import FakeHost
from ops.hosts.readonly import ReadOnlyHost

CHANGES = Command("rm -r /", changes="everything")


@pytest.mark.parametrize(
    "verb",
    [
        pytest.param(lambda host: host.run(CHANGES), id="run"),
        pytest.param(lambda host: host.run_all([Command("ls"), CHANGES]), id="run_all"),
        pytest.param(lambda host: host.stream_out(CHANGES), id="stream_out"),
        pytest.param(lambda host: host.stream_in(Command("cat"), [b""]), id="stream_in"),
        pytest.param(lambda host: host.follow(CHANGES, print), id="follow"),
        pytest.param(lambda host: host.put(b"", "/f"), id="put"),
        pytest.param(lambda host: host.expose(1, 2), id="expose"),
        pytest.param(lambda host: host.terminal(CHANGES), id="terminal"),
        pytest.param(lambda host: host.with_cancellation(Cancellation()).run(CHANGES), id="another face"),
    ],
)
def test_what_changes_something_is_stopped_before_it_starts(verb):
    inner = FakeHost()
    with pytest.raises(OpsError, match="a dry run was about to change something"):
        verb(ReadOnlyHost(inner))
    assert inner.scripts == []


def test_what_only_reads_passes():
    inner = FakeHost().expect("ls", stdout="a").expect("cat /f", stdout="b")
    host = ReadOnlyHost(inner)
    assert host.run(Command("ls")).stdout == "a"
    assert host.get("/f") == b"b"
    assert host.name == inner.name

"""The backup lock, with its real commands on this machine."""

import threading
import time

import pytest

from ops.commands import Result
from ops.engines.layout import Layout
from ops.errors import FailedUnchanged, Locked
from ops.hosts import Cancellation
from ops.hosts.local import LocalHost
from ops.runs import lease
from ops.runs.lease import leased
from ops.runs.lock import HELD, Holder


def holder(run_id):
    return Holder(run_id, "backup.full", "anna@laptop", "2026-01-01T00:00:00Z")


class Place:
    """A server's folder, and leases on it."""

    def __init__(self, base):
        self.layout = Layout(str(base), "shop", "production")
        self.lock = base / "shop" / "production" / "locks" / "backup"
        self.said, self.lost = [], []

    def lease(self, run_id, *, wait=0.0, stale_after=30.0, heartbeat=30.0):
        cancellation = Cancellation()
        return leased(
            {"db1": LocalHost("db1", cancellation=cancellation)},
            self.layout,
            holder(run_id),
            stale_after=stale_after,
            heartbeat=heartbeat,
            wait=wait,
            cancellation=cancellation,
            lost=lambda: self.lost.append(run_id),
            say=self.said.append,
        )


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path / "opt")


def until(true):
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_it_is_there_while_it_is_held(place):
    with place.lease("run-1"):
        assert Holder.from_json((place.lock / "holder.json").read_text()) == holder("run-1")
    assert not place.lock.exists()


def test_it_is_given_back_also_when_the_backup_fails(place):
    with pytest.raises(ZeroDivisionError), place.lease("run-1"):
        raise ZeroDivisionError
    assert not place.lock.exists()


def test_a_second_run_is_refused_with_the_name_of_the_first(place):
    with place.lease("run-1"), pytest.raises(Locked, match=r"backup\.full by anna@laptop") as failure:
        place.lease("run-2").__enter__()
    assert failure.value.target == "db1"
    assert "--wait" in failure.value.next_step


def test_a_second_run_that_waits_goes_on_when_the_first_ends(place):
    first = place.lease("run-1")
    first.__enter__()
    ended = threading.Thread(
        target=lambda: (until(lambda: place.said), first.__exit__(None, None, None)), daemon=True
    )
    ended.start()
    with place.lease("run-2", wait=60):
        assert "run-2" in (place.lock / "holder.json").read_text()
    assert "waiting" in place.said[0]


def test_the_lock_of_a_run_that_died_is_taken_over(place):
    with place.lease("run-1"), place.lease("run-2", stale_after=0.0):
        assert "run-2" in (place.lock / "holder.json").read_text()


def test_a_run_that_lost_its_lock_is_told_and_leaves_the_others_alone(place):
    with place.lease("run-1", heartbeat=0.05):
        (place.lock / "holder.json").write_text(holder("run-2").to_json())
        until(lambda: place.lost)
    assert place.lost == ["run-1"]
    assert place.lock.exists()


def test_a_run_that_lives_keeps_its_lock_young(place):
    with place.lease("run-1", heartbeat=0.05):
        first = (place.lock / "heartbeat").stat().st_mtime_ns
        until(lambda: (place.lock / "heartbeat").stat().st_mtime_ns > first)


def test_a_lock_is_kept_young_while_that_of_another_server_is_waited_for(place, monkeypatch):
    monkeypatch.setattr(lease, "POLL", 0.02)
    calls = []

    class Server:
        def __init__(self, name):
            self.name = name

        def with_cancellation(self, cancellation):
            return self

        def run(self, command):
            calls.append((self.name, command.title))
            taken = ("db1", "keep the backup lock") not in calls and calls[-1][0] == "db2"
            return Result(HELD if taken else 0, "0\n")

    servers = {name: Server(name) for name in ("db1", "db2")}
    waiting = leased(
        servers,
        place.layout,
        holder("run-1"),
        stale_after=30.0,
        heartbeat=0.05,
        wait=20,
        cancellation=Cancellation(),
        lost=lambda: place.lost.append("run-1"),
        say=place.said.append,
    )
    with waiting:
        assert ("db1", "keep the backup lock") in calls
    assert place.lost == []


def test_a_lock_without_a_holder_is_one(place):
    place.lock.mkdir(parents=True)
    with pytest.raises(Locked, match="another run"):
        place.lease("run-1").__enter__()


def test_a_folder_that_cannot_be_made_is_told(place, tmp_path):
    (tmp_path / "opt").write_text("in the way")
    with pytest.raises(FailedUnchanged, match="cannot take the backup lock"):
        place.lease("run-1").__enter__()

"""One change at a time: who comes second, who may take over, and what unlocking does."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import pytest
from fleets import on
from stops import ROOT, STALE, Rig, rig

from ops import sandbox as boxes

pytestmark = [pytest.mark.holds(5), pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def shared(sandbox: boxes.Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Rig:
    """The stack on one server."""
    return rig(tmp_path_factory.mktemp("one") / "stops")


@pytest.fixture
def one(shared: Rig) -> Iterator[Rig]:
    """One server, one release on it, no lock."""
    shared.mend()
    yield shared
    shared.let_go()


def test_the_second_of_two_deploys_is_refused_or_waits(one: Rig) -> None:
    """While one deploys, a second exits 5 and names the holder; with --wait it deploys after it, on top of it."""
    first, second = one.next_version(), one.next_version()
    run = one.start_until("before.switch", "deploy", "--version", first)
    holder = one.journal()[-1]
    told = one.run("deploy", "--version", second, status=5)
    assert str(holder["run_id"]) in told
    assert str(holder["who"]) in told
    one.run("deploy", "--resume", status=5)  # nobody takes over from a run that lives
    one.run("stack.scale", "--service", "app", "--replicas", "2", status=5)
    waiting = one.start("deploy", "--version", second, "--wait", "120")
    one.tells(waiting, "waiting up to 120 s")
    one.let_go()
    assert run.end() == 0, run.told
    assert waiting.end() == 0, waiting.told
    one.check(second)
    one.run("deploy.rollback", "--yes")
    one.check(first)  # and not what served when the second began to wait
    one.version = first


def test_a_run_that_waited_and_died_goes_back_to_what_the_other_left(one: Rig) -> None:
    """The release to go back to is the one that the run before it deployed while it waited."""
    first, second = one.next_version(), one.next_version()
    run = one.start_until("before.switch", "deploy", "--version", first)
    waiting = one.start("deploy", "--version", second, "--wait", "120")
    one.tells(waiting, "waiting up to 120 s")
    one.let_go()
    assert run.end() == 0, run.told
    one.hold("after.switch")
    one.await_held(waiting)
    waiting.send(signal.SIGKILL)
    waiting.end()
    one.let_go()
    one.await_stale()
    one.run("deploy.rollback", "--yes")
    one.check(first)
    one.version = first


def test_a_rollback_that_waited_goes_back_from_what_the_other_left(one: Rig) -> None:
    """A rollback that waits for a deploy undoes that deploy."""
    run = one.start_until("before.switch", "deploy", "--version", one.next_version())
    waiting = one.start("deploy.rollback", "--yes", "--wait", "120")
    one.tells(waiting, "waiting up to 120 s")
    one.let_go()
    assert run.end() == 0, run.told
    assert waiting.end() == 0, waiting.told
    one.check(one.version)


def test_a_waiting_run_that_is_interrupted_leaves_the_holder_alone(one: Rig) -> None:
    """Ctrl-C while waiting ends with 130; the holder keeps its lock and comes to its end."""
    wanted = one.next_version()
    run = one.start_until("before.switch", "deploy", "--version", wanted)
    waiting = one.start("deploy", "--version", one.next_version(), "--wait", "120")
    one.tells(waiting, "waiting up to 120 s")
    waiting.send(signal.SIGINT)
    assert waiting.end() == 130, waiting.told
    on("web1", f"test -d {ROOT}/locks/change")
    one.let_go()
    assert run.end() == 0, run.told
    one.check(wanted)
    one.version = wanted


def test_a_long_step_is_a_living_run(one: Rig) -> None:
    """While a command takes longer than a lock lasts, the heartbeat goes on and nobody takes over."""
    wanted = one.next_version()
    one.stack.edit("ops.toml", lambda text: text.replace('command = ["true"]', 'command = ["sleep", "8"]'))
    try:
        run = one.start("deploy", "--version", wanted)
        one.tells(run, "migrate: sleep 8")
        time.sleep(2 * STALE)
        one.run("deploy.rollback", "--yes", status=5)
        assert run.end() == 0, run.told
    finally:
        one.stack.edit(
            "ops.toml", lambda text: text.replace('command = ["sleep", "8"]', 'command = ["true"]')
        )
    one.check(wanted)
    one.version = wanted


def test_after_a_kill_the_next_run_is_told_both_ways_on(one: Rig) -> None:
    """A plain deploy exits 5 while the dead run's heartbeat is fresh, then 4 with both ways on; scale does the same."""
    one.stack.edit("ops.toml", lambda text: text.replace("stale_after = 1.5", "stale_after = 8"))
    try:
        run = one.start_until("before.switch", "deploy", "--version", one.next_version())
        run.send(signal.SIGKILL)
        run.end()
        one.let_go()
        one.run("deploy", "--version", one.next_version(), status=5)
    finally:
        one.stack.edit("ops.toml", lambda text: text.replace("stale_after = 8", "stale_after = 1.5"))
    one.await_stale()
    told = one.run("deploy", "--version", one.next_version(), status=4)
    assert "--resume" in told
    assert "deploy.rollback" in told
    one.run("stack.scale", "--service", "app", "--replicas", "2", status=4)
    one.check(one.version, locked=True)
    one.run("deploy.rollback", "--yes")
    one.check(one.version)


def test_unlocking_spares_the_living_and_ends_the_frozen(one: Rig) -> None:
    """deploy.unlock exits 5 for a living run; it takes a silent one's lock away, and that run changes nothing more."""
    run = one.start_until("before.switch", "deploy", "--version", one.next_version())
    holder = str(one.journal()[-1]["run_id"])
    assert holder in one.run("deploy.unlock", "--yes", status=5)
    run.send(signal.SIGSTOP)
    try:
        one.await_stale()
        assert holder in one.run("deploy.unlock", "--yes")
        assert "no lock" in one.run("deploy.unlock", "--yes")
        one.check(one.version)
        before = one.look()
    finally:
        one.let_go()
        run.send(signal.SIGCONT)
    assert run.end() == 5, run.told
    assert one.look() == before
    wanted = one.next_version()
    one.run("deploy", "--version", wanted)
    one.check(wanted)
    one.version = wanted

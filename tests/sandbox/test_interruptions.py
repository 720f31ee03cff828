"""Runs that die, are interrupted or freeze, at every phase and in the middle of the switch."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import pytest
from fleets import emptied
from stops import Rig, Run, SlowRequest, rig

from ops import sandbox as boxes
from ops.runs.phases import Phase

pytestmark = [pytest.mark.holds(5), pytest.mark.timeout(240)]

# Where a run is held in each phase. Of CHECK and LOCK it is the end: then the servers were asked, or the lock is held.
PLACES = {phase: f"{'after' if phase in (Phase.CHECK, Phase.LOCK) else 'before'}.{phase}" for phase in Phase}
KILLED = [*PLACES.values(), "after.switch", "after.commit"]


@pytest.fixture(scope="module")
def shared(sandbox: boxes.Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Rig:
    """The stack on one server."""
    return rig(tmp_path_factory.mktemp("one") / "stops")


@pytest.fixture(scope="module")
def shared_pair(sandbox: boxes.Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Rig:
    """The stack on two servers, switched one after the other."""
    return rig(tmp_path_factory.mktemp("two") / "stops", ("web2", "db1"), toml="batch = 1\n")


@pytest.fixture
def one(shared: Rig) -> Iterator[Rig]:
    """One server, one release on it, no lock."""
    shared.mend()
    yield shared
    shared.let_go()


@pytest.fixture
def two(shared_pair: Rig) -> Iterator[Rig]:
    """Two servers with one release on both, no lock."""
    shared_pair.mend()
    yield shared_pair
    shared_pair.let_go()


def killed(stack: Rig, version: str, place: str) -> None:
    """Leave a run that was killed at a place."""
    run = stack.start_until(place, "deploy", "--version", version)
    run.send(signal.SIGKILL)
    run.end()
    stack.let_go()


@pytest.mark.parametrize("place", KILLED)
def test_a_killed_run_is_finished_by_resume(one: Rig, place: str) -> None:
    """After SIGKILL at any phase --resume deploys what was under way, as one release, and gives the lock back."""
    wanted = one.next_version()
    killed(one, wanted, place)
    if place == PLACES[Phase.CHECK]:
        one.run("deploy", "--version", wanted)  # it held no lock: there is nothing to resume
    else:
        one.await_stale()
        one.run("deploy", "--resume")
    one.check(wanted)
    assert sum(f"-{wanted}-" in line for line in one.look()["web1"] if line.startswith("release ")) == 1
    one.version = wanted


@pytest.mark.parametrize("place", KILLED)
def test_a_killed_run_is_taken_back_by_rollback(one: Rig, place: str) -> None:
    """After SIGKILL at any phase deploy.rollback goes to the release from before that run, not to one further back."""
    killed(one, one.next_version(), place)
    if place != PLACES[Phase.CHECK]:
        one.await_stale()
        one.run("deploy.rollback", "--yes")
    one.check(one.version)


@pytest.mark.parametrize("phase", Phase)
def test_an_interrupted_run_is_rolled_back(one: Rig, phase: Phase) -> None:
    """A signal at any phase ends with 130 or 143, the old version, no lock and no trace of the new release."""
    number = (signal.SIGINT, signal.SIGTERM)[list(Phase).index(phase) % 2]
    version = one.next_version()
    run = one.start_until(PLACES[phase], "deploy", "--version", version)
    run.send(number)
    assert run.end() == 128 + number, run.told
    assert "interrupted" in run.told
    one.check(one.version, gone=version)


@pytest.mark.parametrize("phase", Phase)
def test_a_frozen_run_that_wakes_changes_nothing(one: Rig, phase: Phase) -> None:
    """A laptop that wakes up after another run took over leaves the servers as that run left them, with exit 5."""
    run = one.start_until(PLACES[phase], "deploy", "--version", one.next_version())
    run.send(signal.SIGSTOP)
    try:
        wanted = one.next_version()
        if phase is Phase.CHECK:
            one.run("deploy", "--version", wanted)
        else:
            one.await_stale()
            one.run("deploy", "--resume", "--version", wanted)
        one.check(wanted)
        before = one.look()
    finally:
        one.let_go()
        run.send(signal.SIGCONT)
    assert run.end() == 5, run.told
    after = one.look()
    if (
        phase is Phase.CHECK
    ):  # it took the lock, saw what had come in between, and gave it back: that is in the books
        before, after = (
            {"web1": [line for line in found["web1"] if "book " not in line]} for found in (before, after)
        )
    assert after == before
    one.version = wanted


class TestInTheMiddleOfTheSwitch:
    """While new containers are awaited, between two servers, and while old requests are waited for."""

    def awaiting(self, stack: Rig, version: str, where: str = "") -> Run:
        """Start a deploy whose new containers are not healthy for long, and return it once they are awaited."""
        stack.ready_after(f"60{where}")
        run = stack.start("deploy", "--version", version)
        server = where.removeprefix("@") or stack.servers[0]
        stack.tells(run, f"{server}: wait until 1 app container of this release")
        stack.ready_after("0")
        return run

    def test_interrupted_while_a_container_becomes_healthy(self, one: Rig) -> None:
        """SIGTERM while a slow container is awaited: it goes, and the old serve."""
        version = one.next_version()
        run = self.awaiting(one, version)
        run.send(signal.SIGTERM)
        assert run.end() == 143, run.told
        one.check(one.version, gone=version)

    def test_killed_while_a_container_becomes_healthy(self, one: Rig) -> None:
        """SIGKILL while a slow container is awaited: deploy.rollback removes it, and the old serve on."""
        run = self.awaiting(one, one.next_version())
        run.send(signal.SIGKILL)
        run.end()
        one.await_stale()
        one.run("deploy.rollback", "--yes")
        one.check(one.version)

    def test_frozen_while_a_container_becomes_healthy(self, one: Rig) -> None:
        """A run that wakes up in the middle of its health gate turns no proxy."""
        run = self.awaiting(one, one.next_version())
        run.send(signal.SIGSTOP)
        try:
            one.await_stale()
            one.run("deploy.rollback", "--yes")
            one.check(one.version)
            before = one.look()
        finally:
            run.send(signal.SIGCONT)
        assert run.end() == 5, run.told
        assert one.look() == before

    def test_interrupted_while_a_request_drains(self, one: Rig) -> None:
        """SIGINT while the old container ends a request: the request is answered, and the old version serves again."""
        version = one.next_version()
        request = SlowRequest("web1", 8.0).start()
        run = one.start("deploy", "--version", version)
        one.tells(run, "wait until requests to the old app are done")
        run.send(signal.SIGINT)
        assert run.end() == 130, run.told
        assert request.end() == one.version
        one.check(one.version, gone=version)

    def test_killed_while_a_request_drains(self, one: Rig) -> None:
        """SIGKILL while the old container ends a request: --resume waits for the request as well."""
        version = one.next_version()
        request = SlowRequest("web1", 12.0).start()
        run = one.start("deploy", "--version", version)
        one.tells(run, "wait until requests to the old app are done")
        run.send(signal.SIGKILL)
        run.end()
        one.await_stale()
        one.run("deploy", "--resume")
        assert request.end() == one.version
        one.check(version)
        one.version = version

    def test_interrupted_between_two_servers(self, two: Rig) -> None:
        """SIGINT once the first server is switched and the second is not: both are on the old release."""
        version = two.next_version()
        run = self.awaiting(two, version, "@db1")
        run.send(signal.SIGINT)
        assert run.end() == 130, run.told
        two.check(two.version, gone=version)

    def test_killed_between_two_servers_and_resumed(self, two: Rig) -> None:
        """SIGKILL once the first server is switched and the second is not: --resume brings both to the new release."""
        version = two.next_version()
        run = self.awaiting(two, version, "@db1")
        run.send(signal.SIGKILL)
        run.end()
        two.await_stale()
        # A resume that fails before it changes anything does not let the dead run be forgotten.
        two.stack.edit("compose.yaml", lambda text: text.replace("python:3.13-slim", "python:no-such-tag"))
        two.run("deploy", "--resume", status=1)
        two.stack.edit("compose.yaml", lambda text: text.replace("python:no-such-tag", "python:3.13-slim"))
        assert "left unfinished" in two.run("deploy", "--version", version, status=4)
        two.run("deploy", "--resume")
        two.check(version)
        two.version = version

    def test_killed_between_two_servers_and_rolled_back(self, two: Rig) -> None:
        """SIGKILL once the first server is switched and the second is not: a rollback brings both to the old release."""
        run = self.awaiting(two, two.next_version(), "@db1")
        run.send(signal.SIGKILL)
        run.end()
        two.await_stale()
        two.run("deploy.rollback", "--yes")
        two.check(two.version)


def test_a_second_interrupt_leaves_at_once_and_the_way_on_works(one: Rig) -> None:
    """A second Ctrl-C on the way back ends with 4 and leaves the lock; the next deploy names both ways on, which work."""
    one.hold("failure")
    run = one.start_until("after.switch", "deploy", "--version", one.next_version())
    run.send(signal.SIGINT)
    one.let_go()
    one.await_held(run)
    begun = time.monotonic()
    run.send(signal.SIGINT)
    assert run.end() == 4, run.told
    assert time.monotonic() - begun < 15
    assert "interrupted twice" in run.told
    assert "deploy.rollback" in run.told
    told = one.run("deploy", "--version", one.next_version(), status=4)
    assert "--resume" in told
    assert "deploy.rollback" in told
    one.run("deploy.rollback", "--yes")
    one.check(one.version)


def test_an_interrupted_first_deploy_leaves_nothing(sandbox: boxes.Sandbox, two: Rig) -> None:
    """SIGINT behind the switch of a first deploy: containers and release are gone, no `current`, no lock."""
    emptied(*two.servers)
    two.version = ""
    run = two.start_until("after.switch", "deploy", "--version", two.next_version())
    run.send(signal.SIGINT)
    assert run.end() == 130, run.told
    for lines in two.look().values():
        assert [line for line in lines if not line.startswith("book ")] == []


def test_a_killed_rollback_is_finished_by_rollback(one: Rig) -> None:
    """A rollback that was killed is told by the next deploy, and a second rollback goes where the first one went."""
    wanted = one.next_version()
    one.run("deploy", "--version", wanted)
    run = one.start_until("before.commit", "deploy.rollback", "--yes")
    run.send(signal.SIGKILL)
    run.end()
    one.let_go()
    one.await_stale()
    told = one.run("deploy", "--version", wanted, status=4)
    assert "deploy.rollback" in told
    one.run("deploy.rollback", "--yes")
    one.check(one.version)


def test_a_frozen_run_that_nobody_followed_goes_on(one: Rig) -> None:
    """A laptop that wakes up while its lock still stands comes to its end."""
    wanted = one.next_version()
    run = one.start_until("before.switch", "deploy", "--version", wanted)
    run.send(signal.SIGSTOP)
    try:
        one.await_stale()
    finally:
        one.let_go()
        run.send(signal.SIGCONT)
    assert run.end() == 0, run.told
    one.check(wanted)
    one.version = wanted

"""Servers that are lost while a run is at work on them, and come back."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from fleets import own_name
from stops import Rig, Run, rig

from ops import sandbox as boxes

pytestmark = [pytest.mark.holds(6), pytest.mark.timeout(300)]

BOUND = 60.0  # seconds: `silence` is 4; a dial, the way back and the last line of the journal come on top


@pytest.fixture(scope="module")
def shared(sandbox: boxes.Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Rig:
    """The stack on two servers, the first with the lock; they are switched one after the other."""
    return rig(tmp_path_factory.mktemp("lost") / "stops", ("web1", "web2"), toml="batch = 1\n")


@pytest.fixture
def two(shared: Rig) -> Iterator[Rig]:
    """Two servers with one release on both, no lock; both live again at the end, whatever came."""
    shared.mend()
    yield shared
    for name in shared.servers:
        state = next(s.state for s in boxes.status().servers if s.name == own_name(name))
        if state == "paused":
            boxes.resume(own_name(name))
        elif state != "running":
            boxes.start(own_name(name))


def at_the_second(stack: Rig, version: str) -> Run:
    """Start a deploy and return it once the first server is switched and the second waits for its new container."""
    stack.ready_after("90@web2")
    run = stack.start("deploy", "--version", version)
    stack.tells(run, "web2: wait until 1 app container of this release")
    stack.ready_after("0")
    return run


def ends_in_time(run: Run, begun: float) -> None:
    """The run ends within the bound, and says that a person has to look."""
    assert run.end(BOUND + 60) == 4, run.told
    assert time.monotonic() - begun < BOUND, run.told


def test_a_frozen_server_rolls_the_others_back(two: Rig) -> None:
    """A server that falls silent in the switch: the others go back in bounded time, exit 4; --resume finishes on all."""
    version = two.next_version()
    run = at_the_second(two, version)
    begun = time.monotonic()
    boxes.pause(own_name("web2"))
    ends_in_time(run, begun)
    assert "web2" in run.told
    assert "--resume" in run.told
    two.check(two.version, on_server="web1")
    boxes.resume(own_name("web2"))
    assert "deploy.rollback" in two.run("deploy", "--version", two.next_version(), status=4)
    two.run("deploy", "--resume")
    two.check(version)
    two.version = version


def test_a_dead_server_is_left_behind_and_brought_up_to_date(two: Rig) -> None:
    """With on_host_lost = continue the others are deployed, exit 4; --resume brings the lost one to the same release."""
    two.stack.edit("ops.toml", lambda text: 'on_host_lost = "continue"\n' + text)
    try:
        version = two.next_version()
        run = at_the_second(two, version)
        begun = time.monotonic()
        boxes.kill(own_name("web2"))
        ends_in_time(run, begun)
        assert "--resume" in run.told
        two.check(version, on_server="web1")
        boxes.start(own_name("web2"))
        two.run("deploy", "--resume")
        two.check(version)
        two.version = version
    finally:
        two.stack.edit("ops.toml", lambda text: text.replace('on_host_lost = "continue"\n', ""))


def test_a_rollback_spares_a_server_that_was_left_behind(two: Rig) -> None:
    """A server that the newest release never came to stays where it is when the others roll back to it."""
    two.run("deploy", "--version", two.next_version(), "--servers", "web1")
    two.run("deploy.rollback", "--yes")
    two.check(two.version)


def test_the_server_with_the_lock_is_lost(two: Rig) -> None:
    """When the state host dies in the switch the other server goes back, exit 4; the way on works once it is there again."""
    run = at_the_second(two, two.next_version())
    begun = time.monotonic()
    boxes.kill(own_name("web1"))
    two.tells(run, "rolling back", BOUND)
    ends_in_time(run, begun)
    two.check(two.version, on_server="web2")
    boxes.start(own_name("web1"))
    two.run("deploy.rollback", "--yes")
    two.check(two.version)

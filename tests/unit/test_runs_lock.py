"""The lock on the state host: one holder at a time, found out by real shells."""

import json
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from shells import run

from ops.engines.layout import Layout
from ops.errors import Locked, NeedsPerson
from ops.runs import lock
from ops.runs.lock import HELD, Holder, held_error

LONG_AGO = 100.0


@pytest.fixture
def layout(tmp_path):
    return Layout(str(tmp_path / "it's here"), "shop", "production")


@pytest.fixture
def root(layout, tmp_path):
    return tmp_path / "it's here" / "shop" / "production"


def holder(run_id="run-1", **fields):
    return Holder(run_id, "deploy", "ann@desk", "2026-01-01T00:00:00Z", **fields)


def acquire(layout, run_id="run-1", *, floor=0, take_over=None, shell="sh", stale_after=30.0):
    command = lock.acquire(
        layout,
        holder(run_id),
        f'{{"run_id": "{run_id}"}}',
        floor=floor,
        take_over=take_over,
        stale_after=stale_after,
    )
    return run(command, shell)


def age(root, seconds=LONG_AGO):
    then = time.time() - seconds
    os.utime(root / "locks" / "change" / "heartbeat", (then, then))


def token(result):
    return int(result.stdout.split()[-1])


class TestTaking:
    """A lock that nobody holds."""

    def test_it_prints_that_it_is_new_and_a_token(self, layout, shell):
        assert acquire(layout, shell=shell).stdout == "new 1\n"

    def test_its_holder_stands_in_it(self, layout, root, shell):
        acquire(layout, "run-1", shell=shell)
        assert Holder.from_json((root / "locks/change/holder.json").read_text()) == holder("run-1")

    def test_the_state_hosts_fence_is_raised_with_it(self, layout, root, shell):
        acquire(layout, "run-1", shell=shell)
        assert (root / "fence").read_text() == "1 run-1\n"

    def test_the_journal_gets_its_line(self, layout, root, shell):
        acquire(layout, "run-1", shell=shell)
        assert (root / "journal.jsonl").read_text() == '{"run_id": "run-1"}\n'

    def test_the_folders_of_a_first_deploy_are_made_for_their_owner_alone(self, layout, root):
        acquire(layout)
        assert {path.name for path in root.iterdir() if path.is_dir()} == {
            "files",
            "locks",
            "proxy",
            "releases",
            "shared",
        }
        assert root.stat().st_mode & 0o077 == 0

    def test_a_folder_that_cannot_be_made_fails_and_is_not_held(self, layout, root):
        root.parent.parent.mkdir()
        root.parent.write_text("a file in the way")
        assert acquire(layout).status == 1

    def test_tokens_grow_with_each_holder(self, layout, shell):
        tokens = []
        for number in range(3):
            tokens.append(token(acquire(layout, f"run-{number}", shell=shell)))
            run(lock.release(layout, "{}"), shell)
        assert tokens == [1, 2, 3]

    def test_a_token_is_above_all_that_servers_have_accepted(self, layout, shell):
        assert token(acquire(layout, floor=41, shell=shell)) == 42

    def test_a_low_floor_does_not_bring_tokens_back(self, layout):
        acquire(layout, floor=41)
        run(lock.release(layout, "{}"))
        assert token(acquire(layout, floor=7)) == 43

    def test_giving_it_back_writes_the_journal_and_frees_it(self, layout, root, shell):
        acquire(layout, "run-1")
        assert run(lock.release(layout, '{"event": "it\'s done"}'), shell).ok
        assert (root / "journal.jsonl").read_text().splitlines()[-1] == '{"event": "it\'s done"}'
        assert acquire(layout, "run-2").ok


class TestHeld:
    """A lock that another holds."""

    def test_it_is_refused_and_the_holder_is_told(self, layout, shell):
        acquire(layout, "run-1")
        refused = acquire(layout, "run-2", shell=shell)
        assert refused.status == HELD
        milliseconds, _, text = refused.stdout.partition("\n")
        assert int(milliseconds) < 10_000
        assert Holder.from_json(text) == holder("run-1")

    def test_a_refused_run_changes_nothing(self, layout, root):
        acquire(layout, "run-1")
        acquire(layout, "run-2")
        assert (root / "fence").read_text() == "1 run-1\n"
        assert (root / "journal.jsonl").read_text() == '{"run_id": "run-1"}\n'
        assert (root / "locks/change.token").read_text() == "1\n"

    @pytest.mark.parametrize("attempt", range(50))
    def test_of_two_at_once_exactly_one_gets_it(self, layout, attempt):
        start = threading.Barrier(2)

        def take(number):
            start.wait()
            return acquire(layout, f"run-{number}")

        with ThreadPoolExecutor(2) as pool:
            results = list(pool.map(take, range(2)))
        assert sorted(result.status for result in results) == [0, HELD]
        (loser,) = [result for result in results if not result.ok]
        (winner,) = [number for number, result in enumerate(results) if result.ok]
        told = Holder.from_json(loser.stdout.partition("\n")[2])
        assert told is None or told.run_id == f"run-{winner}"


class TestTakingOver:
    """The lock of a run that died."""

    @pytest.fixture(autouse=True)
    def dead(self, layout, root):
        acquire(layout, "run-dead")
        age(root)

    def test_a_stale_lock_of_the_named_run_is_taken(self, layout, root, shell):
        taken = acquire(layout, "run-2", take_over="run-dead", shell=shell)
        assert (taken.status, taken.stdout) == (0, "dead 2\n")
        assert Holder.from_json((root / "locks/change/holder.json").read_text()).run_id == "run-2"
        assert (root / "fence").read_text() == "2 run-2\n"

    def test_it_is_not_taken_without_a_word(self, layout):
        assert acquire(layout, "run-2").status == HELD

    def test_the_lock_of_another_run_than_the_one_named_is_not_taken(self, layout):
        assert acquire(layout, "run-2", take_over="run-other").status == HELD

    def test_a_lock_whose_holder_lives_is_not_taken(self, layout, root):
        age(root, 5)
        assert acquire(layout, "run-2", take_over="run-dead").status == HELD

    def test_a_lock_whose_holder_died_before_it_gave_its_name_is_taken(self, layout, root):
        (root / "locks/change/holder.json").unlink()
        assert acquire(layout, "run-2", take_over="").stdout == "dead 2\n"

    def test_after_it_the_lock_lives_again(self, layout):
        acquire(layout, "run-2", take_over="run-dead")
        refused = acquire(layout, "run-3", take_over="run-dead")
        assert refused.status == HELD
        assert int(refused.stdout.splitlines()[0]) < 10_000

    @pytest.mark.parametrize("attempt", range(25))
    def test_of_two_at_once_exactly_one_takes_it(self, layout, attempt):
        start = threading.Barrier(2)

        def take(number):
            start.wait()
            return acquire(layout, f"run-{number}", take_over="run-dead")

        with ThreadPoolExecutor(2) as pool:
            results = list(pool.map(take, range(2)))
        assert sorted(result.status for result in results) == [0, HELD]

    def test_a_run_that_gave_up_leaves_it_to_be_taken_at_once(self, layout, root, shell):
        age(root, 0)
        assert run(lock.abandon(layout, '{"event": "failed"}'), shell).ok
        assert acquire(layout, "run-2", take_over="run-dead").ok
        assert '{"event": "failed"}' in (root / "journal.jsonl").read_text()


class TestHeartbeat:
    """The holder shows that it lives."""

    def test_a_beat_makes_a_stale_lock_fresh_and_says_the_phase(self, layout, root, shell):
        acquire(layout)
        age(root)
        assert run(lock.beat(layout, "switch"), shell).ok
        assert (root / "locks/change/phase").read_text() == "switch\n"
        assert acquire(layout, "run-2", take_over="run-1").status == HELD

    def test_without_a_lock_a_beat_fails_and_makes_none(self, layout, root):
        acquire(layout)
        run(lock.release(layout, "{}"))
        assert not run(lock.beat(layout, "switch")).ok
        assert not (root / "locks/change").exists()

    def test_the_holder_can_be_corrected(self, layout, root, shell):
        acquire(layout)
        corrected = holder("run-1", previous={"web1": "r1"})
        assert run(lock.amend(layout, corrected), shell).ok
        assert Holder.from_json((root / "locks/change/holder.json").read_text()) == corrected


class TestFullDisk:
    """A state host without room: `/dev/full` refuses every byte."""

    @pytest.fixture
    def journal(self, layout, root):
        acquire(layout)
        (root / "journal.jsonl").unlink()
        (root / "journal.jsonl").symlink_to("/dev/full")

    def test_a_run_that_lives_still_shows_it(self, layout, root, shell):
        acquire(layout)
        age(root)
        (root / "locks/change/phase").symlink_to("/dev/full")
        assert run(lock.beat(layout, "switch"), shell).ok
        assert acquire(layout, "run-2", take_over="run-1").status == HELD

    def test_a_run_that_ends_gives_its_lock_back_and_says_what_is_missing(self, layout, root, journal, shell):
        assert run(lock.release(layout, "{}"), shell).status == lock.UNWRITTEN
        assert not (root / "locks/change").exists()

    def test_a_run_that_gives_up_leaves_its_lock_to_be_taken_at_once(self, layout, root, journal, shell):
        assert run(lock.abandon(layout, "{}"), shell).status == lock.UNWRITTEN
        assert time.time() - (root / "locks/change/heartbeat").stat().st_mtime > lock.LONG

    def test_a_lock_that_could_not_be_journalled_is_not_kept(self, layout, root, journal, shell):
        run(lock.release(layout, "{}"))
        assert acquire(layout, "run-2", shell=shell).status == 1
        assert not (root / "locks/change").exists()

    def test_that_of_a_dead_run_stays_one_that_can_be_taken_at_once(self, layout, root, journal, shell):
        age(root)
        assert acquire(layout, "run-2", take_over="run-1", shell=shell).status == 1
        (root / "journal.jsonl").unlink()
        assert acquire(layout, "run-3", take_over="run-2", shell=shell).stdout.startswith("dead ")


class TestError:
    """What a person is told of a lock that another holds."""

    def told(self, milliseconds, text=None):
        text = holder("run-1").to_json() if text is None else text
        return held_error(f"{milliseconds}\n{text}", stale_after=30.0, where="--env production")

    def test_a_living_holder_is_named(self):
        error = self.told(4000)
        assert isinstance(error, Locked)
        assert str(error) == (
            "locked: deploy by ann@desk, run run-1, since 2026-01-01T00:00:00Z; last sign of life 4 s ago"
        )
        assert "inv deploy.status --env production" in error.next_step

    def test_a_dead_one_needs_a_person_who_is_told_both_ways_on(self):
        error = self.told(31_000)
        assert isinstance(error, NeedsPerson)
        assert "run run-1" in str(error)
        assert error.left_behind
        assert "inv deploy --env production --resume" in error.next_step
        assert "inv deploy.rollback --env production" in error.next_step

    def test_a_holder_that_never_gave_its_name_is_unknown(self):
        assert "an unknown run" in str(self.told(4000, ""))

    @pytest.mark.parametrize("text", ["", "{", "[]", '{"run_id": 1}'])
    def test_a_holder_that_cannot_be_read_is_none(self, text):
        assert Holder.from_json(text) is None

    def test_a_holder_reads_back_as_it_was_written(self):
        one = holder(version="1", release="r", previous={"web1": None, "web2": "r0"})
        assert Holder.from_json(one.to_json()) == one
        assert json.loads(one.to_json())["previous"] == {"web1": None, "web2": "r0"}

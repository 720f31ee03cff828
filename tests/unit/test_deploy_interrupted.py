"""Interrupts, deaths and second thoughts, in each phase of a deploy."""

import os
import signal
import threading
import time

import pytest
from standin.server import Killed, Session
from standin.stack import Listener

from ops.deploy.deploying import Seams
from ops.deploy.unlocking import unlock
from ops.errors import Interrupted, Locked, NeedsPerson, OpsError, RolledBack
from ops.runs.interruption import Interruption
from ops.runs.phases import Phase

# What an interrupt in each phase leads to. A new phase needs its row here.
SAID = {
    Phase.CHECK: "nothing was switched",
    Phase.LOCK: "nothing was switched",
    Phase.FETCH: "nothing was switched",
    Phase.UPLOAD: "nothing was switched",
    Phase.BACKUP: "nothing was switched",
    Phase.MIGRATE: "nothing was switched",
    Phase.SWITCH: "rolled back",
    Phase.SMOKE: "rolled back",
    Phase.COMMIT: "rolled back",
}
STAGES = '[[smoke]]\n\n[migrate]\nservice = "web"\ncommand = ["manage", "migrate"]\n\n[services.nginx]'


@pytest.fixture
def shop(single):
    """One server with version 1, and a deploy that goes through all phases."""
    single.edit("ops.toml", "[services.nginx]", STAGES)
    single.edit("ops.toml", "keep_releases = 3", "keep_releases = 3\nbackup_before_deploy = true")
    single.before = single.current("web1", "staging")
    return single


def send(number=signal.SIGINT):
    os.kill(os.getpid(), number)


def deploy(shop, version="2", **options):
    return shop.deploy(version, environment="staging", seams=Seams(backup=lambda: "a backup"), **options)


def fails(shop, **options):
    with pytest.raises(OpsError) as failure:
        deploy(shop, **options)
    return failure.value


def as_before(shop):
    docker = shop.web1.docker
    assert shop.current("web1", "staging") == shop.before
    assert shop.releases("web1", "staging") == [shop.before]
    assert [c.image.tag for c in docker.rotation("web")] == ["1", "1"]
    assert {c.image.tag for c in docker.of("web")} == {"1"}
    assert docker.harm == []
    assert not shop.locked("staging")


def serves(shop, version):
    docker = shop.web1.docker
    assert [c.image.tag for c in docker.rotation("web")] == [version] * 2
    assert {(c.image.tag, c.state) for c in docker.of("web")} == {(version, "running")}
    assert docker.harm == []
    assert docker.least["web"] == 2
    assert not shop.locked("staging")


def test_every_phase_has_its_row():
    assert set(SAID) == set(Phase)


class TestInterrupt:
    """One signal: back to what was, 130 or 143."""

    @pytest.mark.parametrize("phase", Phase)
    def test_it_leads_back_from_every_phase(self, shop, phase):
        error = fails(shop, listener=Listener({phase: send}))
        assert isinstance(error, Interrupted)
        assert error.exit_code == 130
        assert f"in phase {phase}" in str(error)
        assert SAID[phase] in str(error)
        as_before(shop)

    def test_sigterm_ends_with_143(self, shop):
        error = fails(shop, listener=Listener({Phase.SWITCH: lambda: send(signal.SIGTERM)}))
        assert error.exit_code == 143
        as_before(shop)

    def test_the_journal_says_that_it_was_interrupted(self, shop):
        fails(shop, listener=Listener({Phase.SWITCH: send}))
        assert shop.journal("staging")[-1] == ("deploy", "interrupted")

    @pytest.mark.parametrize(
        "step",
        [
            "start 2 new web",
            "wait until 2 web",
            "proxy: old and new",
            "proxy: new web only",
            "stop 2 old",
            "at rest",
        ],
    )
    def test_it_leads_back_from_every_step_of_a_roll(self, shop, step):
        class AtStep(Listener):
            def step(self, host, title):
                if step in title and not self.said:
                    self.said.append(title)
                    send()

        assert fails(shop, listener=AtStep()).exit_code == 130
        as_before(shop)

    def test_while_the_migration_runs_it_waits_for_its_end(self, shop):
        ended = []

        def migration(docker, line):
            send()
            ended.append(line)
            return (0, "", "")

        shop.web1.docker.breaks(r"compose .* run ", migration)
        error = fails(shop)
        assert ended
        assert error.exit_code == 130
        assert "the migration had run" in error.left_behind
        as_before(shop)

    def test_while_a_lock_is_waited_for_it_ends_the_waiting(self, shop):
        shop.path("web1", "locks/change", "staging").mkdir()

        class Waiting(Listener):
            def say(self, text):
                send()

        assert fails(shop, listener=Waiting(), wait=60.0).exit_code == 130

    def test_a_first_deploy_leaves_nothing_but_volumes(self, shop):
        shop.path("web1", "current", "staging").unlink()
        shop.web1.docker.containers.clear()
        error = fails(shop, listener=Listener({Phase.SMOKE: send}))
        assert error.exit_code == 130
        assert shop.web1.docker.shown() == []
        assert shop.current("web1", "staging") is None


class TestTwice:
    """A second signal leaves at once; what is left waits for resume or rollback."""

    def interrupted_twice(self, shop):
        interruption = Interruption()
        session = Session()
        session.on(
            "docker rm -f|docker stop",
            lambda: send() if interruption.number and not interruption.twice else None,
        )

        class AtStep(Listener):
            def step(self, host, title):
                if "proxy: old and new" in title:
                    send()

        return fails(shop, listener=AtStep(), session=session, interruption=interruption)

    def test_it_needs_a_person_and_leaves_the_lock_to_be_taken(self, shop):
        error = self.interrupted_twice(shop)
        assert isinstance(error, NeedsPerson)
        assert "interrupted twice" in str(error)
        assert shop.locked("staging")

    def test_the_next_deploy_names_both_ways_on(self, shop):
        self.interrupted_twice(shop)
        error = fails(shop)
        assert isinstance(error, NeedsPerson)
        assert "--resume" in error.next_step
        assert "deploy.rollback" in error.next_step

    def test_resume_finishes_it_at_once(self, shop):
        self.interrupted_twice(shop)
        deploy(shop, resume=True)
        serves(shop, "2")

    def test_rollback_goes_back_at_once(self, shop):
        self.interrupted_twice(shop)
        shop.rollback(environment="staging")
        assert shop.current("web1", "staging") == shop.before
        serves(shop, "1")


def killed(shop, at, version="2"):
    """Let a deploy die; `at` is a phase, or a pattern of a command."""
    session = Session()
    if isinstance(at, Phase):
        listener = Listener({at: session.kill})
    else:
        listener = Listener()
        session.on(at, session.kill)
    with pytest.raises(Killed):
        deploy(shop, version, session=session, listener=listener)
    if shop.locked("staging"):
        shop.web1.age_lock("shop", "staging", 100)


MOMENTS = [
    *(phase for phase in Phase if phase is not Phase.CHECK),
    "^docker rm",
    "^docker compose up .*web",
    "^write nginx/upstreams",
    "^docker top",
    "^docker stop",
    "^current ->",
    "^journal; unlock",
]


class TestDeath:
    """The operator's machine is gone in the middle."""

    @pytest.mark.parametrize("moment", MOMENTS, ids=str)
    def test_resume_finishes_what_any_moment_left(self, shop, moment):
        if moment == "^docker rm":
            shop.web1.docker.crash(shop.web1.docker.of("web")[1])
            shop.web1.docker.least.clear()
        killed(shop, moment)
        deploy(shop, resume=True)
        docker = shop.web1.docker
        assert [c.image.tag for c in docker.rotation("web")] == ["2", "2"]
        assert {c.image.tag for c in docker.of("web")} == {"2"}
        assert docker.harm == []
        assert not shop.locked("staging")
        assert shop.current("web1", "staging") != shop.before

    @pytest.mark.parametrize(
        "moment",
        [Phase.UPLOAD, Phase.SMOKE, "^docker compose up .*web", "^docker stop", "^current ->"],
        ids=str,
    )
    def test_rollback_goes_back_from_any_moment(self, shop, moment):
        killed(shop, moment)
        shop.rollback(environment="staging")
        assert shop.current("web1", "staging") == shop.before
        serves(shop, "1")

    def test_where_somebody_removed_its_lock_a_rollback_goes_to_the_release_that_served(self, shop):
        deploy(shop, "2")
        served = shop.current("web1", "staging")
        killed(shop, "^docker stop", version="3")
        state = shop.hosts(Session(), Interruption(), "staging")["web1"]
        unlock(shop.settings("staging"), state, force=False)
        shop.rollback(environment="staging")
        assert shop.current("web1", "staging") == served
        serves(shop, "2")

    def test_its_lock_can_be_removed_though_the_journal_takes_no_line(self, shop):
        killed(shop, Phase.SWITCH)
        journal = shop.path("web1", "journal.jsonl", "staging")
        journal.unlink()
        journal.symlink_to("/dev/full")
        state = shop.hosts(Session(), Interruption(), "staging")["web1"]
        assert unlock(shop.settings("staging"), state, force=False).version == "2"
        assert not shop.locked("staging")

    def test_the_next_deploy_stops_and_names_both_ways_on(self, shop):
        killed(shop, Phase.SWITCH)
        error = fails(shop)
        assert isinstance(error, NeedsPerson)
        assert error.exit_code == 4
        assert "an earlier run died" in str(error)
        assert "--resume" in error.next_step
        assert "deploy.rollback" in error.next_step

    def test_one_that_lives_is_not_resumed(self, shop):
        killed(shop, Phase.SWITCH)
        shop.web1.age_lock("shop", "staging", 1)
        assert isinstance(fails(shop, resume=True), Locked)

    def test_a_resumed_deploy_that_fails_goes_back_to_before_the_first_attempt(self, shop):
        killed(shop, "^docker stop")
        shop.edit("ops.toml", "[[smoke]]", "[[smoke]]\nstatus = 418")
        error = fails(shop, resume=True)
        assert isinstance(error, RolledBack), error
        assert shop.current("web1", "staging") == shop.before
        serves(shop, "1")

    def test_resume_without_anything_to_resume_is_a_deploy(self, shop):
        deploy(shop, resume=True)
        serves(shop, "2")


class TestFreeze:
    """A laptop that sleeps in the middle and wakes up when another has gone on."""

    def test_it_changes_nothing_more(self, shop):
        session = Session()
        asleep = threading.Event()

        def sleep():
            session.thawed.clear()
            asleep.set()

        session.on("^docker stop", sleep)
        caught = []

        def first():
            try:
                deploy(shop, "2", session=session)
            except OpsError as error:
                caught.append(error)

        thread = threading.Thread(target=first)
        thread.start()
        assert asleep.wait(20)
        shop.web1.age_lock("shop", "staging", 100)
        shop.rollback(environment="staging")
        calls = len(shop.web1.docker.calls)
        session._triggers.clear()
        session.thawed.set()
        thread.join(20)
        (error,) = caught
        assert isinstance(error, Locked)
        serves(shop, "1")
        changing = (" up ", "stop ", "rm ", "tag ", "exec ")
        assert [
            call for call in shop.web1.docker.calls[calls:] if any(word in call for word in changing)
        ] == []


class TestTwoAtOnce:
    """Two operators begin together."""

    def both(self, shop, **options):
        start = threading.Barrier(2)
        results = {}

        def one(version):
            start.wait()
            try:
                results[version] = deploy(shop, version, **options)
            except OpsError as error:
                results[version] = error

        threads = [threading.Thread(target=one, args=(version,)) for version in "23"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        return results

    def test_one_gets_through_and_the_other_is_told(self, shop):
        results = self.both(shop)
        (winner,) = [version for version, result in results.items() if not isinstance(result, OpsError)]
        (loser,) = [result for result in results.values() if isinstance(result, OpsError)]
        assert isinstance(loser, Locked)
        assert loser.exit_code == 5
        serves(shop, winner)

    def test_one_that_waits_comes_second(self, shop, monkeypatch):
        monkeypatch.setattr("ops.runs.acquiring.POLL", 0.02)
        results = self.both(shop, wait=30.0)
        assert not [result for result in results.values() if isinstance(result, OpsError)], results
        (last,) = {c.image.tag for c in shop.web1.docker.of("web")}
        serves(shop, last)
        assert [event for _, event in shop.journal("staging")].count("done") == 3


class TestHeartbeat:
    """The lock shows that its holder lives, or that it is its holder's no longer."""

    def test_it_beats_while_a_long_step_runs(self, shop):
        shop.edit(
            "ops.toml",
            "keep_releases = 3",
            "keep_releases = 3\nlock = { heartbeat = 0.02, stale_after = 20.0 }",
        )
        phase = shop.path("web1", "locks/change/phase", "staging")

        def migration(docker, line):
            shop.web1.age_lock("shop", "staging", 10)
            deadline = time.monotonic() + 10
            while time.monotonic() < deadline:
                if phase.exists() and time.time() - phase.with_name("heartbeat").stat().st_mtime < 5:
                    return None
                time.sleep(0.005)
            return 1, "", "no heartbeat"

        shop.web1.docker.breaks(r"compose .* run ", migration)
        deploy(shop)
        serves(shop, "2")

    def test_a_deploy_whose_last_line_finds_no_room_warns_and_keeps_no_lock(self, shop):
        journal = shop.path("web1", "journal.jsonl", "staging")
        full = lambda: (journal.unlink(), journal.symlink_to("/dev/full"))  # noqa: E731
        (warning,) = deploy(shop, listener=Listener({Phase.COMMIT: full})).warnings
        assert "the journal lacks the end of this run" in warning
        assert not shop.locked("staging")

    def test_a_lock_that_cannot_be_kept_fresh_ends_the_run(self, shop):
        shop.edit(
            "ops.toml",
            "keep_releases = 3",
            "keep_releases = 3\nlock = { heartbeat = 0.02, stale_after = 0.5 }",
        )
        lock = shop.path("web1", "locks/change", "staging")

        def migration(docker, line):
            lock.rename(lock.with_name("gone"))
            time.sleep(1.5)

        shop.web1.docker.breaks(r"compose .* run ", migration, times=1)
        assert "the lock cannot be kept" in str(fails(shop))

    def test_a_run_whose_lock_was_taken_away_changes_nothing_more(self, shop):
        session = Session()
        settings, hosts = shop.settings("staging"), shop.hosts(Session(), Interruption(), "staging")
        session.on("^docker stop", lambda: unlock(settings, hosts["web1"], force=True))
        error = fails(shop, session=session)
        assert isinstance(error, Locked)
        assert "another run has taken over" in str(error)
        assert {(c.image.tag, c.state) for c in shop.web1.docker.of("web")} == {
            ("1", "running"),
            ("2", "running"),
        }
        assert shop.current("web1", "staging") == shop.before

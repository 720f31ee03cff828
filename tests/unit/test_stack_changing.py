"""Daily work on a deployed stack: each change under the lock, journalled, and safe to repeat."""

import os
import signal
import time

import pytest
from standin.server import Session

from ops.deploy.status import status
from ops.errors import Interrupted, Locked, NeedsPerson, OpsError, Unreachable, UsageError
from ops.runs.interruption import Interruption
from ops.stack.changing import bring_up, remove, restart, scale, take_down
from ops.stack.looking import logs, processes


@pytest.fixture
def shop(single):
    return single


def change(shop, verb, *arguments, **options):
    return shop.change(verb, *arguments, environment="staging", **options)


def fails(shop, verb, *arguments, **options):
    with pytest.raises(OpsError) as failure:
        change(shop, verb, *arguments, **options)
    return failure.value


def hosts(shop):
    return shop.hosts(Session(), Interruption(), "staging")


def agree(shop):
    return status(shop.settings("staging"), hosts(shop), "web1").agree


def numbers(shop):
    return [c.number for c in shop.web1.docker.rotation("web")]


class TestScale:
    """More or fewer containers, until the next deploy."""

    def test_up_adds_containers_and_requests_reach_them(self, shop):
        assert change(shop, scale, "web", 4).targets["web1"].result == "changed"
        assert numbers(shop) == [1, 2, 3, 4]
        assert agree(shop)

    def test_down_cuts_nobody(self, shop):
        change(shop, scale, "web", 1)
        assert numbers(shop) == [1]
        assert shop.web1.docker.harm == []
        assert agree(shop)

    def test_to_none_is_possible_and_comes_back(self, shop):
        change(shop, scale, "web", 0)
        assert (numbers(shop), shop.web1.docker.of("web")) == ([], [])
        change(shop, scale, "web", 2)
        assert len(numbers(shop)) == 2

    def test_the_same_number_is_nothing_to_do(self, shop):
        assert change(shop, scale, "web", 2).targets["web1"].result == "unchanged"

    def test_the_next_deploy_takes_it_back(self, shop):
        change(shop, scale, "web", 4)
        shop.deploy("1", environment="staging")
        assert numbers(shop) == [1, 2]

    def test_a_failed_deploy_comes_back_to_it(self, shop):
        change(shop, scale, "web", 3)
        shop.registry.images["shop/web:2"].behaviour.crash = 3
        with pytest.raises(OpsError):
            shop.deploy("2", environment="staging")
        assert len(numbers(shop)) == 3
        assert agree(shop)

    @pytest.mark.parametrize(
        ("service", "count", "said"),
        [
            ("wep", 2, "unknown service wep; known: nginx, postgres, web"),
            ("nginx", 2, "nginx is the proxy; it runs once on each server"),
            ("postgres", 2, "two containers would write to the volume data"),
            ("web", -1, "must be 0 or more"),
        ],
    )
    def test_what_cannot_be_is_refused_before_anything_is_touched(self, shop, service, count, said):
        error = fails(shop, scale, service, count)
        assert isinstance(error, UsageError)
        assert said in str(error)
        assert shop.journal("staging") == [("deploy", "started"), ("deploy", "done")]

    def test_a_record_that_cannot_be_written_is_told(self, shop):
        record = shop.path("web1", "current/release.json", "staging")
        session = Session()
        session.on("^write .*release.json", lambda: record.with_name("release.json.part").mkdir())
        assert fails(shop, scale, "web", 3, session=session).exit_code == 4


class TestUp:
    """Every server back at its release."""

    def test_what_crashed_is_started_and_nothing_else_is_touched(self, shop):
        before = [c.id for c in shop.web1.docker.of("postgres")]
        shop.web1.docker.crash(shop.web1.docker.of("web")[1])
        shop.web1.docker.crash(shop.web1.docker.of("nginx")[0])
        change(shop, bring_up)
        assert agree(shop)
        assert len(numbers(shop)) == 2
        assert [c.id for c in shop.web1.docker.of("postgres")] == before

    def test_where_all_is_well_it_does_nothing(self, shop):
        assert change(shop, bring_up).targets["web1"].result == "unchanged"

    def test_it_brings_back_what_was_taken_down(self, shop):
        change(shop, take_down)
        assert shop.web1.docker.shown() == []
        change(shop, bring_up)
        assert agree(shop)
        assert len(numbers(shop)) == 2

    def test_a_configuration_that_somebody_changed_on_the_server_is_put_right(self, shop):
        file = shop.path("web1", "proxy/nginx/conf.d/site.conf", "staging")
        file.write_text("changed by hand\n")
        change(shop, bring_up)
        assert file.read_text() == "server { listen 80; }\n"

    def test_before_a_first_deploy_there_is_nothing_to_bring_up(self, shop):
        shop.path("web1", "current", "staging").unlink()
        error = fails(shop, bring_up)
        assert isinstance(error, UsageError)
        assert error.next_step == "inv deploy"


class TestRestart:
    """Services restarted where they run."""

    def starts(self, shop):
        return {c.service: c.starts for c in shop.web1.docker.containers}

    def test_only_those_named_are_restarted(self, shop):
        change(shop, restart, ("web",))
        assert self.starts(shop) == {"web": 2, "nginx": 1, "postgres": 1}

    def test_without_a_name_all_are(self, shop):
        change(shop, restart, ())
        assert set(self.starts(shop).values()) == {2}

    def test_an_unknown_one_is_refused(self, shop):
        assert "unknown service wep" in str(fails(shop, restart, ("wep",)))


class TestRemove:
    """The stack leaves a server."""

    def left(self, shop):
        return {path.name for path in shop.path("web1", "", "staging").iterdir() if path.name[0] != "."}

    def test_data_stays_unless_it_is_meant_as_well(self, shop):
        change(shop, remove, volumes=False)
        assert shop.web1.docker.shown() == []
        assert "shop-staging_data" in shop.web1.docker.volumes
        assert "shared" in self.left(shop)
        assert "releases" not in self.left(shop)

    def test_with_its_data_nothing_but_the_journal_and_the_fence_is_left(self, shop):
        change(shop, remove, volumes=True)
        assert shop.web1.docker.volumes == {}
        assert self.left(shop) == {"fence", "journal.jsonl", "locks"}
        assert not [tag for tag in shop.web1.docker.tags if tag.startswith("opsbook/")]

    def test_it_can_be_deployed_again(self, shop):
        change(shop, remove, volumes=True)
        shop.deploy("2", environment="staging")
        assert agree(shop)


class TestRun:
    """What all changes share."""

    def test_they_are_journalled_and_give_the_lock_back(self, shop):
        change(shop, restart, ("web",))
        assert shop.journal("staging")[-2:] == [("stack.restart", "started"), ("stack.restart", "done")]
        assert not shop.locked("staging")

    def test_a_lock_that_another_holds_is_respected(self, shop):
        shop.path("web1", "locks/change", "staging").mkdir()
        assert isinstance(fails(shop, restart, ("web",)), Locked)
        assert shop.web1.docker.of("web")[0].starts == 1

    def test_a_failure_in_the_middle_needs_a_person_and_gives_the_lock_back(self, shop):
        shop.web1.docker.breaks(r"compose .* restart", (1, "", "daemon is away\n"))
        error = fails(shop, restart, ("web",))
        assert isinstance(error, NeedsPerson)
        assert "daemon is away" in str(error)
        assert not shop.locked("staging")
        assert shop.journal("staging")[-1] == ("stack.restart", "failed")

    def test_a_server_lost_in_the_middle_needs_a_person_too(self, pair):
        session = Session()

        def lost():
            raise Unreachable("the connection broke", target="web2")

        session.on("docker compose restart", lost, host="web2")
        with pytest.raises(NeedsPerson) as failure:
            pair.change(restart, ("web",), session=session)
        assert (failure.value.exit_code, failure.value.target) == (4, "web2")
        assert failure.value.left_behind == "what was done by then stays"
        assert [server.docker.of("web")[0].starts for server in pair.servers.values()] == [2, 1]
        assert not pair.locked()

    def test_a_server_lost_before_any_change_is_unreachable(self, pair):
        session = Session()

        def lost():
            raise Unreachable("no route", target="web2")

        session.on("", lost, host="web2")
        with pytest.raises(Unreachable):
            pair.change(restart, (), session=session)

    def test_a_state_host_lost_in_the_middle_needs_a_person(self, shop):
        shop.edit(
            "ops.toml",
            "keep_releases = 3",
            "keep_releases = 3\nlock = { heartbeat = 0.02, stale_after = 0.3 }",
        )
        lock = shop.path("web1", "locks/change", "staging")

        def slow(docker, line):
            lock.rename(lock.with_name("gone"))
            time.sleep(1.0)

        shop.web1.docker.breaks(r"compose .* restart", slow, times=1)
        assert isinstance(fails(shop, restart, ("web",)), NeedsPerson)

    def test_one_that_was_overtaken_changes_nothing_more(self, shop):
        session = Session()
        fence = shop.path("web1", "fence", "staging")
        session.on("docker compose restart", lambda: fence.write_text("99 another\n"))
        assert isinstance(fails(shop, restart, ("web",), session=session), Locked)

    def test_an_interrupt_ends_it_with_130(self, shop):
        session = Session()
        session.on("docker compose restart", lambda: os.kill(os.getpid(), signal.SIGINT))
        error = fails(shop, restart, ("web",), session=session)
        assert isinstance(error, Interrupted)
        assert error.exit_code == 130
        assert not shop.locked("staging")

    def test_what_nobody_expected_gives_the_lock_back(self, shop, monkeypatch):
        monkeypatch.setattr("ops.stack.changing.plan_switch", lambda *arguments, **options: 1 / 0)
        error = fails(shop, bring_up)
        assert "ZeroDivisionError" in str(error)
        assert not shop.locked("staging")


class TestLooking:
    """What runs, and what it writes."""

    def test_every_container_is_listed_with_its_server(self, pair):
        rows = processes(pair.settings(), pair.hosts(Session(), Interruption()))
        found = {(row.server, row.container, row.state) for row in rows}
        assert ("web2", "shop-production-web-1", "running") in found
        assert len(rows) == 7

    def test_lines_bear_their_server_and_no_secret(self, shop):
        shop.web1.docker.breaks(r"compose .*logs", (0, "web-1 | url=correct horse\nweb-1 | no newline", ""))
        lines = []
        logs(shop.settings("staging"), hosts(shop), ("web",), tail=5, follow=False, write=lines.append)
        assert lines == ["web1  web-1 | url=***", "web1  web-1 | no newline"]

    def test_logs_of_an_unknown_service_are_refused(self, shop):
        with pytest.raises(UsageError, match="unknown service wep"):
            logs(shop.settings("staging"), hosts(shop), ("wep",), tail=5, follow=False, write=print)

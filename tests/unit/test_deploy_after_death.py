"""What comes after a run that was killed, lost a server, or was taken back half-way: on stand-in servers."""

from __future__ import annotations

import shutil
import time

import pytest
from standin.server import Killed, Session
from standin.stack import Listener

from ops.deploy.status import status
from ops.deploy.unlocking import unlock
from ops.errors import NeedsPerson, OpsError, RolledBack
from ops.gates import health
from ops.runs.interruption import Interruption
from ops.runs.phases import Phase
from ops.stack.changing import bring_up, restart, scale, take_down
from ops.tasks.showing import outcome_text

MIGRATE = '[migrate]\nservice = "web"\ncommand = ["manage", "migrate"]\n\n[services.nginx]'
SETUP = (
    '[services.setup]\nimage = "shop/setup:{version}"\n'
    'health = { kind = "completed", interval = 0.01, timeout = 1.0 }\n\n[services.nginx]'
)
WORKER = (
    '[services.worker]\nimage = "shop/worker:{version}"\n'
    'health = { kind = "http", path = "/up", port = 9000, interval = 0.01, timeout = 1.0 }\n\n[services.nginx]'
)


def tags(shop, service="web", server="web1"):
    return {c.image.tag for c in shop.servers[server].docker.of(service)}


def upstream(shop):
    return shop.path("web1", "proxy/nginx/upstreams/web.conf", "staging").read_text()


def add(shop, name, ops):
    """Add a service with images of its own to the stack."""
    for version in "12":
        shop.registry.publish(f"shop/{name}:{version}")
    image = f"  {name}:\n    image: shop/{name}\n"
    shop.edit("compose.yaml", "  postgres:\n    image", f"{image}  postgres:\n    image")
    shop.edit("ops.toml", "[services.nginx]", ops)


def killed(shop, version, session, environment="staging"):
    """Deploy until the session is killed; its lock is old then."""
    with pytest.raises(Killed):
        shop.deploy(version, environment=environment, session=session)
    shop.web1.age_lock("shop", environment, 100)


def unlocked(shop, environment):
    state = shop.hosts(Session(), Interruption(), environment)["web1"]
    assert unlock(shop.settings(environment), state, force=False) is not None


def losing(server, at, on, seconds):
    """A session that loses a server once a command comes elsewhere, which then takes its time."""
    session = Session()

    def begin():
        session.lose(server)
        time.sleep(seconds)

    session.on(at, begin, host=on)
    return session


class TestResume:
    """`--resume` sees to all that the dead run had not: its gate, and the proxy's upstream."""

    def test_a_first_deploy_that_died_before_the_proxy_had_its_upstream_gets_one(self, shop):
        session = Session()
        session.on("^write nginx/upstreams/web.conf", session.kill)
        killed(shop, "1", session)
        shop.deploy("1", environment="staging", resume=True)
        assert upstream(shop).count(" resolve ") == 2
        assert shop.web1.docker.rotation("web")

    def test_an_older_nginx_is_not_left_with_addresses(self, shop):
        shop.web1.docker.nginx_version = "1.24.0"
        shop.deploy("1", environment="staging")
        rest, session, stopped = upstream(shop), Session(), []
        session.on("^docker stop", lambda: stopped.append(1))
        session.on("^write nginx/upstreams/web.conf", lambda: stopped and session.kill())
        killed(shop, "2", session)
        assert upstream(shop) != rest
        shop.deploy("2", environment="staging", resume=True)
        assert upstream(shop) == rest

    def test_a_bad_version_does_not_pass_because_the_run_that_started_it_died(self, single, monkeypatch):
        monkeypatch.setattr(health, "LOOK_EVERY", 0.02)
        add(single, "worker", WORKER)
        single.deploy("1", environment="staging")
        single.registry.images["shop/worker:2"].behaviour.status = 500
        session = Session()
        session.on("^docker ps", lambda: "2" in tags(single, "worker") and session.kill())
        killed(single, "2", session)
        with pytest.raises(RolledBack, match="answers 500"):
            single.deploy("2", environment="staging", resume=True)
        assert tags(single, "worker") == {"1"}


class TestJobs:
    """Services that run once."""

    @pytest.fixture
    def jobs(self, single):
        add(single, "setup", SETUP)
        for version in "12":
            single.registry.images[f"shop/setup:{version}"].behaviour.crash = 0
        single.edit("compose.yaml", "depends_on: [postgres]", "depends_on: [postgres, setup]")
        single.deploy("1", environment="staging")
        # Once the new one was at work, the old does not know the schema any more.
        single.registry.images["shop/setup:1"].behaviour.crash = 1
        return single

    def well(self, jobs):
        hosts = jobs.hosts(Session(), Interruption(), "staging")
        return status(jobs.settings("staging"), hosts, "web1").well

    def test_a_way_back_does_not_run_the_old_one(self, jobs):
        jobs.registry.images["shop/web:2"].behaviour.status = 500
        with pytest.raises(RolledBack):
            jobs.deploy("2", environment="staging")
        assert (tags(jobs), tags(jobs, "setup")) == ({"1"}, {"2"})
        assert self.well(jobs)

    def test_neither_does_a_rollback_nor_what_follows(self, jobs):
        jobs.deploy("2", environment="staging")
        assert jobs.rollback(environment="staging").version == "1"
        assert jobs.change(bring_up, environment="staging").targets["web1"].result == "unchanged"
        assert tags(jobs, "setup") == {"2"}
        jobs.change(take_down, environment="staging")
        jobs.change(bring_up, environment="staging")
        jobs.change(scale, "web", 3, environment="staging")
        assert (tags(jobs), tags(jobs, "setup")) == ({"1"}, set())
        assert self.well(jobs)

    @pytest.mark.parametrize("ends", [True, False])
    def test_one_that_fails_or_hangs_is_not_left_at_work_and_leaves_no_trace(self, jobs, ends):
        jobs.registry.images["shop/setup:2"].behaviour.crash = 1 if ends else None
        with pytest.raises(RolledBack):
            jobs.deploy("2", environment="staging")
        (left,) = jobs.web1.docker.of("setup")
        assert (left.image.tag, left.running) == ("2", False)
        assert self.well(jobs)
        jobs.registry.images["shop/setup:2"].behaviour.crash = 0
        jobs.deploy("2", environment="staging")
        assert jobs.rollback(environment="staging").version == "1"

    def test_restarting_all_services_leaves_them_ended(self, jobs):
        jobs.change(restart, (), environment="staging")
        (line,) = [line for line in jobs.web1.docker.calls if " restart " in line]
        assert sorted(line.rpartition(" restart ")[2].split()) == ["nginx", "postgres", "web"]


class TestRollback:
    """Where it leads when servers or containers stand between two releases."""

    def test_after_a_lost_server_those_that_came_to_the_end_go_back(self, pair):
        pair.edit("ops.toml", "keep_releases = 3", 'keep_releases = 3\non_host_lost = "continue"')
        session = Session()
        session.on("^docker stop", lambda: session.lose("web2"), host="web2")
        with pytest.raises(NeedsPerson):
            pair.deploy("2", session=session)
        assert (tags(pair), tags(pair, server="web2")) == ({"2"}, {"1", "2"})
        assert pair.rollback().version == "1"
        assert tags(pair) == tags(pair, server="web2") == {"1"}

    def test_after_a_death_in_the_commit_and_an_unlock_too(self, pair):
        session = Session()
        session.on("^current ->", session.kill, host="web2")
        killed(pair, "2", session, "production")
        unlocked(pair, "production")
        assert pair.rollback().version == "1"
        assert tags(pair) == tags(pair, server="web2") == {"1"}

    def test_a_new_service_that_alone_had_started_does_not_lead_one_release_too_far(self, single):
        single.deploy("2", environment="staging")
        add(single, "acache", '[services.acache]\nimage = "shop/acache:1"\n\n[services.nginx]')
        session = Session()
        session.on("", lambda: single.web1.docker.of("acache") and session.kill())
        killed(single, "3", session)
        unlocked(single, "staging")
        assert single.rollback(environment="staging").version == "2"
        assert tags(single) == {"2"}
        assert not single.web1.docker.of("acache")

    @pytest.mark.parametrize("at", ["^current ->", "^journal; unlock"])
    @pytest.mark.parametrize("on", ["rollback", "a bad version"])
    def test_what_plain_compose_had_started_is_not_gone_back_behind(self, shop, at, on):
        shop.deploy("1", environment="staging")
        for one in shop.web1.docker.containers:
            one.labels = {key: text for key, text in one.labels.items() if not key.startswith("ops.")}
            one.labels["com.docker.compose.project.working_dir"] = "/home/me/shop"
            one.hash = "plain"
        shutil.rmtree(shop.path("web1", "", "staging"))
        shop.web1.docker.tags = {
            key: image for key, image in shop.web1.docker.tags.items() if not key.startswith("opsbook/")
        }
        shop.edit(
            "ops.toml",
            "[environments.staging.servers.web1]",
            '[environments.staging]\nproject = "shop-staging"\n[environments.staging.servers.web1]',
        )
        session = Session()
        session.on(at, session.kill)
        killed(shop, "1", session)
        running = shop.web1.docker.shown()
        shop.registry.images["shop/web:2"].behaviour.status = 500
        verb, words = (shop.rollback, ()) if on == "rollback" else (shop.deploy, ("2",))
        options = {"resume": True} if words else {}
        with pytest.raises(NeedsPerson, match="not started by Opsbook"):
            verb(*words, environment="staging", **options)
        assert shop.web1.docker.of("postgres")
        assert on != "rollback" or shop.web1.docker.shown() == running


class TestLostServers:
    """The state host goes while another server is at work."""

    LOCK = "keep_releases = 3\nlock = { heartbeat = 0.02, stale_after = 0.3 }"

    def test_a_migration_comes_to_its_end_first(self, pair):
        pair.edit("ops.toml", "keep_releases = 3", self.LOCK)
        pair.edit("ops.toml", 'state_host = "web1"', 'state_host = "web2"')
        pair.edit("ops.toml", "[services.nginx]", MIGRATE)
        session = Session()

        def migration(docker, line):
            session.lose("web2")
            time.sleep(1.0)

        pair.web1.docker.breaks(r"compose .* run ", migration, times=1)
        with pytest.raises(NeedsPerson) as caught:
            pair.deploy("2", session=session)
        assert caught.value.left_behind == "the migration had run; the old version serves"

    def test_the_others_go_on_though_the_heartbeat_noticed_it_first(self, pair):
        pair.edit("ops.toml", "keep_releases = 3", f'{self.LOCK}\non_host_lost = "continue"')
        pair.edit("ops.toml", 'state_host = "web1"', 'state_host = "web2"')
        session = losing("web2", "^docker stop", "web1", 1.0)
        with pytest.raises(OpsError) as caught:
            pair.deploy("2", session=session)
        assert caught.value.exit_code == NeedsPerson.exit_code
        assert tags(pair) == {"2"}
        results = {name: target.result for name, target in caught.value.outcome.targets.items()}
        assert results == {"web1": "changed", "web2": "unreachable"}

    def test_where_none_is_left_nothing_is_called_done(self, single):
        single.edit("ops.toml", "keep_releases = 3", f'{self.LOCK}\non_host_lost = "continue"')
        session = Session()

        def lose():
            session.lose("web1")
            time.sleep(1.0)

        listener = Listener({Phase.SWITCH: lose})
        with pytest.raises(OpsError) as caught:
            single.deploy("2", environment="staging", session=session, listener=listener)
        assert "done" not in str(caught.value)
        assert caught.value.exit_code != 0


@pytest.mark.parametrize("new", ["port = 8080\n", 'port = 8000\nbalance = "ip_hash"\n'])
def test_another_port_or_balance_reaches_the_proxy_and_is_not_nothing(single, new):
    gate = 'health = { path = "/health", interval = 0.01, timeout = 1.0 }'
    single.edit("ops.toml", gate, 'health = { kind = "docker", interval = 0.01, timeout = 1.0 }')
    single.deploy("1", environment="staging")
    before = upstream(single)
    single.edit("ops.toml", "port = 8000\n", new)
    outcome = single.deploy("1", environment="staging")
    assert upstream(single) != before
    assert outcome_text(outcome).startswith("Deployed shop staging 1")

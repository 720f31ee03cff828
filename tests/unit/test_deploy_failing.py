"""Deploys that fail: before any change nothing is left, after one every touched server is back on its own release."""

from pathlib import Path

import pytest
from standin.server import Session
from standin.stack import Listener

from ops.deploy.deploying import Seams
from ops.errors import FailedUnchanged, Locked, NeedsPerson, OpsError, RolledBack, Unreachable, UsageError
from ops.runs.phases import Phase

MIGRATE = '[migrate]\nservice = "web"\ncommand = ["manage", "migrate"]\n\n[services.nginx]'


def fails(shop, version="2", *, environment="production", **options):
    """Deploy and return the failure."""
    with pytest.raises(OpsError) as failure:
        shop.deploy(version, environment=environment, **options)
    return failure.value


def web(shop, server):
    return [(c.number, c.image.tag, c.state) for c in shop.servers[server].docker.of("web")]


def as_before(shop, release):
    """Assert that both servers serve the release from before, whole and unharmed, and nothing of the new one is left."""
    for name, server in shop.servers.items():
        assert shop.current(name) == release
        assert shop.releases(name) == [release]
        assert {c.image.tag for c in server.docker.rotation("web")} == {"1"}
        assert len(server.docker.rotation("web")) == 2
        assert {tag for _, tag, _ in web(shop, name)} == {"1"}
        assert server.docker.harm == []
        assert [path.name for path in server.root.rglob(".incoming*")] == []
    assert not shop.locked()


class TestBeforeAnyChange:
    """Exit 1, 2, 5 or 6, and the servers as they were."""

    def test_an_image_that_does_not_exist(self, pair):
        release = pair.current("web1")
        error = fails(pair, "9")
        assert isinstance(error, FailedUnchanged)
        assert "there is no image shop/web:9" in str(error)
        as_before(pair, release)
        assert pair.journal()[-1] == ("deploy", "failed")

    @pytest.mark.parity("D3")
    def test_an_image_that_one_server_cannot_pull(self, pair):
        release = pair.current("web1")
        pair.web2.docker.breaks(r"^pull ", (1, "", "unauthorized\n"))
        error = fails(pair)
        assert (error.exit_code, error.target) == (1, "web2"), error
        assert "refuses shop/web@sha256:" in str(error)
        as_before(pair, release)

    def test_servers_none_of_which_can_run_the_migration(self, pair):
        pair.edit("ops.toml", "[services.nginx]", MIGRATE.replace('"web"', '"postgres"'))
        release = pair.current("web1")
        pair.web2.docker.calls.clear()
        error = fails(pair, servers=("web2",))
        assert (type(error), error.exit_code) == (UsageError, 2), error
        assert "the migration runs in service postgres, which is on web1" in str(error)
        assert error.next_step == "deploy one that has it along: --servers web1,web2"
        assert not [call for call in pair.web2.docker.calls if call.startswith("pull")]
        as_before(pair, release)

    def test_a_migration_of_a_service_that_is_not_there(self, single):
        single.edit("ops.toml", "[services.nginx]", MIGRATE.replace('"web"', '"jobs"'))
        error = fails(single, environment="staging")
        assert error.exit_code == 2
        assert "[migrate] service = 'jobs' is not in the compose files" in str(error)

    def test_a_registry_that_is_down(self, single):
        single.registry.down = True
        error = fails(single, environment="staging")
        assert (type(error), error.exit_code) == (FailedUnchanged, 1)
        assert single.releases("web1", "staging") == [single.current("web1", "staging")]

    def test_a_server_that_cannot_take_the_release(self, pair):
        release = pair.current("web1")
        releases = pair.path("web2", "releases")
        session = Session()
        session.on("^write /srv", lambda: releases.rename(releases.with_name("away")), host="web2")
        error = fails(pair, session=session)
        assert (type(error), error.target) == (FailedUnchanged, "web2")
        releases.with_name("away").rename(releases)
        as_before(pair, release)

    def test_a_secret_without_a_value(self, single):
        single.write(".env", "")
        error = fails(single, environment="staging")
        assert error.exit_code == 2
        assert "DB_PASSWORD has no value" in str(error)

    def test_a_server_that_does_not_answer(self, pair):
        release = pair.current("web1")
        session = Session()

        def gone():
            raise Unreachable("no route", target="web2")

        session.on("^docker info", gone, host="web2")
        error = fails(pair, session=session)
        assert error.exit_code == 6
        as_before(pair, release)

    def test_a_lock_that_another_holds_is_left_alone(self, single):
        lock = single.path("web1", "locks/change", "staging")
        lock.mkdir()
        error = fails(single, environment="staging")
        assert isinstance(error, Locked)
        assert error.exit_code == 5
        assert lock.exists()
        assert not [call for call in single.web1.docker.calls if " up " in call]

    def test_a_backup_that_is_being_taken_where_none_may_be(self, single):
        single.edit(
            "ops.toml",
            "keep_releases = 3",
            'keep_releases = 3\nbackup.beside_deploy = false\ndatastores.files.uploads.path = "uploads"',
        )
        release = single.current("web1", "staging")
        lock = single.path("web1", "locks/backup", "staging")
        lock.mkdir()
        error = fails(single, environment="staging")
        assert (error.exit_code, isinstance(error, Locked)) == (5, True)
        assert single.releases("web1", "staging") == [release]
        assert not [call for call in single.web1.docker.calls if " up " in call]
        lock.rmdir()
        seen = []
        listener = Listener({Phase.SMOKE: lambda: seen.append(lock.exists())})
        single.deploy("2", environment="staging", listener=listener)
        assert (seen, lock.exists()) == ([True], False)

    def test_a_backup_that_nobody_can_take(self, single):
        single.edit("ops.toml", "keep_releases = 3", "keep_releases = 3\nbackup_before_deploy = true")
        release = single.current("web1", "staging")
        error = fails(single, environment="staging")
        assert error.exit_code == 1
        assert single.releases("web1", "staging") == [release]

    def test_a_backup_that_fails(self, single):
        def backup():
            raise FailedUnchanged("the storage is full")

        single.edit("ops.toml", "keep_releases = 3", "keep_releases = 3\nbackup_before_deploy = true")
        release = single.current("web1", "staging")
        error = fails(single, environment="staging", seams=Seams(backup=backup))
        assert (error.exit_code, str(error)) == (1, "the storage is full")
        assert single.releases("web1", "staging") == [release]
        assert not [call for call in single.web1.docker.calls if " up " in call]


class TestRolledBack:
    """Exit 3: every touched server on its own release."""

    def rolled_back(self, shop, *said, **options):
        release = shop.current("web1")
        error = fails(shop, **options)
        assert isinstance(error, RolledBack), error
        for text in said:
            assert text in str(error)
        as_before(shop, release)
        assert shop.journal()[-1] == ("deploy", "rolled_back")
        return error

    def test_new_containers_that_crash(self, pair):
        pair.registry.images["shop/web:2"].behaviour.crash = 3
        pair.registry.images["shop/web:2"].behaviour.log = "KeyError: 'TOKEN'\n"
        error = self.rolled_back(pair, "shop-production-web-3 ended with exit code 3", "KeyError: 'TOKEN'")
        assert error.target == "web1"
        assert {name: target.result for name, target in error.outcome.targets.items()} == {
            "web1": "rolled_back"
        }

    def test_new_containers_that_do_not_become_healthy(self, pair):
        pair.edit("ops.toml", "timeout = 1.0", "timeout = 0.1")
        pair.registry.images["shop/web:2"].behaviour.status = 500
        self.rolled_back(pair, "not healthy after 0.1 s: /health answers 500")

    def test_a_failure_on_the_second_server_brings_the_first_back_too(self, pair):
        pair.web2.docker.breaks(r"compose .* up .* web$", (1, "", "no space left on device\n"), times=1)
        error = self.rolled_back(pair, "no space left on device")
        assert {name: target.result for name, target in error.outcome.targets.items()} == {
            "web1": "rolled_back",
            "web2": "rolled_back",
        }

    def test_a_proxy_that_refuses_its_configuration(self, pair):
        pair.write("nginx/conf.d/site.conf", "refuse me\n")
        self.rolled_back(pair, "nginx refuses the new configuration")
        assert pair.path("web1", "proxy/nginx/conf.d/site.conf").read_text() == "server { listen 80; }\n"

    def test_a_smoke_check_that_fails(self, pair, monkeypatch):
        monkeypatch.setattr("ops.gates.smoke.TRIES", 1)
        pair.edit("ops.toml", "[services.nginx]", '[[smoke]]\ncontains = "version 1"\n\n[services.nginx]')
        self.rolled_back(pair, "the body lacks 'version 1'; it begins 'version 2'")

    def test_a_release_that_cannot_be_made_current(self, pair):
        pair.web2.docker.breaks(r"^tag .*shop/web", (1, "", "daemon is away\n"), times=1)
        self.rolled_back(pair, "the release could not be made current: daemon is away")
        for name, server in pair.servers.items():
            kept = {tag.rpartition(":")[2] for tag in server.docker.tags if tag.startswith("opsbook/")}
            assert kept == {pair.current(name)}

    def test_what_nobody_expected(self, pair, monkeypatch):
        monkeypatch.setattr("ops.deploy.rollout.smoke", lambda *arguments: 1 / 0)
        pair.edit("ops.toml", "[services.nginx]", "[[smoke]]\n\n[services.nginx]")
        error = self.rolled_back(pair, "ZeroDivisionError")
        assert "Traceback" in Path(error.outcome.log).read_text()
        assert error.outcome.log in error.next_step

    def test_the_next_deploy_goes_through(self, pair):
        pair.registry.images["shop/web:2"].behaviour.crash = 3
        fails(pair)
        pair.deploy("3")
        assert {tag for _, tag, _ in web(pair, "web1") + web(pair, "web2")} == {"3"}


class TestFirst:
    """A first deploy that fails leaves its volumes and nothing else."""

    def test_containers_go_volumes_stay_and_nothing_is_current(self, shop):
        shop.registry.images["shop/web:1"].behaviour.crash = 3
        error = fails(shop, "1")
        assert isinstance(error, RolledBack)
        for name, server in shop.servers.items():
            assert server.docker.shown() == []
            assert shop.current(name) is None
            assert shop.releases(name) == []
        assert "shop-production_data" in shop.web1.docker.volumes

    def test_containers_that_plain_compose_had_started_need_a_person(self, single):
        for container in single.web1.docker.containers:
            del container.labels["ops.config"]
            container.hash = "another definition"
        single.path("web1", "current", "staging").unlink()
        single.registry.images["shop/web:2"].behaviour.crash = 3
        error = fails(single, environment="staging")
        assert isinstance(error, NeedsPerson)
        assert "were not started by Opsbook" in str(error)


class TestNeedsPerson:
    """Exit 4."""

    def test_a_way_back_that_fails_tells_both_failures_and_the_ways_on(self, pair):
        pair.registry.images["shop/web:2"].behaviour.crash = 3
        pair.web1.docker.breaks(r"^rm -f -v", (1, "", "daemon is away\n"))
        error = fails(pair)
        assert isinstance(error, NeedsPerson)
        assert "exit code 3" in str(error)
        assert "the way back failed" in str(error)
        assert "daemon is away" in str(error)
        assert "inv deploy.rollback" in error.next_step

    def test_after_it_a_rollback_brings_the_servers_back(self, pair):
        release = pair.current("web1")
        pair.registry.images["shop/web:2"].behaviour.crash = 3
        pair.web1.docker.breaks(r"^rm -f -v", (1, "", "daemon is away\n"))
        fails(pair)
        pair.web1.docker.mend()
        pair.rollback()
        assert pair.current("web1") == pair.current("web2") == release
        assert {c.image.tag for c in pair.web1.docker.rotation("web")} == {"1"}
        assert not pair.locked()

    def test_a_migration_that_fails_stops_before_any_switch(self, pair):
        release = pair.current("web1")
        pair.edit("ops.toml", "[services.nginx]", MIGRATE)
        pair.registry.images["shop/web:2"].behaviour.migration = (7, "", "relation exists\n")
        error = fails(pair)
        assert isinstance(error, NeedsPerson)
        assert "the migration failed with status 7: relation exists" in str(error)
        assert "schema may be half changed" in error.left_behind
        as_before(pair, release)

    def test_a_failure_behind_a_migration_says_that_it_had_run(self, pair):
        pair.edit("ops.toml", "[services.nginx]", MIGRATE)
        pair.registry.images["shop/web:2"].behaviour.crash = 3
        error = fails(pair)
        assert isinstance(error, RolledBack)
        assert "the migration had run and is not taken back" in error.left_behind

    def test_a_migration_runs_once_for_the_fleet_and_before_the_switch(self, pair):
        pair.edit("ops.toml", "[services.nginx]", MIGRATE)
        listener = Listener()
        pair.deploy("2", listener=listener)
        titles = [title for _, title in listener.steps]
        assert titles.count("migrate: manage migrate") == 1
        assert titles.index("migrate: manage migrate") < titles.index("start 2 new web containers")

    def test_before_a_first_deploy_the_migration_finds_its_database(self, shop):
        shop.edit("ops.toml", "[services.nginx]", MIGRATE)
        seen = []
        shop.web1.docker.breaks(r"compose .* run ", lambda docker, line: seen.append(docker.shown()))
        shop.deploy("1")
        assert seen == [["postgres-1 postgres:16 running"]]


class TestLost:
    """A server that is lost while it is switched."""

    def lost(self, shop, *, every=True):
        """Let web2 vanish once its switch has begun; without `every` it comes back for the way back."""
        session = Session()
        state = {"gone": False}

        def begin():
            state["gone"] = True
            raise Unreachable("the connection broke", target="web2")

        def watch():
            if state["gone"] and every:
                raise Unreachable("the connection broke", target="web2")

        session.on("", watch, host="web2")
        session.on("^docker compose up", lambda: None if state["gone"] else begin(), host="web2")
        return session

    def test_by_default_the_others_go_back_and_a_person_is_asked(self, pair):
        release = pair.current("web1")
        error = fails(pair, session=self.lost(pair))
        assert isinstance(error, NeedsPerson)
        assert pair.current("web1") == release
        assert {c.image.tag for c in pair.web1.docker.rotation("web")} == {"1"}
        assert error.outcome.targets["web2"].result == "unreachable"
        assert error.outcome.targets["web1"].result == "rolled_back"

    def test_one_that_comes_back_is_rolled_back_with_the_others(self, pair):
        release = pair.current("web1")
        error = fails(pair, session=self.lost(pair, every=False))
        assert error.exit_code in (3, 4)
        assert pair.current("web1") == pair.current("web2") == release
        assert {c.image.tag for c in pair.web2.docker.rotation("web")} == {"1"}

    def test_where_that_is_wished_the_others_go_on_and_the_end_says_what_is_left(self, pair):
        pair.edit("ops.toml", "keep_releases = 3", 'keep_releases = 3\non_host_lost = "continue"')
        error = fails(pair, session=self.lost(pair))
        assert isinstance(error, NeedsPerson)
        assert error.target == "web2"
        assert {c.image.tag for c in pair.web1.docker.rotation("web")} == {"2"}
        assert pair.current("web1") != pair.current("web2")
        assert "--resume" in error.next_step

    def test_when_it_is_back_resume_brings_it_up_to_date(self, pair):
        pair.edit("ops.toml", "keep_releases = 3", 'keep_releases = 3\non_host_lost = "continue"')
        fails(pair, session=self.lost(pair))
        pair.deploy("2", resume=True)
        assert pair.current("web1") == pair.current("web2")
        assert {c.image.tag for c in pair.web2.docker.of("web")} == {"2"}

"""Whole deploys on stand-in servers: real shells and files, a `docker` that keeps what users would notice."""

import itertools
import json
import stat

import pytest
from standin.server import Session
from standin.stack import Listener

from ops.config import Version
from ops.deploy import deploying
from ops.deploy.deploying import plan
from ops.hosts.readonly import ReadOnlyHost
from ops.runs.interruption import Interruption

WEB1 = ["nginx-1 nginx:1.27 running", "postgres-1 postgres:16 running"]


def tree(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        if path.is_file() and not path.is_symlink()
        else b""
        for path in sorted(folder.rglob("*"))
    }


def ids(shop, server, service):
    return [container.id for container in shop.servers[server].docker.of(service)]


def unharmed(shop):
    return [server.docker.harm for server in shop.servers.values()] == [[], []]


@pytest.fixture(scope="module")
def deployed(_pair, tmp_path_factory):
    """The state behind version 2; nothing here changes it."""
    shop = _pair.copy_to(tmp_path_factory.mktemp("next"))
    shop.before = ids(shop, "web1", "postgres"), ids(shop, "web1", "nginx")
    shop.listener = Listener()
    shop.deploy("2", listener=shop.listener)
    yield shop
    shop.close()


class TestFirst:
    """Nothing is there yet."""

    @pytest.fixture
    def shop(self, _pair):
        """The state behind the deploy; nothing here changes it."""
        return _pair

    @pytest.fixture
    def outcome(self, shop):
        return shop.outcome

    def test_each_server_runs_the_services_of_its_roles(self, shop, outcome):
        assert shop.web1.docker.shown() == [*WEB1, "web-1 shop/web:1 running", "web-2 shop/web:1 running"]
        assert shop.web2.docker.shown() == [WEB1[0], "web-1 shop/web:1 running", "web-2 shop/web:1 running"]

    def test_the_release_serves_on_both_and_the_outcome_says_so(self, shop, outcome):
        assert shop.current("web1") == shop.current("web2") == outcome.release
        assert {name: target.result for name, target in outcome.targets.items()} == {
            "web1": "changed",
            "web2": "changed",
        }
        assert outcome.digests["web"].startswith("shop/web@sha256:")

    def test_the_proxy_sends_requests_to_every_container(self, shop, outcome):
        for server in shop.servers.values():
            assert [c.number for c in server.docker.rotation("web")] == [1, 2]

    def test_what_stands_on_a_server_is_for_its_owner_alone(self, shop, outcome):
        env = shop.path("web1", "current/.env")
        assert stat.S_IMODE(env.stat().st_mode) == 0o600
        assert 'DB_PASSWORD="correct horse"' in env.read_text()
        assert "correct horse" not in shop.path("web1", "current/compose.yaml").read_text()

    def test_the_journal_tells_start_and_end_and_the_lock_is_free(self, shop, outcome):
        assert shop.journal() == [("deploy", "started"), ("deploy", "done")]
        assert not shop.locked()

    def test_images_bear_a_tag_that_pruning_respects(self, shop, outcome):
        assert f"opsbook/shop-production/web:{outcome.release}" in shop.web2.docker.tags

    def test_content_stands_under_its_hash(self, shop, outcome):
        (folder,) = shop.path("web1", "files").glob("*/init.sql")
        assert folder.read_text() == "select 1;\n"

    def test_the_database_of_another_server_is_found_at_its_private_address(self, shop, outcome):
        (web,) = {c.definition["environment"]["DB_HOST"] for c in shop.web2.docker.of("web")}
        assert web == "10.9.0.1"


class TestNext:
    """A new version."""

    def test_the_rolling_service_is_replaced_and_nobody_waits(self, deployed):
        for server in deployed.servers.values():
            assert [(c.number, c.image.tag) for c in server.docker.of("web")] == [(3, "2"), (4, "2")]
            assert server.docker.least == {"web": 2}
        assert unharmed(deployed)

    def test_what_did_not_change_is_not_touched(self, deployed):
        assert (ids(deployed, "web1", "postgres"), ids(deployed, "web1", "nginx")) == deployed.before

    def test_an_image_that_follows_no_version_is_not_asked_for_again(self, deployed):
        calls = deployed.web1.docker.calls
        assert [call for call in calls if call.startswith("pull") and "postgres" in call] == []

    def test_servers_are_switched_one_after_another(self, deployed):
        steps = deployed.listener.steps
        assert [host for host, title in steps if title.startswith("start 2 new web")] == ["web1", "web2"]

    def test_the_same_again_is_nothing_to_do(self, pair):
        before = tree(pair.path("web1", "releases")), ids(pair, "web1", "web")
        outcome = pair.deploy("1")
        assert {target.result for target in outcome.targets.values()} == {"unchanged"}
        assert outcome.release == pair.current("web1")
        assert (tree(pair.path("web1", "releases")), ids(pair, "web1", "web")) == before
        assert pair.journal()[-1] == ("deploy", "unchanged")
        assert not pair.locked()

    def test_an_old_nginx_rolls_by_addresses_and_rests_on_the_services_name(self, pair):
        for server in pair.servers.values():
            for proxy in server.docker.of("nginx"):
                proxy.nginx.version = "1.26.3"
        pair.deploy("2")
        assert unharmed(pair)
        assert pair.web1.docker.of("nginx")[0].nginx.loaded["web"].servers == ("web",)

    def test_releases_beyond_those_kept_go_with_their_images(self, single, monkeypatch):
        seconds = (
            itertools.count()
        )  # a fast machine deploys several in one, and their ids would not tell which is newer

        def release_id(version):
            return f"20990101T0000{next(seconds):02}Z-{version}-0000"

        monkeypatch.setattr(deploying, "new_release_id", release_id)
        for version in ("2", "3", "1", "2"):
            single.deploy(version, environment="staging")
        kept = single.releases("web1", "staging")
        assert len(kept) == 3
        tags = {tag.rpartition(":")[2] for tag in single.web1.docker.tags if tag.startswith("opsbook/")}
        assert tags == set(kept)

    def test_a_service_that_left_the_compose_files_is_removed(self, single):
        single.edit("compose.yaml", "  postgres:\n    image", "  database:\n    image")
        single.edit("compose.yaml", "depends_on: [postgres]", "depends_on: [database]")
        single.edit("ops.toml", "[services.postgres]", "[services.database]")
        single.deploy("1", environment="staging")
        assert {c.service for c in single.web1.docker.containers} == {"nginx", "web", "database"}

    def test_one_server_can_be_meant_alone(self, pair):
        pair.deploy("2", servers=("web2",))
        assert {c.image.tag for c in pair.web1.docker.of("web")} == {"1"}
        assert {c.image.tag for c in pair.web2.docker.of("web")} == {"2"}

    def test_a_server_that_comes_alone_runs_the_image_that_serves_on_the_state_host(self, shop):
        shop.deploy("1", servers=("web1",))
        shop.deploy("1", servers=("web2",))
        pulled = [call for call in shop.web2.docker.calls if call.startswith("pull") and "nginx" in call]
        assert pulled == [f"pull -q {shop.web1.docker.of('nginx')[0].reference}"]
        assert "@sha256:" in pulled[0]

    def test_a_container_that_crashed_is_replaced_by_the_same_version(self, single):
        single.web1.docker.crash(single.web1.docker.of("web")[0])
        single.deploy("1", environment="staging")
        assert [(c.number, c.state) for c in single.web1.docker.of("web")] == [(2, "running"), (3, "running")]
        assert len(single.web1.docker.rotation("web")) == 2

    def test_a_container_with_restarts_in_its_past_does_not_stop_a_deploy(self, single):
        for container in single.web1.docker.containers:
            container.restarts = 3
        single.web1.docker.crash(single.web1.docker.of("web")[0])
        single.deploy("1", environment="staging")
        assert len(single.web1.docker.rotation("web")) == 2


class TestConfiguration:
    """A change of configuration alone recreates only what it touches."""

    def changed(self, shop, change):
        before = {service: ids(shop, "web1", service) for service in ("nginx", "web", "postgres")}
        change()
        shop.deploy("1", environment="staging")
        return {service for service, seen in before.items() if ids(shop, "web1", service) != seen}

    def test_a_plain_value(self, single):
        assert self.changed(
            single, lambda: single.edit("compose.yaml", "POSTGRES_PASSWORD:", "TZ: UTC, POSTGRES_PASSWORD:")
        ) == {"postgres"}

    def test_a_secret(self, single):
        assert self.changed(single, lambda: single.edit(".env", "correct horse", "battery staple")) == {
            "web",
            "postgres",
        }

    def test_the_content_of_a_file(self, single):
        assert self.changed(single, lambda: single.write("init.sql", "select 2;\n")) == {"postgres"}

    def test_the_proxys_configuration_is_loaded_without_a_new_proxy(self, single):
        change = lambda: single.write("nginx/conf.d/site.conf", "server { listen 80; gzip on; }\n")  # noqa: E731
        assert self.changed(single, change) == set()
        (proxy,) = single.web1.docker.of("nginx")
        assert any("gzip" in text for text in proxy.nginx.texts.values())

    def test_a_network_that_changed_is_told_by_plan_and_deploy_and_recreates_nothing(self, single):
        networks = "networks: {default: {internal: true}}\n\nvolumes:\n"
        assert (
            self.changed(single, lambda: single.edit("compose.yaml", "volumes:\n  data", networks + "  data"))
            == set()
        )
        single.edit("compose.yaml", "internal: true", "attachable: true")
        (told,) = single.deploy("1", environment="staging").warnings
        (planned,) = plan(
            single.settings("staging"), single.hosts(Session(), Interruption(), "staging"), Version("1")
        ).warnings
        assert told == planned
        assert "network default changed (attachable" in told

    def test_more_replicas_leave_the_others_alone(self, single):
        before = ids(single, "web1", "web")
        single.edit("ops.toml", "replicas = 2", "replicas = 4")
        single.deploy("1", environment="staging")
        assert ids(single, "web1", "web")[:2] == before
        assert len(single.web1.docker.rotation("web")) == 4

    def test_fewer_replicas_cut_nobody(self, single):
        single.edit("ops.toml", "replicas = 2", "replicas = 1")
        single.deploy("1", environment="staging")
        assert [c.number for c in single.web1.docker.rotation("web")] == [1]
        assert single.web1.docker.harm == []


class TestSmoke:
    """Requests as the users make them."""

    @pytest.mark.parametrize("published", ["80:80", "10.9.0.1:80:80"])
    def test_the_proxy_is_asked_at_the_address_that_it_is_published_at(self, single, published):
        single.edit("compose.yaml", '"80:80"', f'"{published}"')
        single.edit("ops.toml", "[services.nginx]", '[[smoke]]\ncontains = "version 2"\n\n[services.nginx]')
        assert single.deploy("2", environment="staging").targets["web1"].result == "changed"


class TestSecrets:
    """Values of secrets reach stdin and 0600 files only."""

    def test_no_argument_log_journal_or_other_file_holds_one(self, shop):
        shop.edit(".env", "correct horse", "tr0ub4dor")
        shop.deploy("1")
        for server in shop.servers.values():
            assert not [call for call in server.docker.calls if "tr0ub4dor" in call]
            for path in server.root.rglob("*"):
                if path.is_file() and path.name != ".env":
                    assert b"tr0ub4dor" not in path.read_bytes(), path
        for log in (shop.folder / ".ops").rglob("*.log"):
            assert "tr0ub4dor" not in log.read_text()

    def test_no_script_that_a_server_runs_holds_one(self, shop, monkeypatch):
        shop.edit(".env", "correct horse", "tr0ub4dor")
        scripts = []
        check = Session.check
        monkeypatch.setattr(
            Session,
            "check",
            lambda self, host, command: (scripts.append(command.script), check(self, host, command)),
        )
        shop.deploy("1")
        assert scripts
        assert not [script for script in scripts if "tr0ub4dor" in script]


class TestPlan:
    """What a deploy would do; nothing is changed."""

    def planned(self, shop, version):
        hosts = {name: ReadOnlyHost(host) for name, host in shop.hosts(Session(), Interruption()).items()}
        return plan(shop.settings(), hosts, Version(version))

    def test_it_changes_nothing(self, pair):
        before = [tree(server.root) for server in pair.servers.values()], pair.web1.docker.shown()
        self.planned(pair, "2")
        assert ([tree(server.root) for server in pair.servers.values()], pair.web1.docker.shown()) == before

    def test_it_shows_effects_steps_and_the_compose_difference(self, pair):
        found = self.planned(pair, "2")
        effects = {effect.service: effect.text for effect in found.hosts["web1"].effects}
        assert effects == {
            "nginx": "untouched",
            "postgres": "untouched",
            "web": "rolling: none without it, 2 -> 2",
        }
        assert [title for title, _ in found.hosts["web1"].steps][1] == "start 2 new web containers"
        assert "+    image: shop/web:2" in found.hosts["web1"].difference
        assert found.order == (("web1",), ("web2",))
        assert "shop/web:2" in found.pulls

    def test_of_a_first_deploy_it_shows_everything(self, shop):
        found = self.planned(shop, "1")
        assert {effect.text for effect in found.hosts["web1"].effects} == {"started", "started: 2 new"}
        assert not found.nothing_to_do

    def test_it_reads_as_json(self, pair):
        from ops.tasks.boundary import Answer, document

        assert (
            json.loads(document(Answer(data=self.planned(pair, "2")), "deploy.plan"))["data"]["version"]
            == "2"
        )

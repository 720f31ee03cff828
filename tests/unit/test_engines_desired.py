"""What one server shall run, from compose files as Compose resolved them."""

import json
from posixpath import normpath

import pytest

from ops.config import load
from ops.engines.desired import desired
from ops.engines.layout import Layout
from ops.engines.rendering import INSIDE, sentinel
from ops.engines.services import image_reference, services_of

FOLDER = "/dev/shm/ops.Ab12Cd"
LAYOUT = Layout("/opt", "shop", "production")


class Stack:
    """An ops.toml, some files, and compose files as already resolved."""

    def __init__(self, folder):
        self.folder = folder
        self.toml = ""
        self.servers = 'servers.web1 = { private_address = "10.0.0.1" }\n'
        self.model = {"name": "shop-production", "services": {}}
        self.secrets = {"DB_PASSWORD": "correct horse"}
        self.pins = {}
        self.write("compose.yaml", "services: {}\n")

    def write(self, name, text):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def service(self, name, **definition):
        self.model["services"][name] = {"image": f"{name}:1", "networks": {"default": None}, **definition}

    @property
    def settings(self):
        required = json.dumps(list(self.secrets))
        if len(self.servers.splitlines()) > 1:
            self.toml = 'state_host = "web1"\n' + self.toml.replace('state_host = "web1"\n', "")
        text = f'stack = "shop"\n{self.toml}\n[secrets]\nrequired = {required}\n[environments.production]\n{self.servers}'
        self.write("ops.toml", text)
        self.write(".env", "".join(f"{name}='{value}'\n" for name, value in self.secrets.items())).chmod(
            0o600
        )
        return load("production", start=self.folder)

    def on(self, server="web1", version="1"):
        return desired(
            self.settings,
            server,
            (FOLDER, self.model),
            LAYOUT,
            version=version,
            pins=self.pins,
            secret_values=self.secrets,
        )

    def hash(self, service):
        return self.on().services[service].config


@pytest.fixture
def stack(tmp_path, monkeypatch):
    for name in ("OPS_STACK", "DB_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    return Stack(tmp_path)


@pytest.fixture
def pair(stack):
    stack.toml = '[services.api]\nroles = ["web"]\n[services.db]\nroles = ["db"]\n'
    stack.servers = (
        'servers.web1 = { private_address = "10.0.0.1", roles = ["web"] }\n'
        'servers.db1 = { private_address = "10.0.0.2", roles = ["db"] }\n'
    )
    stack.service("api", depends_on={"db": {"condition": "service_healthy"}})
    stack.service("db")
    stack.service("agent")
    return stack


def bind(source, target="/x", **more):
    return {"type": "bind", "source": f"{FOLDER}/{source}", "target": target, **more}


def test_a_server_runs_the_services_that_share_a_role_with_it_and_those_without_roles(pair):
    assert set(pair.on("web1").services) == {"api", "agent"}
    assert set(pair.on("db1").services) == {"db", "agent"}


def test_a_server_without_roles_runs_everything(stack):
    stack.toml = "[services.db]\nroles = []\n"
    stack.service("db")
    stack.service("api")
    assert services_of(stack.settings.config, "web1", stack.model["services"]) == ("db", "api")


def test_depends_on_a_service_of_another_server_is_dropped_from_the_compose_file(pair):
    assert "depends_on" not in pair.on("web1").model["services"]["api"]


def test_depends_on_a_service_of_this_server_stands_in_the_record_alone(pair):
    """Compose hashes a service with it, but not under `--no-deps`: a plain `up` would recreate the container."""
    pair.model["services"]["api"]["depends_on"]["agent"] = {"condition": "service_started"}
    api = pair.on("web1")
    assert "depends_on" not in api.model["services"]["api"]
    assert "agent" in api.services["api"].depends_on


def test_the_release_remembers_dependencies_on_other_servers(pair):
    assert pair.on("web1").services["api"].depends_on == ("db",)


def test_a_service_of_ops_toml_that_no_compose_file_has_is_a_problem(stack):
    stack.toml = "[services.apii]\nreplicas = 2\n"
    stack.service("api")
    assert "apii" in str(stack.on().problems[0])


def test_a_proxy_that_no_compose_file_has_is_a_problem(stack):
    stack.toml = '[proxy]\nservice = "nginx"\nupstreams = "up"\n'
    stack.service("api")
    assert "nginx" in str(stack.on().problems[0])


class TestPorts:
    """With several servers, published ports go to the network that the servers share."""

    def ports(self, stack, service, server="web1"):
        return [port.get("host_ip") for port in stack.on(server).model["services"][service]["ports"]]

    def test_with_one_server_a_port_stays_as_written(self, stack):
        stack.service("api", ports=[{"target": 80, "published": "80"}])
        assert self.ports(stack, "api") == [None]

    def test_with_several_servers_a_port_binds_to_the_private_address(self, pair):
        pair.service("db", ports=[{"target": 5432, "published": "5432"}])
        assert self.ports(pair, "db", "db1") == ["10.0.0.2"]

    def test_a_port_written_with_an_address_stays_as_written(self, pair):
        pair.service("db", ports=[{"target": 5432, "published": "5432", "host_ip": "0.0.0.0"}])
        assert self.ports(pair, "db", "db1") == ["0.0.0.0"]

    def test_a_port_of_the_proxy_stays_as_written(self, pair):
        pair.toml += '[proxy]\nservice = "api"\nupstreams = "up"\n'
        pair.service("api", ports=[{"target": 80, "published": "80"}])
        assert self.ports(pair, "api") == [None]

    def test_a_port_without_a_published_side_stays_as_written(self, pair):
        pair.service("agent", ports=[{"target": 80}])
        assert self.ports(pair, "agent") == [None]

    def test_a_server_without_a_private_address_is_a_problem(self, pair):
        pair.servers = pair.servers.replace('private_address = "10.0.0.2", ', "")
        pair.service("db", ports=[{"target": 5432, "published": "5432"}])
        (problem,) = pair.on("db1").problems
        assert "5432" in str(problem)
        assert problem.next_step == "set servers.db1.private_address, or write the port with an address"


class TestSecrets:
    """Values of secrets stand in .env alone."""

    def test_a_secret_becomes_its_name_in_the_compose_file(self, stack):
        stack.service("api", environment={"URL": f"postgres://u:{sentinel('DB_PASSWORD')}@db/"})
        goal = stack.on()
        assert goal.model["services"]["api"]["environment"]["URL"] == "postgres://u:${DB_PASSWORD}@db/"
        assert goal.secrets == goal.services["api"].secrets == ("DB_PASSWORD",)

    @pytest.mark.parametrize("name", ["Auth__Key", "_TOKEN", "TOKEN_", "A__B__", "__", "a"])
    def test_a_name_with_underscores_anywhere_finds_its_way_back(self, stack, name):
        stack.secrets = {name: "correct horse"}
        stack.service("api", environment={"A": f"{sentinel(name)}{sentinel(name)}_{sentinel(name)}"})
        goal = stack.on()
        assert goal.model["services"]["api"]["environment"]["A"] == f"${{{name}}}${{{name}}}_${{{name}}}"
        assert goal.secrets == (name,)

    def test_a_dollar_is_doubled_for_compose_to_read_it_as_one(self, stack):
        stack.service("api", environment={"PRICE": "5 $"})
        assert stack.on().model["services"]["api"]["environment"]["PRICE"] == "5 $$"

    def test_a_service_is_not_charged_with_another_services_secrets(self, stack):
        stack.service("api", environment={"A": sentinel("DB_PASSWORD")})
        stack.service("web")
        assert stack.on().services["web"].secrets == ()

    @pytest.mark.parametrize("where", ["command", "entrypoint"])
    def test_a_secret_in_a_command_is_warned_of_with_its_line(self, stack, where):
        stack.write(
            "compose.yaml",
            f"services:\n  api:\n    image: a\n    environment:\n      A: ${{DB_PASSWORD}}\n    {where}: run --password ${{DB_PASSWORD}}\n",
        )
        stack.service("api", **{where: ["run", "--password", sentinel("DB_PASSWORD")]})
        (warning,) = stack.on().warnings
        assert f"service api: the {where} holds the secret DB_PASSWORD (compose.yaml:6)" in warning

    def test_a_secret_in_a_healthcheck_is_warned_of(self, stack):
        stack.service("api", healthcheck={"test": ["CMD-SHELL", f"check {sentinel('DB_PASSWORD')}"]})
        assert "the healthcheck holds the secret DB_PASSWORD" in stack.on().warnings[0]

    def test_a_secret_in_the_environment_is_not_warned_of(self, stack):
        stack.service("api", environment={"A": sentinel("DB_PASSWORD")})
        assert stack.on().warnings == ()


class TestImages:
    """Which reference a service runs, and whether it follows the version."""

    def reference(self, stack, name, **definition):
        stack.service(name, **definition)
        return image_reference(stack.settings, name, stack.model["services"][name], "7")

    def test_the_compose_files_own_image_does_not_follow_the_version(self, stack):
        assert self.reference(stack, "db", image="postgres:16") == ("postgres:16", False)

    def test_an_image_template_follows_the_version(self, stack):
        stack.toml = '[services.api]\nimage = "registry.test/api:{version}"\n'
        assert self.reference(stack, "api") == ("registry.test/api:7", True)

    def test_an_image_of_ops_toml_without_template_stays(self, stack):
        stack.toml = '[services.api]\nimage = "registry.test/api:stable"\n'
        assert self.reference(stack, "api") == ("registry.test/api:stable", False)

    def test_a_service_that_is_built_follows_the_version_in_the_builds_registry(self, stack):
        stack.toml = '[build]\nregistry = "registry.test/team/"\n'
        built = self.reference(stack, "api", image="local", build={"context": "."})
        assert built == ("registry.test/team/shop/api:7", True)

    def test_without_a_registry_a_built_image_is_pulled_through_the_forwarded_port(self, stack):
        assert self.reference(stack, "api", build={"context": "."}) == ("127.0.0.1:5077/shop/api:7", True)

    def test_a_service_without_image_and_build_is_a_problem(self, stack):
        stack.service("api", image=None)
        assert str(stack.on().problems[0]) == "service api has neither image nor build"

    def test_the_release_runs_the_pin_and_remembers_the_reference(self, stack):
        stack.pins = {"db:1": "db@sha256:ab"}
        stack.service("db", build=None, pull_policy="always")
        goal = stack.on()
        assert goal.model["services"]["db"]["image"] == "db@sha256:ab"
        assert (goal.services["db"].image, goal.services["db"].pin) == ("db:1", "db@sha256:ab")
        assert not {"build", "pull_policy"} & set(goal.model["services"]["db"])


class TestReplicas:
    """ops.toml wins over deploy.replicas, which wins over scale."""

    def count(self, stack, **definition):
        stack.service("api", **definition)
        goal = stack.on()
        assert goal.model["services"]["api"]["deploy"]["replicas"] == goal.services["api"].replicas
        assert "scale" not in goal.model["services"]["api"]
        return goal.services["api"].replicas

    def test_without_a_word_there_is_one(self, stack):
        assert self.count(stack) == 1

    def test_scale_counts(self, stack):
        assert self.count(stack, scale=4) == 4

    def test_deploy_replicas_wins_over_scale(self, stack):
        assert self.count(stack, scale=4, deploy={"replicas": 3}) == 3

    def test_ops_toml_wins_over_deploy_replicas(self, stack):
        stack.toml = "[services.api]\nreplicas = 2\n"
        assert self.count(stack, deploy={"replicas": 3}) == 2

    @pytest.mark.parametrize("toml", ["[services.api]\nreplicas = 0\n", ""])
    def test_none_is_a_number_too(self, stack, toml):
        stack.toml = toml
        assert self.count(stack, deploy={"replicas": 0}) == 0

    def test_scale_to_none_counts(self, stack):
        assert self.count(stack, scale=0) == 0


class TestConfigHash:
    """What gives a service new containers, and what does not."""

    def changes(self, stack, change, service="api"):
        before = stack.hash(service)
        change()
        return stack.hash(service) != before

    @pytest.fixture(autouse=True)
    def with_a_service(self, stack):
        stack.write("init.sql", "select 1;")
        stack.service(
            "api",
            environment={"A": sentinel("DB_PASSWORD"), "B": "1"},
            volumes=[bind("init.sql", read_only=True)],
            depends_on={"db": {"condition": "service_started"}},
        )
        stack.service("db")

    def test_the_same_twice_is_the_same(self, stack):
        assert not self.changes(stack, lambda: None)

    def test_a_secrets_value_changes_it(self, stack):
        assert self.changes(stack, lambda: stack.secrets.update(DB_PASSWORD="another one"))

    def test_a_secret_of_another_service_does_not_change_it(self, stack):
        assert not self.changes(stack, lambda: stack.secrets.update(DB_PASSWORD="another one"), "db")

    def test_the_content_of_a_mounted_file_changes_it(self, stack):
        assert self.changes(stack, lambda: stack.write("init.sql", "select 2;"))

    def test_the_image_that_is_pinned_changes_it(self, stack):
        stack.pins = {"api:1": "api@sha256:aa"}
        assert self.changes(stack, lambda: stack.pins.update({"api:1": "api@sha256:bb"}))

    def test_a_plain_value_changes_it(self, stack):
        assert self.changes(stack, lambda: stack.model["services"]["api"]["environment"].update(B="2"))

    def test_replicas_do_not_change_it(self, stack):
        assert not self.changes(stack, lambda: stack.model["services"]["api"].update(deploy={"replicas": 4}))

    def test_depends_on_does_not_change_it(self, stack):
        assert not self.changes(stack, lambda: stack.model["services"]["api"].pop("depends_on"))

    def test_a_profile_does_not_change_it(self, stack):
        assert not self.changes(stack, lambda: stack.model["services"]["api"].update(profiles=["x"]))

    def test_the_version_alone_does_not_change_a_service_that_does_not_follow_it(self, stack):
        assert stack.on(version="1").services["api"].config == stack.on(version="2").services["api"].config

    def test_it_stands_in_a_variable_so_that_the_compose_file_does_not_change_with_a_secret(self, stack):
        before = stack.on().model
        stack.secrets = {"DB_PASSWORD": "another one"}
        assert stack.on().model == before
        assert before["services"]["api"]["labels"]["ops.config"] == "${OPS_CONFIG_API}"

    def test_the_folder_that_compose_resolved_in_does_not_change_it(self, stack):
        one = stack.on()
        model = json.loads(json.dumps(stack.model).replace(FOLDER, "/tmp/ops.other"))
        two = desired(
            stack.settings,
            "web1",
            ("/tmp/ops.other", model),
            LAYOUT,
            version="1",
            pins={},
            secret_values=stack.secrets,
        )
        assert one.services == two.services


def test_containers_are_labelled_with_stack_environment_and_service(stack):
    stack.service("api", labels={"own": "label"})
    labels = stack.on().model["services"]["api"]["labels"]
    assert labels["own"] == "label"
    assert [labels[f"ops.{key}"] for key in ("stack", "environment", "service")] == [
        "shop",
        "production",
        "api",
    ]


def test_no_label_names_the_release(stack):
    stack.service("api")
    assert not [key for key in stack.on().model["services"]["api"]["labels"] if "release" in key]


def test_the_compose_files_as_given_are_not_touched(stack):
    stack.service("api", scale=3, labels={})
    before = json.dumps(stack.model)
    stack.on()
    assert json.dumps(stack.model) == before


def test_volumes_and_networks_that_no_service_of_this_server_uses_are_dropped(pair):
    pair.service("db", volumes=[{"type": "volume", "source": "data", "target": "/d"}])
    pair.model["volumes"] = {"data": {"name": "shop_data"}}
    assert "volumes" not in pair.on("web1").model
    assert pair.on("db1").model["volumes"] == {"data": {"name": "shop_data"}}


def test_a_path_of_the_stack_folder_where_none_is_expected_is_a_problem(stack):
    stack.service("api", environment={"HERE": f"{FOLDER}/x"})
    assert "./x" in str(stack.on().problems[0])


class TestOutsideTheStackFolder:
    """What is on no server is refused, in place of a path of the server that is spelled like it."""

    DEEP = f"{FOLDER}/{INSIDE}"

    def problems(self, stack):
        goal = desired(
            stack.settings,
            "web1",
            (self.DEEP, stack.model),
            LAYOUT,
            version="1",
            pins={},
            secret_values=stack.secrets,
        )
        return goal.problems

    @pytest.mark.parametrize("written", ["../shared", "../../far/off", ".."])
    def test_a_mount(self, stack, written):
        source = normpath(f"{self.DEEP}/{written}")
        stack.service("api", volumes=[{"type": "bind", "source": source, "target": "/x"}])
        (problem,) = self.problems(stack)
        assert str(problem).startswith(f"service api mounts {written}, which is outside the stack folder")
        assert "or write the path that it has on the servers" in problem.next_step

    def test_a_mount_is_told_as_a_compose_file_in_a_subfolder_has_it(self, stack):
        stack.toml = 'files = ["compose/compose.yaml"]\n'
        stack.write("compose/compose.yaml", "services: {}\n")
        source = normpath(f"{self.DEEP}/../shared")
        stack.service("api", volumes=[{"type": "bind", "source": source, "target": "/x"}])
        assert str(self.problems(stack)[0]).startswith("service api mounts ../../shared, which is outside")

    def test_the_file_of_a_secret(self, stack):
        stack.model["secrets"] = {"key": {"file": normpath(f"{self.DEEP}/../key.pem")}}
        stack.service("api", secrets=[{"source": "key"}])
        (problem,) = self.problems(stack)
        assert str(problem).startswith("secret key is the file ../key.pem, which is outside the stack folder")

    def test_the_folder_behind_a_volume(self, stack):
        device = normpath(f"{self.DEEP}/../data")
        stack.model["volumes"] = {"data": {"name": "shop_data", "driver_opts": {"device": device}}}
        stack.service("api", volumes=[{"type": "volume", "source": "data", "target": "/d"}])
        (problem,) = self.problems(stack)
        assert str(problem) == "a path in the compose files leads out of the stack folder: ../data"

    @pytest.mark.parametrize("source", ["/srv/shared", "/dev/shm", "/tmp/x"])
    def test_a_path_of_the_server_is_accepted(self, stack, source):
        stack.service("api", volumes=[{"type": "bind", "source": source, "target": "/x"}])
        assert self.problems(stack) == ()

    @pytest.mark.parametrize("path", [".", "../api"])
    def test_what_only_a_build_or_a_watch_reads_may_be_anywhere(self, stack, path):
        where = normpath(f"{self.DEEP}/{path}")
        stack.service("api", build={"context": where}, develop={"watch": [{"path": where}]})
        assert self.problems(stack) == ()


def test_the_file_of_a_compose_secret_travels_as_content(stack):
    stack.write("tls/key.pem", "key")
    stack.model["secrets"] = {"key": {"file": f"{FOLDER}/tls/key.pem"}}
    stack.service("api", secrets=[{"source": "key"}])
    goal = stack.on()
    ((path, content),) = goal.contents
    assert (
        goal.model["secrets"]["key"]["file"] == path == f"/opt/shop/production/files/{content.digest}/key.pem"
    )


def test_the_file_of_a_compose_secret_changes_the_service_that_uses_it(stack):
    stack.write("key.pem", "one")
    stack.model["secrets"] = {"key": {"file": f"{FOLDER}/key.pem"}}
    stack.service("api", secrets=[{"source": "key"}])
    stack.service("other")
    before = stack.on().services
    stack.write("key.pem", "two")
    after = stack.on().services
    assert before["api"].config != after["api"].config
    assert before["other"].config == after["other"].config


def test_the_file_of_a_compose_secret_that_is_missing_is_a_problem(stack):
    stack.model["secrets"] = {"key": {"file": f"{FOLDER}/tls/key.pem"}}
    stack.service("api", secrets=[{"source": "key"}])
    (problem,) = stack.on().problems
    assert str(problem) == "secret key: the file ./tls/key.pem is not there"


def test_a_mount_that_is_refused_is_told_once(stack):
    stack.write("sql/init.sql", "select 1;")
    stack.service("api", volumes=[bind("sql")])
    (problem,) = stack.on().problems
    assert str(problem).startswith("service api mounts the folder ./sql for writing")


def test_a_service_whose_end_others_wait_for_is_good_at_its_end(stack):
    stack.service("setup")
    stack.service("api", depends_on={"setup": {"condition": "service_completed_successfully"}})
    kinds = {name: one.health.kind for name, one in stack.on().services.items()}
    assert kinds == {**kinds, "setup": "completed", "api": "docker"}


@pytest.mark.parametrize(
    ("written", "kind", "port"),
    [
        ('path = "/up"', "http", 8000),
        ("port = 9000", "tcp", 9000),
        ("", "docker", 8000),
        ('kind = "running"', "running", 8000),
        ('kind = "http"', "http", 8000),
    ],
)
def test_the_kind_of_health_follows_from_what_is_given(stack, written, kind, port):
    stack.toml = f"[services.api]\nport = 8000\nhealth = {{ {written} }}\n"
    stack.service("api")
    health = stack.on().services["api"].health
    assert (health.kind, health.port) == (kind, port)


@pytest.mark.parametrize(
    ("written", "seconds"),
    [(None, 10), ("30s", 30), ("1m30s", 90), ("1m0.5s", 60.5), ("500ms", 0.5), ("1h", 3600)],
)
def test_the_grace_period_is_read_as_compose_writes_it(stack, written, seconds):
    stack.service("api", **({"stop_grace_period": written} if written else {}))
    assert stack.on().services["api"].grace == seconds


class TestProxyFolders:
    """The proxy's folders keep one path for ever."""

    @pytest.fixture(autouse=True)
    def with_a_proxy(self, stack):
        stack.toml = '[proxy]\nservice = "nginx"\nupstreams = "./nginx/upstreams/"\n'
        stack.write("nginx/conf.d/site.conf", "server {}")

    def test_a_folder_of_the_proxy_is_mounted_below_proxy(self, stack):
        stack.service("nginx", volumes=[bind("nginx/conf.d", read_only=True)])
        assert (
            stack.on().model["services"]["nginx"]["volumes"][0]["source"]
            == "/opt/shop/production/proxy/nginx/conf.d"
        )

    def test_its_content_does_not_recreate_the_proxy(self, stack):
        stack.service("nginx", volumes=[bind("nginx/conf.d", read_only=True)])
        before = stack.hash("nginx")
        stack.write("nginx/conf.d/site.conf", "server { listen 80; }")
        assert stack.hash("nginx") == before

    def test_the_folder_of_upstreams_stands_below_proxy_even_where_the_checkout_lacks_it(self, stack):
        stack.service("nginx", volumes=[bind("nginx/upstreams", read_only=True)])
        goal = stack.on()
        source = goal.model["services"]["nginx"]["volumes"][0]["source"]
        assert source == "/opt/shop/production/proxy/nginx/upstreams"
        assert goal.proxy.upstreams == "nginx/upstreams"

    @pytest.mark.parametrize("folder", ["nginx/conf.d", "nginx/upstreams"])
    def test_a_link_in_it_that_leads_nowhere_is_a_problem(self, stack, folder):
        (stack.folder / folder).mkdir(exist_ok=True, parents=True)
        (stack.folder / folder / "old.conf").symlink_to("gone.conf")
        stack.service("nginx", volumes=[bind(folder, read_only=True)])
        (problem,) = stack.on().problems
        assert str(problem).startswith(f"./{folder}/old.conf is a link to gone.conf, which is not there")

"""What forbids a deploy, found before anything is touched, all of it at once."""

import pytest
from examples import PROXY, container, facts, spec

from ops.config import load
from ops.deploy.preflight import preflight, warnings
from ops.deploy.survey import Survey
from ops.engines.compose import compose_yaml
from ops.engines.desired import Desired
from ops.engines.facts import Bystander
from ops.errors import ConfigError, FailedUnchanged

LABEL = "com.docker.compose.project"


@pytest.fixture
def settings(tmp_path):
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "ops.toml").write_text(
        "[environments.production]\nservers.web1 = {}\n[environments.renamed]\nproject = 'legacy'\nservers.web1 = {}\n"
    )
    (folder / "compose.yaml").write_text("services: {api: {image: a}}\n")

    def loaded(environment="production"):
        return load(environment, start=folder)

    return loaded


@pytest.fixture
def findings(settings):
    """Return what forbids: services as (spec, definition), and what is on the server."""

    def found(*services, environment="production", problems=(), model=None, proxy=PROXY, **on_server):
        desired = Desired(
            {"services": {one.name: definition for one, definition in services}, **(model or {})},
            {one.name: one for one, _ in services},
            proxy=proxy,
            problems=tuple(problems),
        )
        known = facts(**on_server)
        return preflight(settings(environment), {"web1": Survey(known, None)}, {"web1": desired})

    return found


def bystander(
    name="other-1", project="other", service="web", image="nginx:1", ports="", stack="", environment=""
):
    return Bystander(name, project, service, image, ports, stack, environment)


def ports(*published, **more):
    return {"ports": [{"target": 80, "published": one, "protocol": "tcp", **more} for one in published]}


API = spec("api")
WEB = spec("web")


def test_a_sound_stack_on_a_sound_server_is_not_forbidden(findings):
    assert findings((API, ports("80"))) == []


def test_everything_is_told_at_once(findings):
    found = findings(
        (API, {}), problems=[ConfigError("one"), ConfigError("two")], docker="19.03.1", free={"/opt": 0}
    )
    assert len(found) == 4


class TestMachine:
    """Versions and space."""

    @pytest.mark.parametrize("version", ["19.03.15", "1.13.1", "20.9.9", ""])
    def test_a_docker_that_is_too_old_is_told(self, findings, version):
        (error,) = findings((API, {}), docker=version)
        assert f"Docker {version} is older than 20.10" in str(error)
        assert error.next_step == "inv servers.prepare"

    @pytest.mark.parametrize("version", ["20.10.0", "26.1.5+dfsg1", "28.0.0-rc.1"])
    def test_a_docker_that_is_not_is_accepted(self, findings, version):
        assert findings((API, {}), docker=version) == []

    @pytest.mark.parametrize("version", ["2.17.3", "v2.19.0", "1.29.2"])
    def test_a_compose_that_is_too_old_is_told(self, findings, version):
        assert "is older than 2.20" in str(findings((API, {}), compose=version)[0])

    @pytest.mark.parametrize("version", ["2.20.0", "v2.26.1-4", "5.0.1"])
    def test_a_compose_that_is_not_is_accepted(self, findings, version):
        assert findings((API, {}), compose=version) == []

    def test_a_full_disk_is_told_with_place_and_size(self, findings):
        (error,) = findings((API, {}), free={"/opt": 10**10, "/var/lib/docker": 100 * 2**20})
        assert isinstance(error, FailedUnchanged)
        assert str(error) == "web1: disk full: 100 MiB free at /var/lib/docker, 512 MiB are needed"
        assert "docker image prune" in error.next_step

    def test_a_clock_that_is_off_is_a_warning(self, settings):
        surveys = {"web1": Survey(facts(clock=1000.0), None), "web2": Survey(facts(clock=1100.0), None)}
        assert warnings(settings(), surveys, {}, 1040.0) == [
            "web1: its clock is 40 s behind this machine's",
            "web2: its clock is 60 s ahead of this machine's",
        ]

    def test_a_clock_that_is_a_little_off_is_not(self, settings):
        assert warnings(settings(), {"web1": Survey(facts(clock=1000.0), None)}, {}, 1029.0) == []


class TestByHand:
    """Networks and volumes that a compose file changes, and no deploy does."""

    @pytest.fixture
    def told(self, settings):
        def told(before, after):
            serving = facts(compose_yaml=compose_yaml({"services": {}, **before}, "shop-production"))
            surveys, wanted = (
                {"web1": Survey(serving, None)},
                {"web1": Desired({"services": {}, **after}, {})},
            )
            return warnings(settings(), surveys, wanted, 0.0)

        return told

    @pytest.mark.parametrize(
        ("change", "keys"),
        [
            ({"internal": True}, "internal"),
            ({"driver_opts": {"com.docker.network.driver.mtu": "1400"}}, "driver_opts"),
            ({"ipam": {"config": [{"subnet": "10.1.0.0/24"}]}, "name": "other"}, "ipam, name"),
        ],
    )
    def test_a_network_is_told_with_what_makes_it_anew(self, told, change, keys):
        before = {"name": "shop_default", "ipam": {}}
        (warning,) = told({"networks": {"default": before}}, {"networks": {"default": before | change}})
        assert warning.startswith(
            f"web1: network default changed ({keys}), and Docker cannot change one in place"
        )
        assert ": inv stack.down --env production" in warning
        assert warning.endswith(", then deploy again")

    def test_a_volume_is_told_with_its_data_in_mind(self, told):
        before = {"name": "shop_data"}
        (warning,) = told(
            {"volumes": {"data": before}}, {"volumes": {"data": before | {"driver_opts": {"type": "nfs"}}}}
        )
        assert "volume data changed (driver_opts)" in warning
        assert "save its data, inv stack.down" in warning
        assert "docker volume rm shop_data, then deploy again" in warning

    def test_what_stayed_as_it_was_is_not_told(self, told):
        same = {
            "networks": {"default": {"name": "shop_default", "driver_opts": {"mtu": "1400", "x": "1e3"}}},
            "volumes": {"data": None, "more": {"name": "m", "labels": {"a": "$$5"}}},
        }
        assert told(same, same) == []

    def test_what_comes_or_goes_is_not_told(self, told):
        assert told({"networks": {"old": {"name": "o"}}}, {"networks": {"new": {"name": "n"}}}) == []

    def test_before_the_first_release_there_is_nothing_to_tell(self, settings):
        wanted = {"web1": Desired({"services": {}, "networks": {"default": {"name": "n"}}}, {})}
        assert warnings(settings(), {"web1": Survey(facts(), None)}, wanted, 0.0) == []


class TestPorts:
    """Two that want one port."""

    def test_two_services_that_publish_the_same_ports_are_named_with_all_of_them(self, findings):
        (error,) = findings((API, ports("443", "80", "8080")), (WEB, ports("80", "443")))
        assert str(error) == "services api and web both publish ports 80 and 443"
        assert error.next_step == "let one of them keep the ports: remove `ports:` of api or web"

    def test_one_port_is_told_in_the_singular(self, findings):
        (error,) = findings((API, ports("80")), (WEB, ports("80")))
        assert str(error) == "services api and web both publish port 80"

    def test_the_same_port_of_two_protocols_is_no_clash(self, findings):
        assert findings((API, ports("53")), (WEB, ports("53", protocol="udp"))) == []

    def test_the_same_port_of_two_addresses_is_no_clash(self, findings):
        assert findings((API, ports("80", host_ip="10.0.0.1")), (WEB, ports("80", host_ip="10.0.0.2"))) == []

    def test_a_port_of_all_addresses_clashes_with_one_of_one(self, findings):
        assert len(findings((API, ports("80")), (WEB, ports("80", host_ip="10.0.0.2")))) == 1

    def test_a_range_clashes_with_a_port_inside_it(self, findings):
        assert "port 8001" in str(findings((API, ports("8000-8002")), (WEB, ports("8001")))[0])

    @pytest.mark.parametrize(
        "listening",
        ["0.0.0.0:80->80/tcp", ":::80->80/tcp", "9000/tcp, 0.0.0.0:79-81->79-81/tcp", "[::]:80->8080/tcp"],
    )
    def test_a_port_that_another_project_holds_is_told(self, findings, listening):
        (error,) = findings((API, ports("80")), bystanders=(bystander(ports=listening),))
        assert str(error) == "web1: port 80 of service api is taken by container other-1 (project other)"

    @pytest.mark.parametrize(
        "listening", ["", "80/tcp", "0.0.0.0:8080->80/tcp", "0.0.0.0:80->80/udp", "0.0.0.0:81-90->81-90/tcp"]
    )
    def test_other_ports_of_another_project_are_no_clash(self, findings, listening):
        assert findings((API, ports("80")), bystanders=(bystander(ports=listening),)) == []

    def test_the_stacks_own_containers_hold_their_ports_rightly(self, findings):
        mine = bystander(project="shop-production", ports="0.0.0.0:80->80/tcp")
        assert findings((API, ports("80")), bystanders=(mine,)) == []

    def test_a_container_of_no_project_is_told_as_such(self, findings):
        (error,) = findings(
            (API, ports("80")), bystanders=(bystander(project="", ports="0.0.0.0:80->80/tcp"),)
        )
        assert "(no compose project)" in str(error)


class TestRolling:
    """A service that cannot run twice cannot roll."""

    ROLLS = spec("api", strategy="rolling")

    @pytest.mark.parametrize(
        ("definition", "reason"),
        [
            ({"container_name": "api"}, "container_name 'api' can exist once only"),
            ({"network_mode": "host"}, "on the host's network two containers cannot listen on one port"),
            (ports("8000"), "it publishes the fixed host port 8000"),
            (
                {"volumes": [{"type": "volume", "source": "data", "target": "/d"}]},
                "two containers would write to the volume data",
            ),
            (
                {"volumes": [{"type": "volume", "target": "/d"}]},
                "what is in its anonymous volume /d would be lost with each container",
            ),
        ],
    )
    def test_it_is_refused_with_the_reason(self, findings, definition, reason):
        (error,) = findings((self.ROLLS, definition))
        assert str(error) == f"service api cannot roll: {reason}"
        assert 'services.api.strategy = "recreate"' in error.next_step

    @pytest.mark.parametrize(
        "definition",
        [
            ports("8000-8010"),
            {"ports": [{"target": 80}]},
            {"volumes": [{"type": "volume", "source": "data", "target": "/d", "read_only": True}]},
            {"volumes": [{"type": "bind", "source": "/data", "target": "/d"}]},
            {"volumes": [{"type": "tmpfs", "target": "/d"}]},
        ],
    )
    def test_what_two_containers_can_share_is_accepted(self, findings, definition):
        assert findings((self.ROLLS, definition)) == []

    def test_a_service_that_is_recreated_may_have_all_of_it(self, findings):
        assert findings((API, {"container_name": "api", **ports("8000")})) == []

    def test_several_replicas_need_the_same(self, findings):
        (error,) = findings((spec("api", replicas=2), {"container_name": "api"}))
        assert str(error).startswith("service api cannot have 2 replicas: ")

    def test_it_needs_a_network_with_the_proxy(self, findings):
        proxy = (spec("nginx"), {"networks": {"front": None}})
        assert findings((self.ROLLS, {"networks": {"front": None, "back": None}}), proxy) == []
        (error,) = findings((self.ROLLS, {"networks": {"back": None}}), proxy)
        assert str(error) == "service api cannot roll: it shares no network with the proxy nginx"
        (error,) = findings((self.ROLLS, {}), (spec("nginx"), {"network_mode": "host"}))
        assert "the host's network" in str(error)

    def test_its_containers_need_names_that_can_be_looked_up(self, findings):
        long = spec("a" * 50, strategy="rolling")
        (error,) = findings((long, {}), (spec("nginx"), {}))
        assert "longer than the 63 characters" in str(error)

    def test_it_needs_the_proxy_on_its_server(self, findings):
        (error,) = findings((self.ROLLS, {}), proxy=None)
        assert str(error) == "web1: service api rolls, but the proxy does not run on this server"


class TestNeighbours:
    """What belongs to others, or is this stack under another name."""

    def test_the_same_stack_under_another_project_is_told_with_the_line_that_adopts_it(self, findings):
        (error,) = findings((API, {}), bystanders=(bystander(project="shop", service="api", image="api:1"),))
        assert "this stack seems to run here already as project 'shop' (api)" in str(error)
        assert 'project = "shop"' in error.next_step

    def test_volumes_of_the_same_stack_alone_are_enough(self, findings):
        labels = {LABEL: "shop", "com.docker.compose.volume": "data"}
        found = findings(
            (API, {}),
            model={"volumes": {"data": {"name": "shop-production_data"}}},
            volumes={"shop_data": labels},
        )
        assert "volume shop_data" in str(found[0])

    def test_a_project_of_another_image_is_another_stack(self, findings):
        assert findings((API, {}), bystanders=(bystander(service="api", image="theirs/api:1"),)) == []

    def test_another_environment_on_the_same_server_is_no_mistake(self, findings):
        staging = bystander(
            project="shop-staging", service="api", image="api:1", stack="shop", environment="staging"
        )
        assert findings((API, {}), bystanders=(staging,)) == []

    def test_once_it_runs_under_its_own_name_the_question_is_settled(self, findings):
        twin = bystander(project="shop", service="api", image="api:1")
        assert findings((API, {}), bystanders=(twin,), containers=(container("api"),)) == []

    def test_an_explicit_project_answers_the_question(self, findings):
        twin = bystander(project="shop", service="api", image="api:1")
        assert findings((API, {}), environment="renamed", bystanders=(twin,)) == []

    @pytest.mark.parametrize("kind", ["volume", "network"])
    def test_a_name_that_another_project_made_is_not_shared(self, findings, kind):
        found = findings(
            (API, {}),
            model={f"{kind}s": {"data": {"name": "common"}}},
            **{f"{kind}s": {"common": {LABEL: "other"}}},
        )
        assert (
            str(found[0])
            == f"web1: {kind} common belongs to project other; shop-production would share it by name"
        )

    @pytest.mark.parametrize("kind", ["volume", "network"])
    def test_a_name_of_its_own_and_an_external_one_are_accepted(self, findings, kind):
        model = {f"{kind}s": {"data": {"name": "own"}, "far": {"name": "common", "external": True}}}
        present = {"own": {LABEL: "shop-production"}, "common": {LABEL: "other"}}
        assert findings((API, {}), model=model, **{f"{kind}s": present}) == []

    @pytest.mark.parametrize("kind", ["volume", "network"])
    def test_an_external_one_that_is_missing_is_told_with_the_command_that_makes_it(self, findings, kind):
        (error,) = findings((API, {}), model={f"{kind}s": {"far": {"name": "common", "external": True}}})
        assert f"the external {kind} common does not exist" in str(error)
        assert error.next_step == f"docker {kind} create common   (on web1)"

    def test_a_container_name_that_another_project_has_is_told(self, findings):
        (error,) = findings((API, {"container_name": "other-1"}), bystanders=(bystander(),))
        assert "container_name 'other-1' of service api is taken by another project" in str(error)


def test_a_record_of_a_release_that_cannot_be_read_is_told_before_anything_is_touched(findings):
    (error,) = findings((API, {}), releases={"r1": "{"})
    assert "release r1" in str(error)
    assert isinstance(error, ConfigError)

"""The plan of a deploy: which servers together, which images, what would change."""

from collections import Counter
from itertools import chain
from typing import ClassVar

import pytest
from examples import facts, release, spec
from hypothesis import given
from hypothesis import strategies as st

from ops.config import load
from ops.deploy.commit import image_tag, kept
from ops.deploy.images import Wish, known_pins, local_pin, served_pins
from ops.deploy.planning import batches
from ops.deploy.survey import Survey
from ops.engines.desired import Desired
from ops.engines.facts import Image
from ops.engines.resolving import peer_addresses


@pytest.fixture
def fleet(tmp_path):
    """Return settings for servers with roles, and what each shall run."""

    def made(roles, batch='"1"', services=""):
        servers = "".join(
            f'[environments.production.servers.{name}]\nprivate_address = "10.0.0.{number}"\n'
            + (f'roles = ["{role}"]\n' if role else "")
            for number, (name, role) in enumerate(roles.items(), 1)
        )
        (tmp_path / "compose.yaml").write_text("services: {}\n")
        (tmp_path / "ops.toml").write_text(
            f'stack = "shop"\nstate_host = "{next(iter(roles))}"\nbatch = {batch}\n{services}[environments.production]\n{servers}'
        )
        return load("production", start=tmp_path)

    return made


def goal(*services):
    return Desired({}, {one.name: one for one in services})


def order(settings, **goals):
    return batches(settings, {name: tuple(one.services) for name, one in goals.items()}, goals)


class TestBatches:
    """Servers that are switched together."""

    @pytest.mark.parametrize(
        ("batch", "sizes"),
        [
            ("1", [1] * 5),
            ("2", [2, 2, 1]),
            ("9", [5]),
            ('"25%"', [1] * 5),
            ('"40%"', [2, 2, 1]),
            ('"100%"', [5]),
            ('"1%"', [1] * 5),
        ],
    )
    def test_a_batch_is_a_count_or_a_share_and_at_least_one(self, fleet, batch, sizes):
        names = [f"web{n}" for n in range(5)]
        settings = fleet(dict.fromkeys(names, "web"), batch)
        assert [len(one) for one in order(settings, **{n: goal(spec("api")) for n in names})] == sizes

    def test_servers_that_others_depend_on_come_first(self, fleet):
        settings = fleet({"web1": "web", "web2": "web", "db1": "db"}, "2")
        api = goal(spec("api", depends_on=("db",)))
        assert order(settings, web1=api, web2=api, db1=goal(spec("db"))) == (("db1",), ("web1", "web2"))

    def test_a_dependency_on_the_same_server_is_waited_for_there(self, fleet):
        settings = fleet({"web1": "web", "web2": "web"}, "2")
        both = goal(spec("api", depends_on=("db",)), spec("db"))
        assert order(settings, web1=both, web2=both) == (("web1", "web2"),)

    def test_two_that_depend_on_each_other_go_together_in_place_of_waiting_for_ever(self, fleet):
        settings = fleet({"web1": "web", "web2": "db"}, "2")
        one, two = goal(spec("api", depends_on=("db",))), goal(spec("db", depends_on=("api",)))
        assert order(settings, web1=one, web2=two) == (("web1", "web2"),)

    @given(
        st.lists(st.sampled_from(["api", "db", "cache"]), min_size=1, max_size=7),
        st.integers(1, 9),
        st.data(),
    )
    def test_every_server_has_its_turn_once(self, roles, size, data):
        depends = data.draw(
            st.dictionaries(st.sampled_from(["api", "db", "cache"]), st.sampled_from([("api",), ("db",)]))
        )

        class Settings:
            class config:  # noqa: N801
                batch = size

        goals = {f"s{n}": goal(spec(role, depends_on=depends.get(role, ()))) for n, role in enumerate(roles)}
        found = order(Settings, **goals)
        assert Counter(chain(*found)) == Counter(list(goals))
        assert max(map(len, found)) <= size


class TestPeers:
    """Where services of other servers are found."""

    ROLES: ClassVar = {"web1": "web", "web2": "web", "db1": "db"}
    SERVICES = '[services.api]\nroles = ["web"]\n[services.my-db]\nroles = ["db"]\n'

    def test_a_service_of_another_server_is_at_its_private_address(self, fleet):
        settings = fleet(self.ROLES, "1", self.SERVICES)
        assert peer_addresses(settings, "web1", settings.config.services) == {"OPS_HOST_MY_DB": "10.0.0.3"}

    def test_of_several_servers_the_first_is_meant(self, fleet):
        settings = fleet(self.ROLES, "1", self.SERVICES)
        assert peer_addresses(settings, "db1", settings.config.services) == {"OPS_HOST_API": "10.0.0.1"}

    def test_a_server_without_roles_runs_every_service_itself(self, fleet):
        settings = fleet({"db1": "db", "all": ""}, "1", self.SERVICES)
        assert peer_addresses(settings, "all", settings.config.services) == {}
        assert peer_addresses(settings, "db1", settings.config.services) == {"OPS_HOST_API": "10.0.0.2"}

    def test_with_one_server_there_are_none(self, fleet):
        settings = fleet({"web1": "web"}, "1", '[services.api]\nroles = ["web"]\n')
        assert peer_addresses(settings, "web1", settings.config.services) == {}


class TestPins:
    """What stands in a release for an image reference."""

    LOCAL = Image("r.test/api", "1", "sha256:dd", "sha256:ii")

    def serving(self, *services, **more):
        text = release(*services, id="r1").to_json()
        return {"web1": Survey(facts(current="r1", releases={"r1": text}, **more), None)}

    def wish(self, reference, *, versioned=False, policy=""):
        return Wish(reference, ("web1",), versioned, policy)

    def test_a_reference_by_digest_is_its_own_pin(self):
        one = self.wish("db@sha256:aa")
        assert known_pins([one], {"web1": Survey(facts(), None)}, {}) == {"db@sha256:aa": "db@sha256:aa"}

    def test_what_follows_no_version_stays_at_what_serves(self):
        surveys = self.serving(spec("db", image="postgres:16", pin="postgres@sha256:bb", versioned=False))
        assert known_pins([self.wish("postgres:16")], surveys, served_pins(surveys)) == {
            "postgres:16": "postgres@sha256:bb"
        }

    def test_where_two_servers_disagree_the_earlier_one_is_followed(self):
        surveys = {}
        for name, pin in (("web1", "redis@sha256:aa"), ("web2", "redis@sha256:bb")):
            text = release(spec("cache", image="redis:7", pin=pin), id="r1").to_json()
            surveys[name] = Survey(facts(current="r1", releases={"r1": text}), None)
        assert served_pins(surveys) == {"redis:7": "redis@sha256:aa"}

    def test_what_follows_the_version_is_asked_for_again(self):
        surveys = self.serving(spec("api", image="api:1", pin="api@sha256:bb", versioned=True))
        assert known_pins([self.wish("api:1", versioned=True)], surveys, served_pins(surveys)) == {}

    def test_what_is_to_be_pulled_always_is_asked_for_again(self):
        surveys = self.serving(spec("db", image="postgres:16", pin="postgres@sha256:bb", versioned=False))
        assert known_pins([self.wish("postgres:16", policy="always")], surveys, served_pins(surveys)) == {}

    @pytest.mark.parametrize("policy", ["missing", "if_not_present", "never", "build"])
    def test_a_local_image_is_enough_where_its_policy_says_so(self, policy):
        surveys = {"web1": Survey(facts(images=(self.LOCAL,)), None)}
        assert known_pins([self.wish("r.test/api:1", policy=policy)], surveys, {}) == {
            "r.test/api:1": "r.test/api@sha256:dd"
        }

    def test_a_local_image_from_no_registry_is_pinned_by_its_id(self):
        one = Image("api", "latest", "<none>", "sha256:ii")
        assert local_pin("api", facts(images=(one,))) == "sha256:ii"

    def test_a_port_of_a_registry_is_no_tag(self):
        one = Image("r.test:5000/api", "latest", "sha256:dd", "sha256:ii")
        assert local_pin("r.test:5000/api", facts(images=(one,))) == "r.test:5000/api@sha256:dd"


class TestKept:
    """Which releases stay."""

    RELEASES: ClassVar = {f"r{n}": release(id=f"r{n}") for n in range(1, 8)}

    def test_the_newest_stay(self):
        assert kept(self.RELEASES, "r7", "r6", 3) == {"r7", "r6", "r5"}

    def test_the_serving_one_and_the_way_back_stay_however_old(self):
        assert kept(self.RELEASES, "r2", "r1", 3) == {"r7", "r6", "r5", "r2", "r1"}

    def test_a_first_release_has_no_way_back(self):
        assert kept({"r1": release(id="r1")}, "r1", None, 3) == {"r1"}

    def test_a_way_back_that_is_gone_is_not_missed(self):
        assert kept(self.RELEASES, "r7", "r0", 2) == {"r7", "r6"}

    def test_a_tag_names_stack_environment_service_and_release_in_lower_case(self):
        assert image_tag(release(id="20260101T000000Z-1-ab12"), "API") == (
            "opsbook/shop-production/api:20260101T000000Z-1-ab12"
        )

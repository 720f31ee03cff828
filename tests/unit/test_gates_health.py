"""The health gate: probes from outside through the host, and Docker's own word where there is no other."""

import json
import re
import time

import pytest
from examples import container, spec
from web import Web, web_host

from ops.engines.facts import containers_query
from ops.engines.release import HealthSpec
from ops.gates import health as gate
from ops.gates.health import GateFailed, probe, soak, wait_healthy
from ops.hosts import Cancellation, Cancelled
from ops.hosts.fake import FakeHost

HTTP = HealthSpec("http", "/up", 8000, interval=0.01, timeout=2.0)
LOOK = containers_query("shop").script
LOGS = re.compile("^docker logs --tail 20 ")


@pytest.fixture
def web():
    made = Web()
    yield made
    made.close()


def looks(*containers):
    """Return what Docker answers when it is asked for containers."""
    rows = [
        {
            "id": c.id,
            "name": f"/{c.name}",
            "image": c.image,
            "reference": c.reference,
            "state": {
                "Status": c.state,
                "ExitCode": c.exit_code,
                **({"Health": {"Status": c.health}} if c.health else {}),
            },
            "restarts": c.restarts,
            "labels": {
                "com.docker.compose.service": c.service,
                "com.docker.compose.container-number": str(c.number),
                "ops.config": c.config,
            },
            "networks": {"default": {"IPAddress": c.addresses[0]}},
            "created": "",
        }
        for c in containers
    ]
    return "".join(json.dumps(row) + "\n" for row in rows)


def api(health=HTTP, **fields):
    return spec("api", health=health, **fields)


def wait(host, service, *containers, cancellation=None, **options):
    return wait_healthy(host, "shop", service, containers, cancellation or Cancellation(), **options)


class TestPasses:
    """A container is good after enough passes in a row."""

    def test_it_passes_after_the_wanted_number_of_answers(self, web):
        host = web_host(web, ("10.0.0.1", 8000))
        wait(host, api(HealthSpec("http", "/up", 8000, passes=3, interval=0.01)), container())
        assert web.paths == ["/up"] * 3

    def test_passes_count_in_a_row(self, web):
        answers = iter([200, 500, 200, 200])
        web.answer = lambda path: (next(answers), "")
        wait(web_host(web, ("10.0.0.1", 8000)), api(), container())
        assert next(answers, None) is None

    def test_every_container_has_to_pass(self, web):
        host = web_host(web, ("10.0.0.1", 8000))
        host.allow(LOOK, stdout=looks(container(), container(number=2)))
        host.allow(LOGS)
        service = api(HealthSpec("http", "/up", 8000, interval=0.01, timeout=0.1), replicas=2)
        with pytest.raises(
            GateFailed, match=r"shop-api-2 not healthy after 0\.1 s: 10\.0\.0\.2:8000 refuses"
        ):
            wait(host, service, container(), container(number=2))

    def test_containers_of_another_definition_and_service_are_not_asked(self, web):
        others = [container(number=2, config="old"), container("db", number=3)]
        wait(web_host(web, ("10.0.0.1", 8000)), api(), container(), *others)
        assert len(web.paths) == 2

    def test_a_container_that_leaves_is_not_asked_however_it_is(self, web):
        leaving = container(number=2, state="restarting")
        found = wait(web_host(web, ("10.0.0.1", 8000)), api(), container(), leaving, leaving={leaving.id})
        assert leaving in found

    def test_one_that_answers_late_passes(self, web):
        host = web_host(web, ("10.0.0.1", 8000))
        answers = iter([503, 503, 503, 200, 200])
        web.answer = lambda path: (next(answers), "")
        assert wait(host, api(), container()) == (container(),)

    def test_one_on_the_hosts_own_network_is_asked_there(self, web):
        wait(web_host(web, ("127.0.0.1", 8000)), api(), container(addresses=()))
        assert web.paths == ["/up", "/up"]


class TestCompleted:
    """A service that others wait to see end is good at its end, and only there."""

    SERVICE = HealthSpec("completed", interval=0.01, timeout=5.0)

    def test_it_is_waited_for_until_it_ended_well(self):
        host = FakeHost("web1").expect(LOOK, stdout=looks(container()))
        host.expect(LOOK, stdout=looks(container(state="exited")))
        with host:
            (found,) = wait(host, api(self.SERVICE), container())
        assert found.state == "exited"

    def test_one_that_ended_otherwise_crashed(self):
        host = FakeHost("web1").expect(LOGS, stdout="no such table\n")
        with host, pytest.raises(GateFailed, match="exit code 2"):
            wait(host, api(self.SERVICE), container(state="exited", exit_code=2))

    def test_one_that_does_not_end_is_too_late(self):
        host = FakeHost("web1").allow(LOOK, stdout=looks(container())).allow(LOGS)
        service = api(HealthSpec("completed", interval=0.01, timeout=0.1))
        with pytest.raises(GateFailed, match="it is running, not at its end"):
            wait(host, service, container())


class TestCrash:
    """A crash ends the waiting at once."""

    def test_it_tells_the_exit_code_and_the_last_lines(self):
        host = FakeHost("web1").expect(LOGS, stdout="Traceback\nKeyError: 'TOKEN'\n")
        with host, pytest.raises(GateFailed) as failure:
            wait(host, api(), container(state="exited", exit_code=3))
        assert str(failure.value) == (
            "web1: shop-api-1 ended with exit code 3; its last lines:\n    Traceback\n    KeyError: 'TOKEN'"
        )

    def test_one_that_wrote_nothing_says_so(self):
        host = FakeHost("web1").expect(LOGS)
        with pytest.raises(GateFailed, match="exit code 1; it wrote nothing"):
            wait(host, api(), container(state="exited", exit_code=1))

    def test_it_is_noticed_while_probes_fail(self, monkeypatch):
        monkeypatch.setattr(gate, "LOOK_EVERY", 0.02)
        host = (
            FakeHost("web1").expect(LOOK, stdout=looks(container(state="exited", exit_code=2))).expect(LOGS)
        )
        begun = time.monotonic()
        with host, pytest.raises(GateFailed, match="exit code 2"):
            wait(host, api(HealthSpec("http", "/up", 8000, interval=0.01, timeout=30.0)), container())
        assert time.monotonic() - begun < 5

    def test_a_fresh_one_that_docker_started_again_has_crashed(self):
        host = FakeHost("web1").expect(re.compile("docker events"), stdout="137\n").expect(LOGS)
        with pytest.raises(GateFailed, match="exit code 137 and was started again by Docker"):
            wait(host, api(), container(restarts=1))

    def test_one_that_was_restarted_before_this_run_has_not(self, web):
        known = container(restarts=4)
        wait(web_host(web, ("10.0.0.1", 8000)), api(), known, restarts={known.id: 4})

    def test_one_that_was_restarted_again_has(self):
        known = container(restarts=5)
        host = FakeHost("web1").allow(re.compile("docker events"), stdout="1\n").allow(LOGS)
        with pytest.raises(GateFailed, match="exit code 1"):
            wait(host, api(), known, restarts={known.id: 4})


class TestLate:
    """The deadline ends the waiting."""

    LATE = HealthSpec("http", "/up", 8000, interval=0.01, timeout=0.05)

    def test_it_tells_the_last_answer(self, web):
        web.answer = lambda path: (503, "")
        host = web_host(web, ("10.0.0.1", 8000)).allow(LOGS, stdout="starting…\n")
        with pytest.raises(
            GateFailed, match=r"not healthy after 0.05 s: /up answers 503; its last lines:\n    start"
        ):
            wait(host, api(self.LATE), container())

    def test_it_tells_that_containers_are_missing(self, web):
        host = web_host(web, ("10.0.0.1", 8000)).allow(LOOK, stdout=looks(container()))
        with pytest.raises(GateFailed, match=r"api: 1 of 2 containers are there after 0\.05 s"):
            wait(host, api(self.LATE, replicas=2), container())

    def test_an_interrupt_ends_the_waiting_at_once(self, web):
        web.answer = lambda path: (503, "")
        cancellation = Cancellation()
        cancellation.cancel()
        with pytest.raises(Cancelled):
            wait(web_host(web, ("10.0.0.1", 8000)), api(), container(), cancellation=cancellation)


class TestDockersWord:
    """Where nothing can be probed, Docker tells."""

    DOCKER = HealthSpec("docker", interval=0.01, timeout=2.0)

    def test_dockers_healthcheck_is_waited_for(self):
        host = FakeHost().expect(LOOK, stdout=looks(container(health="healthy")))
        with host:
            found = wait(host, api(self.DOCKER), container(health="starting"))
        assert found[0].health == "healthy"

    def test_an_unhealthy_one_is_told_at_the_deadline(self):
        host = FakeHost().allow(LOOK, stdout=looks(container(health="unhealthy"))).allow(LOGS)
        late = HealthSpec("docker", interval=0.01, timeout=0.05)
        with pytest.raises(GateFailed, match="Docker's healthcheck says unhealthy"):
            wait(host, api(late), container(health="unhealthy"))

    @pytest.mark.parametrize("kind", ["docker", "running"])
    def test_without_a_healthcheck_it_has_to_stay_up_for_a_while(self, monkeypatch, kind):
        monkeypatch.setattr(gate, "STEADY", 0.03)
        monkeypatch.setattr(gate, "LOOK_EVERY", 0.01)
        host = FakeHost().allow(LOOK, stdout=looks(container()))
        wait(host, api(HealthSpec(kind, interval=0.005)), container())
        assert host.commands

    def test_one_that_crashes_in_that_while_fails(self, monkeypatch):
        monkeypatch.setattr(gate, "LOOK_EVERY", 0.01)
        host = FakeHost().expect(LOOK, stdout=looks(container(state="exited", exit_code=9))).expect(LOGS)
        with pytest.raises(GateFailed, match="exit code 9"):
            wait(host, api(HealthSpec("running", interval=0.005)), container())


class TestProbe:
    """One look at one container."""

    def test_tcp_needs_a_connection_only(self, web):
        host = web_host(web, ("10.0.0.1", 6379))
        assert probe(host, container(), HealthSpec("tcp", port=6379)) is None
        assert (
            probe(host, container(), HealthSpec("tcp", port=6380)) == "10.0.0.1:6380 refuses the connection"
        )

    @pytest.mark.parametrize(
        ("status", "fault"), [(200, None), (204, None), (302, None), (404, "/up answers 404")]
    )
    def test_http_passes_from_200_to_399(self, web, status, fault):
        web.answer = lambda path: (status, "")
        assert probe(web_host(web, ("10.0.0.1", 8000)), container(), HTTP) == fault

    def test_one_that_is_silent_is_told_as_such(self):
        host = FakeHost()

        def silent():
            raise TimeoutError

        host.connections["10.0.0.1", 8000] = silent
        assert probe(host, container(), HTTP) == "10.0.0.1:8000 does not answer in time"


class TestSoak:
    """The fresh containers are watched for a while."""

    def soaked(self, host, service, *containers):
        return soak(host, "shop", service, containers, Cancellation())

    def health(self, seconds=0.0):
        return HealthSpec("http", "/up", 8000, interval=0.01, soak=seconds)

    def test_one_that_stays_good_comes_through(self, web):
        host = web_host(web, ("10.0.0.1", 8000)).allow(LOOK, stdout=looks(container()))
        assert [c.number for c in self.soaked(host, api(self.health()), container())] == [1]

    def test_a_restart_fails_it(self):
        host = FakeHost().expect(LOOK, stdout=looks(container(restarts=1)))
        host.expect(re.compile("docker events"), stdout="1\n").expect(LOGS)
        with host, pytest.raises(GateFailed, match="was started again"):
            self.soaked(host, api(self.health(5.0)), container())

    def test_a_restart_from_before_it_does_not(self, web):
        known = container(restarts=2)
        host = web_host(web, ("10.0.0.1", 8000)).allow(LOOK, stdout=looks(known))
        self.soaked(host, api(self.health()), known)

    def test_one_that_is_gone_fails_it(self):
        host = FakeHost().expect(LOOK)
        with pytest.raises(GateFailed, match=r"1 container\(s\) vanished during the soak"):
            self.soaked(host, api(self.health(5.0)), container())

    def test_two_failed_probes_in_a_row_fail_it(self, web):
        web.answer = lambda path: (500, "")
        host = web_host(web, ("10.0.0.1", 8000)).allow(LOOK, stdout=looks(container())).allow(LOGS)
        with pytest.raises(GateFailed, match="shop-api-1 turned unhealthy during the soak: /up answers 500"):
            self.soaked(host, api(self.health(5.0)), container())
        assert len(web.paths) == 2

    def test_one_failed_probe_is_forgiven(self, web):
        answers = iter([500, 200, 200, 200])
        web.answer = lambda path: (next(answers), "")
        host = web_host(web, ("10.0.0.1", 8000)).allow(LOOK, stdout=looks(container()))
        self.soaked(host, api(self.health(0.2)), container())

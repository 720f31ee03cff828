"""Steps are carried out in order on one server; what fails is told with the step's name."""

import json
import re
from dataclasses import replace

import pytest
from examples import container, spec

from ops.commands import Command, Redactor
from ops.engines.facts import containers_query
from ops.engines.release import HealthSpec
from ops.errors import OpsError
from ops.gates.health import GateFailed
from ops.hosts import Cancellation, Cancelled
from ops.hosts.fake import FakeHost
from ops.runs import execute as module
from ops.runs.execute import Workbench, execute
from ops.runs.log import RunLog
from ops.strategies.steps import Act, Drain, Gate, Pause, Soak, View

LOOK = containers_query("shop").script
ROW = {
    "id": "new-id",
    "name": "/shop-api-1",
    "image": "i",
    "reference": "r",
    "state": {"Status": "running"},
    "restarts": 0,
    "labels": {"com.docker.compose.service": "api", "ops.config": "new"},
    "networks": {},
    "created": "",
}


class Told:
    """A reporter that keeps the steps."""

    def __init__(self):
        self.steps = []

    def step(self, host, title):
        self.steps.append((host, title))


@pytest.fixture
def bench(tmp_path):
    warnings = []
    with RunLog(tmp_path, "run", Redactor()) as log:
        made = Workbench("shop", Told(), log, Cancellation(), warnings.append)
        yield made
    assert warnings == [] or made.warn.__self__ is warnings


def act(*scripts, title="do", **fields):
    return Act(title, lambda view: tuple(Command(script, changes="x") for script in scripts), **fields)


def log_of(bench):
    return bench.log.path.read_text()


def test_steps_run_in_order_and_are_told(bench):
    with FakeHost("web1").expect("one").expect("two").expect("three") as host:
        execute([act("one", "two", title="first"), act("three", title="second")], host, View(), bench)
    assert bench.reporter.steps == [("web1", "first"), ("web1", "second")]


def test_a_step_that_fails_ends_the_plan_with_its_name_and_last_lines(bench):
    host = FakeHost("web1").expect("one", status=5, stderr="no\nspace left\n")
    with host, pytest.raises(OpsError) as failure:
        execute([act("one", "two", title="start db"), act("three")], host, View(), bench)
    assert str(failure.value) == "web1: start db: no\nspace left"


def test_a_failure_without_a_word_tells_its_status(bench):
    with pytest.raises(OpsError, match="start db: status 5"):
        execute([act("one", title="start db")], FakeHost().expect("one", status=5), View(), bench)


def test_what_commands_wrote_stands_in_the_log(bench):
    execute([act("one")], FakeHost("web1").expect("one", stdout="out\n", stderr="err\n"), View(), bench)
    text = log_of(bench)
    assert re.search(r"web1 +\$ one\n", text)
    assert re.search(r"web1 +out\n.*web1 +err\n", text)


def test_the_last_commands_answer_is_noted_for_later_steps(bench):
    seen = []
    later = Act("use", lambda view: seen.append(view.notes["n"]) or ())
    host = FakeHost().expect("one", stdout="1").expect("two", stdout="2")
    execute([act("one", "two", note="n"), later], host, View(), bench)
    assert seen == ["2"]


def test_a_refresh_asks_for_the_containers_in_the_same_round_trip(bench):
    host = FakeHost().expect("one").expect(LOOK, stdout=json.dumps(ROW) + "\n")
    view = execute([act("one", refresh=True)], host, View((container(),)), bench)
    assert [c.id for c in view.containers] == ["new-id"]


def test_a_docker_that_does_not_answer_then_fails_the_plan(bench):
    host = FakeHost().expect("one").expect(LOOK, status=1, stderr="gone")
    with pytest.raises(OpsError, match="docker does not answer: gone"):
        execute([act("one", refresh=True)], host, View(), bench)


def test_an_interrupt_is_noticed_between_two_steps(bench):
    def interrupt(view):
        bench.cancellation.cancel()
        return ()

    with pytest.raises(Cancelled):
        execute([Act("first", interrupt), act("never")], FakeHost(), View(), bench)
    assert bench.reporter.steps == [("web1", "first")]


def test_a_pause_waits_and_an_interrupt_ends_it(bench):
    execute([Pause("settle", 0.0)], FakeHost(), View(), bench)
    bench.cancellation.cancel()
    with pytest.raises(Cancelled):
        bench.cancellation.wait(60.0)


def running(**fields):
    return spec("api", health=HealthSpec("docker", interval=0.01, timeout=1.0, **fields))


def test_a_gate_is_waited_for(bench):
    healthy = ROW | {"state": {"Status": "running", "Health": {"Status": "healthy"}}}
    host = FakeHost().expect(LOOK, stdout=json.dumps(healthy) + "\n")
    view = View((container(health="starting"),))
    assert execute([Gate("wait", running())], host, view, bench).containers[0].health == "healthy"


def test_a_gate_forgives_restarts_from_before_the_plan(bench):
    view = View((container(health="healthy", restarts=3),))
    execute([Gate("wait", running())], FakeHost(), view, bench)


def test_a_gate_does_not_forgive_restarts_since(bench):
    again = ROW | {"id": "api-1-id", "restarts": 4}
    host = FakeHost().expect("up").expect(LOOK, stdout=json.dumps(again) + "\n").allow(re.compile("^docker"))
    view = View((container(health="healthy", restarts=3),))
    with pytest.raises(GateFailed):
        execute([act("up", refresh=True), Gate("wait", running())], host, view, bench)


def test_a_gate_passes_over_containers_that_leave(bench):
    leaving = container(number=2, state="restarting")
    view = View((container(health="healthy"), leaving))
    execute([Gate("wait", running(), frozenset({leaving.id}))], FakeHost(), view, bench)


def test_a_soak_passes_over_containers_that_leave(bench):
    row = ROW | {"state": {"Status": "running", "Health": {"Status": "healthy"}}}
    other = ROW | {"id": "leaving", "state": {"Status": "exited"}}
    host = FakeHost().allow(LOOK, stdout="".join(json.dumps(one) + "\n" for one in (row, other)))
    execute([Soak("watch", running(), frozenset({"leaving"}))], host, View(), bench)


class TestDrain:
    """The old workers of the proxy end first."""

    PROBE = Command("workers")

    def drain(self, bench, host, noted, deadline=30.0):
        step = Drain("drain", self.PROBE, "w", deadline, lambda view: Command("count"))
        execute([step], host, View(notes={"w": noted}), bench)

    def test_it_ends_when_no_worker_from_before_is_left(self, bench, monkeypatch):
        monkeypatch.setattr(module, "DRAIN_LOOK", 0.0)
        host = FakeHost().expect("workers", stdout="11\n12\n13\n").expect("workers", stdout="12\n13\n")
        with host.expect("workers", stdout="13\n"):
            self.drain(bench, host, "11\n12\n")

    def test_without_workers_from_before_nothing_is_asked(self, bench):
        with FakeHost() as host:
            self.drain(bench, host, "")

    def test_a_worker_that_came_back_under_an_old_number_is_not_waited_for(self, bench, monkeypatch):
        monkeypatch.setattr(module, "DRAIN_LOOK", 0.0)
        host = FakeHost().expect("workers", stdout="12\n").expect("workers", stdout="11\n")
        with host:
            self.drain(bench, host, "11\n12\n")

    def test_past_its_deadline_it_goes_on_and_counts_what_is_cut(self, bench):
        warnings = []
        with FakeHost("web1").allow("workers", stdout="11\n").expect("count", stdout="3\n") as host:
            self.drain(replace(bench, warn=warnings.append), host, "11\n", deadline=0.0)
        assert warnings == ["web1: 3 connection(s) cut: still open after 0 s of draining"]

    def test_what_cannot_be_counted_is_said_to_be_unknown(self, bench):
        warnings = []
        host = FakeHost().allow("workers", stdout="11\n").expect("count", status=1)
        self.drain(replace(bench, warn=warnings.append), host, "11\n", deadline=0.0)
        assert "an unknown number of connection(s)" in warnings[0]

    def test_an_interrupt_ends_it(self, bench):
        bench.cancellation.cancel()
        with pytest.raises(Cancelled):
            self.drain(bench, FakeHost().allow("workers", stdout="11\n"), "11\n")

"""Whatever stands on a server, rolling ends with the right containers and never serves with fewer than before."""

import sys
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

sys.path.append(str(Path(__file__).parents[1] / "unit"))

from examples import LAYOUT, PROXY, container, spec
from following import follow

from ops.engines.release import HealthSpec
from ops.strategies.context import Switch
from ops.strategies.recreate import settled
from ops.strategies.rolling import partition, roll
from ops.strategies.steps import Gate, Soak, View

SWITCH = Switch(LAYOUT, "shop", "r2", PROXY, 300.0)
STATES = st.sampled_from(["running", "running", "running", "exited", "created", "dead", "restarting"])


@st.composite
def views(draw):
    numbers = draw(st.lists(st.integers(1, 12), unique=True, max_size=7))
    return View(
        tuple(
            container(
                number=number,
                config=draw(st.sampled_from(["old", "new"])),
                state=draw(STATES),
                health=draw(st.sampled_from(["", "healthy", "unhealthy"])),
            )
            for number in sorted(numbers)
        )
    )


SERVICES = st.builds(
    lambda replicas, soak: spec(
        "api", strategy="rolling", replicas=replicas, health=HealthSpec("http", "/up", 8000, soak=soak)
    ),
    replicas=st.integers(0, 4),
    soak=st.sampled_from([0.0, 5.0]),
)


@given(SERVICES, views())
def test_it_ends_with_exactly_the_right_containers_of_the_right_definition(service, view):
    done = follow(roll(service, SWITCH, view), service, view)
    assert len(done.containers) == service.replicas
    assert settled(service, done.view)
    assert sorted(done.rotation) == sorted(c.name for c in done.containers)


@given(SERVICES, views())
def test_no_container_is_stopped_while_requests_are_sent_to_it(service, view):
    assert follow(roll(service, SWITCH, view), service, view).cut == []


@given(SERVICES, views())
def test_a_container_gets_requests_only_behind_the_gate(service, view):
    assert follow(roll(service, SWITCH, view), service, view).ungated == []


@given(SERVICES, views())
def test_never_do_fewer_serve_than_before_or_than_are_wanted(service, view):
    done = follow(roll(service, SWITCH, view), service, view)
    assert done.least >= min(done.before, service.replicas)


@given(SERVICES, views())
def test_the_gate_waits_for_all_that_stay_and_for_none_that_goes(service, view):
    steps = roll(service, SWITCH, view)
    stay, go = partition(service, view)
    for step in steps:
        if isinstance(step, Gate | Soak):
            assert not {c.id for c in stay} & step.leaving
            assert {c.id for c in go if c.running} <= step.leaving


@given(SERVICES, views(), st.data())
def test_a_run_that_stops_anywhere_is_finished_by_the_same_plan(service, view, data):
    steps = roll(service, SWITCH, view)
    left = data.draw(st.integers(0, len(steps)))
    half = follow(steps[:left], service, view)
    done = follow(roll(service, SWITCH, half.view), service, half.view)
    assert settled(service, done.view)
    assert (done.cut, done.ungated) == ([], [])


@given(SERVICES, views(), st.data())
def test_a_run_that_stops_anywhere_is_taken_back_by_the_same_plan(service, view, data):
    from dataclasses import replace

    steps = roll(service, SWITCH, view)
    half = follow(steps[: data.draw(st.integers(0, len(steps)))], service, view)
    before = replace(service, config="old")
    done = follow(roll(before, SWITCH, half.view), before, half.view)
    assert settled(before, done.view)
    assert (done.cut, done.ungated) == ([], [])

"""Rolling: one plan that deploys, scales, resumes and rolls back, and nobody waits."""

from dataclasses import replace

import pytest
from examples import LAYOUT, PROXY, container, spec
from following import VIEW_OF_NEW_NGINX, follow

from ops.engines.release import HealthSpec
from ops.strategies.context import Switch
from ops.strategies.rolling import partition, roll
from ops.strategies.steps import Act, Drain, Gate, Pause, Soak, View, simulate

SWITCH = Switch(LAYOUT, "shop", "r2", PROXY, 300.0)
SOAKED = HealthSpec("http", "/up", 8000, soak=5.0)


def api(**fields):
    return spec("api", strategy="rolling", **{"replicas": 3, **fields})


def having(*containers):
    return View(containers)


def old(*numbers, **fields):
    return [container(number=number, config="old", **fields) for number in numbers]


def new(*numbers, **fields):
    return [container(number=number, config="new", **fields) for number in numbers]


def planned(service, *containers, switch=SWITCH):
    view = having(*containers)
    return follow(roll(service, switch, view), service, view)


def kinds(service, *containers, switch=SWITCH):
    return [type(step) for step in roll(service, switch, having(*containers))]


def numbers(containers):
    return [(c.number, c.config) for c in containers]


class TestPartition:
    """Who stays, who goes."""

    def test_containers_of_another_definition_go(self):
        stay, go = partition(api(), having(*old(1, 2), *new(3)))
        assert (numbers(stay), numbers(go)) == ([(3, "new")], [(1, "old"), (2, "old")])

    def test_the_lowest_numbers_stay(self):
        stay, go = partition(api(replicas=2), having(*new(3, 7, 9)))
        assert (numbers(stay), numbers(go)) == ([(3, "new"), (7, "new")], [(9, "new")])

    @pytest.mark.parametrize("state", ["exited", "restarting", "created", "dead", "paused"])
    def test_one_that_does_not_run_goes(self, state):
        assert partition(api(), having(*new(1, state=state)))[0] == ()

    def test_one_that_docker_calls_unhealthy_goes(self):
        assert partition(api(), having(*new(1, health="unhealthy")))[0] == ()

    def test_another_service_takes_no_part(self):
        assert partition(api(), having(container("db"))) == ((), ())


class TestChosenOnce:
    """Which containers go is decided when the plan is made."""

    def test_a_new_one_that_docker_calls_unhealthy_keeps_its_place_and_is_not_stopped(self):
        view = having(*old(1))
        later = View((*old(1), *new(2, health="unhealthy")), VIEW_OF_NEW_NGINX)
        acts = {s.title: s.commands(later) for s in roll(api(replicas=1), SWITCH, view) if isinstance(s, Act)}
        (write,) = acts["proxy: new api only"]
        assert b"server shop-api-2:8000" in write.stdin
        (stop,) = acts["stop 1 old api container"]
        assert "api-1-id" in stop.script
        assert "api-2-id" not in stop.script


class TestNetworks:
    """An old nginx gets addresses that it can reach."""

    def test_an_address_on_a_network_of_the_proxys_is_chosen(self):
        networks = (("shop_backend", "172.20.0.5"), ("shop_frontend", "172.21.0.5"))
        service = new(1, networks=networks, addresses=("172.20.0.5", "172.21.0.5"))
        proxy = container("nginx", networks=(("shop_frontend", "172.21.0.2"),))
        view = View((*old(2, networks=networks, addresses=("172.20.0.5", "172.21.0.5")), proxy))
        later = View((*view.containers, *service), {"nginx": "nginx version: nginx/1.26.3"})
        acts = {s.title: s.commands(later) for s in roll(api(replicas=1), SWITCH, view) if isinstance(s, Act)}
        (write,) = acts["proxy: new api only"]
        assert b"server 172.21.0.5:8000" in write.stdin
        assert b"172.20" not in write.stdin


class TestDeploy:
    """Three old containers become three new ones."""

    def test_new_ones_stand_beside_the_old_until_they_are_healthy(self):
        assert planned(api(), *old(1, 2, 3)).rotations[0] == [f"shop-api-{n}" for n in (4, 5, 6, 1, 2, 3)]

    def test_the_steps_come_in_the_order_that_loses_nothing(self):
        assert kinds(api(), *old(1, 2, 3)) == [Act, Act, Gate, Act, Pause, Act, Drain, Act, Act]

    def test_it_ends_with_the_new_ones_only(self):
        done = planned(api(), *old(1, 2, 3))
        assert numbers(done.containers) == [(4, "new"), (5, "new"), (6, "new")]
        assert done.rotation == ["shop-api-4", "shop-api-5", "shop-api-6"]

    def test_nothing_is_cut_and_never_less_than_all_serve(self):
        done = planned(api(), *old(1, 2, 3))
        assert (done.cut, done.ungated, done.least) == ([], [], 3)

    def test_compose_is_asked_for_old_and_new_and_told_to_leave_the_old_alone(self):
        view = having(*old(1, 2, 3))
        (command,) = dict(simulate(roll(api(), SWITCH, view), view))["start 3 new api containers"]
        assert "--no-recreate" in command.title
        assert "--scale api=6" in command.title

    def test_the_old_are_stopped_with_their_own_grace(self):
        view = having(*old(1))
        (command,) = dict(simulate(roll(api(grace=45.0), SWITCH, view), view))["stop 1 old api container"]
        assert command.script.startswith("docker stop -t 45 api-1-id ")
        assert command.timeout == 105.0

    def test_an_old_nginx_gets_addresses_while_it_rolls_and_the_service_at_rest(self):
        view = replace(having(*old(1)), notes={"nginx": "nginx/1.26.3"})
        service = api(replicas=1)
        shown = dict(simulate(roll(service, SWITCH, view), view))
        during = shown["proxy: old and new api"][0].stdin.decode()
        rest = shown["upstream of api at rest"][0].stdin.decode()
        assert "server 10.0.0.1:8000 max" in during
        assert "resolve" not in during
        assert "server api:8000 max" in rest


class TestScale:
    """The same containers, more or fewer of them."""

    def test_up_starts_what_is_missing_and_touches_nothing_else(self):
        done = planned(api(replicas=5), *new(1, 2, 3))
        assert numbers(done.containers) == [(n, "new") for n in (1, 2, 3, 4, 5)]
        assert (done.cut, done.ungated, done.least) == ([], [], 3)
        assert done.rotation == [f"shop-api-{n}" for n in (1, 2, 3, 4, 5)]

    def test_down_leaves_the_proxy_first_and_is_drained_before_the_stop(self):
        service = api(replicas=3)
        done = planned(service, *new(1, 2, 3, 4, 5))
        assert numbers(done.containers) == [(1, "new"), (2, "new"), (3, "new")]
        assert (done.cut, done.least) == ([], 3)
        titles = done.titles
        assert titles.index("proxy: without the api containers that go") < titles.index(
            "stop 2 old api containers"
        )
        assert kinds(service, *new(1, 2, 3, 4, 5)).index(Drain) < len(titles) - 2

    def test_down_starts_nothing(self):
        assert not [title for title in planned(api(), *new(1, 2, 3, 4)).titles if title.startswith("start")]

    def test_to_none_ends_with_an_upstream_that_nginx_accepts(self):
        service = api(replicas=0)
        view = replace(having(*new(1, 2)), notes=VIEW_OF_NEW_NGINX)
        texts = [
            command.stdin.decode()
            for _, commands in simulate(roll(service, SWITCH, view), view)
            for command in commands
            if command.stdin
        ]
        assert len(texts) == 2
        assert all("server 127.0.0.1:8000 down;" in text for text in texts)

    def test_to_none_waits_for_no_health(self):
        assert Gate not in kinds(api(replicas=0), *new(1, 2))


class TestResume:
    """Containers of the wanted definition are kept, whoever started them."""

    def test_half_way_only_what_is_missing_is_started(self):
        done = planned(api(), *old(1, 2, 3), *new(4))
        assert numbers(done.containers) == [(4, "new"), (5, "new"), (6, "new")]
        assert (done.cut, done.least) == ([], 3)

    def test_with_all_new_ones_there_the_old_leave(self):
        done = planned(api(), *old(1, 2, 3), *new(4, 5, 6))
        assert numbers(done.containers) == [(4, "new"), (5, "new"), (6, "new")]
        assert not [title for title in done.titles if title.startswith("start")]

    def test_a_rollback_with_both_sets_running_keeps_the_set_that_it_goes_to(self):
        service = api(config="old")
        done = planned(service, *old(1, 2, 3), *new(4, 5, 6))
        assert numbers(done.containers) == [(1, "old"), (2, "old"), (3, "old")]
        assert (done.cut, done.least) == ([], 3)

    def test_a_rollback_after_the_old_were_stopped_starts_them_anew(self):
        done = planned(api(config="old"), *old(1, 2, 3, state="exited"), *new(4, 5, 6))
        assert numbers(done.containers) == [(7, "old"), (8, "old"), (9, "old")]
        assert (done.cut, done.least) == ([], 3)

    def test_new_ones_that_crashed_are_removed_before_compose_could_start_them_again(self):
        done = planned(api(), *old(1, 2, 3), *new(4, 5, state="exited"), *new(6))
        assert done.titles[1] == "remove 2 stopped containers of api"
        assert numbers(done.containers) == [(6, "new"), (7, "new"), (8, "new")]

    def test_one_that_crashes_again_and_again_does_not_hold_up_its_successor(self):
        done = roll(api(replicas=1), SWITCH, having(*new(1, state="restarting")))
        (gate,) = [step for step in done if isinstance(step, Gate)]
        assert gate.leaving == {"api-1-id"}

    def test_one_that_is_unhealthy_does_not_hold_up_its_successor(self):
        service = api(replicas=1, health=SOAKED)
        steps = roll(service, SWITCH, having(*new(1, health="unhealthy")))
        assert [step.leaving for step in steps if isinstance(step, Gate | Soak)] == [{"api-1-id"}] * 3


class TestFirst:
    """Nothing is there yet."""

    def test_the_upstream_is_written_once_the_containers_are_healthy(self):
        done = planned(api())
        assert done.rotations == [["shop-api-1", "shop-api-2", "shop-api-3"]]
        assert done.ungated == []

    def test_there_is_nothing_to_drain(self):
        assert Drain not in kinds(api())

    def test_it_is_watched_before_requests_come(self):
        assert kinds(api(health=SOAKED)) == [Act, Act, Gate, Soak, Act]


class TestSoak:
    """The old stay in reserve while the new are watched."""

    def test_the_old_are_backups_and_leave_after_it(self):
        done = planned(api(health=SOAKED), *old(1, 2))
        assert done.backups == [[], ["shop-api-1", "shop-api-2"], [], []]

    def test_it_lies_between_the_turn_and_the_drain(self):
        found = kinds(api(health=SOAKED), *old(1))
        assert found[found.index(Pause) :] == [Pause, Act, Soak, Act, Drain, Act, Act]

    def test_taking_away_needs_no_watch(self):
        assert Soak not in kinds(api(health=SOAKED), *new(1, 2, 3, 4))


class TestWithoutAProxy:
    """Where another server's proxy, or none, sends the requests."""

    SWITCH = replace(SWITCH, proxy=None)

    def test_the_new_are_started_gated_and_the_old_stopped(self):
        assert kinds(api(), *old(1), switch=self.SWITCH) == [Act, Gate, Act]

    def test_they_are_watched_where_that_is_asked_for(self):
        assert Soak in kinds(api(health=SOAKED), *old(1), switch=self.SWITCH)


def test_a_plan_says_what_it_would_do_without_doing_it():
    view = having(*old(1, 2, 3))
    shown = simulate(roll(api(), SWITCH, view), view)
    assert [title for title, _ in shown][1] == "start 3 new api containers"
    assert view == having(*old(1, 2, 3))


def test_counting_connections_looks_at_the_port_of_the_containers_that_go():
    view = having(*old(1), *new(4))
    (drain,) = [step for step in roll(api(port=8000), SWITCH, view) if isinstance(step, Drain)]
    script = drain.left_over(view).script
    assert ":1F40$" in script
    assert "api-1-id" in script
    assert "api-4-id" not in script

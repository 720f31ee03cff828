"""The plan of one server: which services change, in which order, and what people will notice."""

import hashlib
from dataclasses import replace

import pytest
from examples import LAYOUT, PROXY, container, release, spec

from ops.engines.nginx import resting_upstream
from ops.engines.release import HealthSpec
from ops.strategies.context import Switch
from ops.strategies.recreate import recreate, settled
from ops.strategies.steps import Gate, Soak, View, simulate
from ops.strategies.switch import effects, levels, plan_switch

SWITCH = Switch(LAYOUT, "shop", "r2", PROXY, 300.0)
BARE = Switch(LAYOUT, "shop", "r2", None, 300.0)


SITE = "nginx/conf.d/site.conf"


def upstream(service, written, loaded=None):
    """The proxy's files for an upstream: what stands there, and what nginx read last."""
    folder = PROXY.upstreams
    return {f"{folder}/{service}.conf": written, f"{folder}/.{service}.conf.loaded": loaded or written}


def standing(goal, *containers, served=None, changed=False, upstreams=None):
    """Return a server on which the release's services have served, its proxy's files as the release has them."""
    content = {path: "before" if changed else digest for path, digest in goal.proxy_files.items()}
    for name, one in goal.services.items():
        if one.strategy == "rolling":
            names = [c.name for c in containers if c.service == name]
            text = resting_upstream(one, names, resolve=True)
            content |= upstream(name, hashlib.sha256(text.encode()).hexdigest())
    content |= upstreams or {}
    return View(containers, serving=goal if served is None else served, content=content)


def titles(goal, *containers, switch=SWITCH, only=None, **options):
    return [
        step.title for step in plan_switch(goal, switch, standing(goal, *containers, **options), only=only)
    ]


def shop(**changes):
    services = {
        "db": spec("db"),
        "cache": spec("cache"),
        "api": spec("api", strategy="rolling", depends_on=("db", "cache")),
        "nginx": spec("nginx"),
    }
    return release(
        *({**services, **changes}).values(),
        proxy=PROXY,
        proxy_folders={"nginx/conf.d": "d1"},
        proxy_files={SITE: "s1"},
    )


RUNNING = tuple(container(name) for name in ("db", "cache", "api", "nginx"))


def running(**configs):
    return tuple(container(c.service, config=configs.get(c.service, "new")) for c in RUNNING)


class TestOnce:
    """A service with an end, which others wait for."""

    ONCE = spec("setup", health=HealthSpec("completed"))

    def test_one_that_ended_well_is_settled(self):
        assert settled(self.ONCE, View((container("setup", state="exited"),)))
        assert not settled(self.ONCE, View((container("setup", state="exited", exit_code=1),)))
        assert not settled(self.ONCE, View((container("setup", state="exited", config="old"),)))

    def test_any_other_that_ended_is_not(self):
        assert not settled(spec("api"), View((container("api", state="exited"),)))

    def test_its_end_is_waited_for_before_the_next(self):
        goal = release(self.ONCE, spec("api", depends_on=("setup",)))
        assert titles(goal, switch=BARE) == [
            "start setup",
            "wait until setup has ended well",
            "start api",
            "wait until api is healthy",
        ]


class TestLevels:
    """Services in groups, each behind those that it depends on."""

    def test_what_nothing_waits_for_goes_together(self):
        assert levels({name: spec(name) for name in "ba"}) == (("a", "b"),)

    def test_a_service_stands_behind_those_that_it_depends_on(self):
        services = {"a": spec("a", depends_on=("b",)), "b": spec("b", depends_on=("c",)), "c": spec("c")}
        assert levels(services) == (("c",), ("b",), ("a",))

    def test_a_dependency_on_another_server_is_not_waited_for(self):
        assert levels({"a": spec("a", depends_on=("elsewhere",))}) == (("a",),)

    def test_the_proxy_comes_last(self):
        assert levels({"a": spec("a"), "nginx": spec("nginx")}, last="nginx") == (("a",), ("nginx",))

    def test_what_depends_on_the_proxy_comes_behind_it(self):
        services = {"a": spec("a"), "nginx": spec("nginx"), "b": spec("b", depends_on=("nginx",))}
        assert levels(services, last="nginx") == (("a",), ("nginx",), ("b",))

    def test_a_circle_goes_together_in_place_of_waiting_for_ever(self):
        services = {"a": spec("a", depends_on=("b",)), "b": spec("b", depends_on=("a",))}
        assert levels(services) == (("a", "b"),)


class TestSettled:
    """A service that already runs as defined."""

    def test_the_right_number_of_the_right_containers_is_settled(self):
        assert settled(spec("a", replicas=2), View((container("a", 1), container("a", 5))))

    def test_too_few_too_many_stopped_or_other_ones_are_not(self):
        for containers in (
            (),
            (container("a", 1), container("a", 2)),
            (container("a", state="exited"),),
            (container("a", config="old"),),
        ):
            assert not settled(spec("a"), View(containers))

    def test_a_service_of_no_containers_is_settled_without_any(self):
        assert settled(spec("a", replicas=0), View())


class TestRecreate:
    """Stop the old, start the new."""

    def test_services_of_one_level_start_together_and_are_gated_each(self):
        steps = recreate([spec("a"), spec("b", replicas=2)], SWITCH)
        assert [step.title for step in steps] == [
            "start a, b",
            "wait until a is healthy",
            "wait until b is healthy",
        ]
        ((_, (command,)), *_) = simulate(steps, View())
        assert command.title.endswith("--scale a=1 --scale b=2 a b")
        assert "--no-recreate" not in command.title

    def test_a_service_of_no_containers_is_not_waited_for(self):
        assert not [step for step in recreate([spec("a", replicas=0)], SWITCH) if isinstance(step, Gate)]

    def test_it_is_watched_where_that_is_asked_for(self):
        steps = recreate([spec("a", health=HealthSpec("running", soak=5.0))], SWITCH)
        assert isinstance(steps[-1], Soak)

    def test_the_old_are_expected_to_be_gone(self):
        view = View((container("a", 1, "old"), container("a", 2, "old"), container("b")))
        after = recreate([spec("a")], SWITCH)[0].expect(view)
        assert [(c.service, c.config) for c in after.containers] == [("b", "new"), ("a", "new")]

    def test_without_services_there_are_no_steps(self):
        assert recreate([], SWITCH) == ()


class TestPlan:
    """The order over all services."""

    def test_where_nothing_differs_there_is_nothing_to_do(self):
        assert titles(shop(), *running()) == []

    def test_only_what_changed_is_touched(self):
        assert titles(shop(), *running(cache="old")) == ["start cache", "wait until cache is healthy"]

    def test_databases_come_first_the_proxy_last(self):
        found = titles(shop())
        order = ["start cache, db", "start 1 new api container", "start nginx"]
        assert [title for title in found if title in order] == order

    def test_the_proxys_configuration_comes_behind_the_services_and_before_its_start(self):
        found = titles(shop(), *running(api="old", nginx="old"), changed=True)
        assert (
            found.index("upstream of api at rest")
            < found.index("proxy configuration")
            < found.index("start nginx")
        )

    def test_a_changed_configuration_does_not_recreate_the_proxy(self):
        assert titles(shop(), *running(), changed=True) == ["proxy configuration"]

    def test_containers_of_services_that_are_gone_are_removed_at_the_end(self):
        found = titles(shop(), *running(db="old"), container("worker"), container("cron"))
        assert found[-1] == "remove cron, worker"
        goal = shop()
        view = standing(goal, *running(), container("worker"))
        ((_, (command,)),) = simulate(plan_switch(goal, SWITCH, view), view)
        assert command.script == "docker stop worker-1-id >/dev/null; docker rm -f worker-1-id >/dev/null"

    def test_one_that_holds_what_another_takes_over_is_stopped_before_that_starts(self):
        held = frozenset({"volume shop_data"})
        goal = release(spec("postgres", holds=("volume shop_data",)), spec("api"))
        found = titles(goal, container("db", holds=held), container("api"), switch=BARE)
        assert found == ["stop db", "start postgres", "wait until postgres is healthy"]

    def test_the_plan_says_why_it_is_stopped_first(self):
        view = View((container("db", holds=frozenset({"volume shop_data", "port 5432/tcp"})),))
        told = {
            e.service: e.text for e in effects(release(spec("pg", holds=("volume shop_data",))), BARE, view)
        }
        assert told["db"] == "stopped first, and removed: its volume shop_data is wanted by another service"

    def test_a_database_that_a_migration_needs_takes_over_too(self):
        held = frozenset({"volume shop_data"})
        goal = release(spec("postgres", holds=("volume shop_data",)), spec("api"))
        found = titles(goal, container("db", holds=held), container("api"), switch=BARE, only=["postgres"])
        assert found[:2] == ["stop db", "start postgres"]

    def test_what_it_holds_alone_does_not_stop_it_first(self):
        goal = release(spec("postgres", holds=("volume shop_data",)), spec("api"))
        other = container("old", holds=frozenset({"volume shop_other"}))
        assert titles(goal, other, container("api"), switch=BARE)[-1] == "remove old"

    def test_requests_to_a_service_that_goes_are_waited_for_behind_the_reload(self):
        found = titles(shop(), *running(), container("web"), changed=True)
        assert found == ["proxy configuration", "wait until requests to web are done", "remove web"]

    def test_a_proxy_that_is_renewed_is_tested_with_its_new_image_and_not_reloaded(self):
        goal = shop()
        view = standing(goal, *running(nginx="old"), changed=True)
        shown = dict(simulate(plan_switch(goal, SWITCH, view), view))
        (command,) = shown["proxy configuration"]
        assert "run --rm -T --no-deps --entrypoint nginx nginx -t" in command.script
        assert "-s reload" not in command.script

    def test_with_a_renewed_proxy_settled_upstreams_are_written_as_the_nginx_that_comes_reads_them(self):
        goal = shop()
        view = standing(goal, *running(nginx="old"))
        shown = dict(simulate(plan_switch(goal, SWITCH, view), view))
        assert list(shown)[:2] == ["ask nginx for its version", "upstream of api at rest"]
        assert "docker run" in shown["ask nginx for its version"][0].script
        (write,) = shown["upstream of api at rest"]
        assert b"resolver" not in write.stdin

    def test_a_plan_for_some_services_touches_no_other_and_removes_nothing(self):
        assert titles(shop(), container("worker"), only=["db"]) == ["start db", "wait until db is healthy"]

    def test_a_stack_without_a_proxy_is_planned(self):
        assert titles(release(spec("a")), switch=BARE) == ["start a", "wait until a is healthy"]

    def test_following_it_leads_to_what_the_release_defines(self):
        goal = shop(db=spec("db", config="x"))
        containers = (*running(api="old"), container("api", 2, "old"), container("worker"))
        view = standing(goal, *containers, changed=True)
        steps = plan_switch(goal, SWITCH, view)
        simulate(steps, view)
        for step in steps:
            view = getattr(step, "expect", lambda view: view)(view)
        assert {c.service for c in view.containers} == set(goal.services)
        assert plan_switch(goal, SWITCH, standing(goal, *view.containers)) == ()


class TestAfterARunThatDied:
    """What runs already, but was never seen to be good, and the upstreams that were left between two of them."""

    def test_what_it_started_passes_the_gate_that_it_had_not(self):
        found = titles(shop(), *running(), served=replace(shop(), services={}))
        assert [title for title in found if title.startswith("wait until")] == [
            "wait until cache is healthy",
            "wait until db is healthy",
            "wait until api is healthy",
            "wait until nginx is healthy",
        ]

    def test_it_is_watched_as_after_a_start(self):
        goal = release(spec("a", health=HealthSpec("running", soak=5.0)))
        found = plan_switch(goal, BARE, View((container("a"),)))
        assert [type(step) for step in found] == [Gate, Soak]

    def test_one_that_runs_once_is_waited_for_and_not_started_again(self):
        once = spec("setup", health=HealthSpec("completed"))
        goal = release(once, spec("api", depends_on=("setup",)))
        found = titles(
            goal, container("setup"), container("api", config="old"), switch=BARE, served=release()
        )
        assert found == ["wait until setup has ended well", "start api", "wait until api is healthy"]

    def test_what_has_served_is_not_asked_again(self):
        assert titles(shop(), *running()) == []

    def test_an_upstream_that_was_never_written_is(self):
        for left in ("", "of two generations"):
            found = titles(shop(), *running(), upstreams=upstream("api", left), changed=True)
            assert found == [
                "ask nginx for its version",
                "upstream of api at rest",
                "proxy configuration",
            ]

    def test_one_in_the_words_of_an_older_nginx_is_at_rest(self):
        text = resting_upstream(shop().services["api"], ["shop-api-1"], resolve=False)
        digest = hashlib.sha256(text.encode()).hexdigest()
        assert titles(shop(), *running(), upstreams=upstream("api", digest)) == []

    def test_one_that_nginx_has_not_loaded_is_written_again(self):
        text = resting_upstream(shop().services["api"], ["shop-api-1"], resolve=True)
        digest = hashlib.sha256(text.encode()).hexdigest()
        found = titles(shop(), *running(), upstreams=upstream("api", digest, "another"))
        assert found[-1] == "upstream of api at rest"

    def test_what_passed_its_gate_for_the_migration_does_not_pass_it_twice(self):
        view = replace(standing(shop(), *running(), served=release()), passed=frozenset({"db"}))
        found = [step.title for step in plan_switch(shop(), SWITCH, view)]
        assert "wait until db is healthy" not in found
        assert "wait until cache is healthy" in found

    def test_another_port_or_balance_is_written(self):
        before = standing(shop(), *running())
        for change in ({"port": 9000}, {"balance": "ip_hash"}):
            goal = shop(api=spec("api", strategy="rolling", depends_on=("db", "cache"), **change))
            assert [step.title for step in plan_switch(goal, SWITCH, before)][-1] == "upstream of api at rest"


class TestJobs:
    """Services that run once: a deploy runs what changed, nothing else runs any."""

    GOAL = release(spec("setup", health=HealthSpec("completed")))

    def planned(self, jobs, *containers):
        return titles(self.GOAL, *containers, switch=replace(BARE, jobs=jobs))

    def test_a_deploy_runs_the_new_definition(self):
        old = container("setup", config="old", state="exited")
        assert self.planned(True, old)[0] == "start setup"

    @pytest.mark.parametrize("exit_code", [0, 1])
    def test_a_way_back_runs_no_old_one_over_what_the_new_did(self, exit_code):
        new = container("setup", config="other", state="exited", exit_code=exit_code)
        assert self.planned(False, new) == []
        assert self.planned(False) == []

    @pytest.mark.parametrize("state", ["running", "restarting"])
    def test_a_new_one_that_is_still_at_work_is_stopped_on_the_way_back(self, state):
        view = standing(self.GOAL, container("setup", config="other", state=state))
        steps = plan_switch(self.GOAL, replace(BARE, jobs=False), view)
        ((title, (command,)),) = simulate(steps, view)
        assert title == "stop setup"
        assert command.script.startswith("docker update --restart=no setup-1-id >/dev/null; docker stop ")


class TestSharedFolders:
    """A folder of data that containers side by side write to is no reason to stop one before the other starts."""

    HELD = frozenset({"path /opt/shop/production/shared/uploads"})

    def test_a_renamed_rolling_service_starts_before_the_old_goes(self):
        goal = shop(app=spec("app", strategy="rolling", holds=tuple(self.HELD)))
        found = titles(goal, *running(), container("web", holds=self.HELD))
        assert found[-1] == "remove web"
        assert "stop web" not in found

    def test_one_that_has_it_for_itself_waits_for_the_old_to_stop(self):
        goal = shop(app=spec("app", holds=tuple(self.HELD)))
        assert titles(goal, *running(), container("web", holds=self.HELD))[0] == "stop web"


class TestEffects:
    """What each service means to those who use it, in one line."""

    def told(self, goal, *containers, switch=SWITCH, **options):
        view = standing(goal, *containers, **options)
        return {e.service: (e.text, e.changes) for e in effects(goal, switch, view)}

    def test_what_stays_is_untouched(self):
        assert self.told(shop(), *running())["db"] == ("untouched", False)

    def test_what_a_run_that_died_has_started_is_told(self):
        told = self.told(shop(), *running(), served=release())
        assert told["db"] == ("untouched: started by a run that died, to pass its gate", False)

    def test_a_new_service_is_started(self):
        goal = release(spec("a"), spec("b", replicas=2))
        assert self.told(goal, switch=BARE) == {"a": ("started", True), "b": ("started: 2 new", True)}

    def test_a_rolling_service_keeps_nobody_waiting(self):
        assert self.told(shop(), *running(api="old"))["api"] == ("rolling: none without it, 1 -> 1", True)

    def test_scaling_is_told_as_such(self):
        goal = shop(api=spec("api", strategy="rolling", replicas=3))
        assert self.told(goal, *running())["api"] == ("scaled 1 -> 3: nobody waits", True)

    def test_recreating_is_told_with_its_price(self):
        told = self.told(shop(), *running(db="old", nginx="old"))
        assert told["db"] == ("recreated: about 2 s without it", True)
        assert told["nginx"] == ("recreated: about 4 s without it", True)

    def test_a_changed_configuration_is_a_reload(self):
        assert self.told(shop(), *running(), changed=True)["nginx"][0].startswith("reloaded")

    def test_a_service_that_is_gone_is_removed(self):
        assert self.told(shop(), *running(), container("worker"))["worker"][0].startswith("removed")

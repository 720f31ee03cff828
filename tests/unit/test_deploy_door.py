"""The library's door over stand-in servers: what leaves it, and what status, history and unlock tell."""

import sys
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from standin.server import Killed, Session
from standin.stack import Listener

from ops.backup import backing_up
from ops.environments import Environment, environment
from ops.errors import Locked, OpsError, UsageError
from ops.runs.interruption import Interruption
from ops.runs.phases import Phase


@pytest.fixture
def door(single, monkeypatch):
    """An environment whose servers are the stand-ins; nothing is dialled."""

    class Fleet:
        def __init__(self, config, folder, environment, cancellation, only):
            interruption = Interruption()
            interruption.cancellation = cancellation
            self.hosts = single.hosts(Session(), interruption, "staging")

        def __enter__(self):
            return self

        def __exit__(self, *error):
            return

    monkeypatch.setattr(
        sys.modules["ops.environments.environment"], "Fleet", Fleet
    )  # a function bears the name
    made = Environment(single.settings("staging"))
    made.shop = single
    return made


@contextmanager
def dead(shop):
    """A run that died while it switched."""
    session = Session()
    with pytest.raises(Killed):
        shop.deploy(
            "2", environment="staging", session=session, listener=Listener({Phase.SWITCH: session.kill})
        )
    shop.web1.age_lock("shop", "staging", 100)
    yield


def test_a_deploy_goes_through_it(door):
    assert door.deploy("2").version == "2"
    assert door.status().agree


def test_a_backup_before_it_is_shown_in_its_own_phase(door, monkeypatch):
    door.shop.edit("ops.toml", "keep_releases = 3", "keep_releases = 3\nbackup_before_deploy = true")
    door = Environment(door.shop.settings("staging"))

    def back_up(settings, hosts, state, reporter, *arguments, **options):
        reporter.phase(Phase.BACKUP)
        reporter.step("db1", "pg_dump of shop")
        return SimpleNamespace(manifest=SimpleNamespace(id="1"), storage="the storage")

    monkeypatch.setattr(backing_up, "back_up", back_up)
    listener = Listener()
    door.deploy("2", reporter=listener)
    assert listener.phases.count(Phase.BACKUP) == 1
    assert ("db1", "pg_dump of shop") in listener.steps


def test_a_rollback_that_was_confirmed_does_not_take_back_what_came_since(door):
    door.deploy("2")
    with pytest.raises(Locked, match="another run was at work"):
        door.rollback(ask=lambda plan: door.shop.deploy("3", environment="staging"))
    assert {c.image.tag for c in door.shop.web1.docker.of("web")} == {"3"}


def test_a_plan_names_the_secret_where_its_value_is_all_that_changed(door):
    door.shop.write(".env", 'DB_PASSWORD="another horse"\n')
    door.settings = door.shop.settings("staging")
    told = {effect.service: effect.text for effect in door.plan("1").hosts["web1"].effects}
    assert told["postgres"] == "recreated: about 2 s without it (a new value of DB_PASSWORD)"
    assert told["nginx"] == "untouched"


def test_no_error_leaves_with_a_secret_in_it(door):
    image = door.shop.registry.images["shop/web:2"]
    image.behaviour.crash = 3
    image.behaviour.log = "cannot connect: postgres://app:correct%20horse@db and correct horse\n"
    with pytest.raises(OpsError) as failure:
        door.deploy("2")
    error = failure.value
    told = f"{error} {error.args} {error.message} {error.left_behind} {error.next_step} {error.outcome}"
    assert "cannot connect: postgres://app:***@db and ***" in told
    assert "correct" not in told


def test_what_nobody_foresaw_leaves_masked_too(door, monkeypatch):
    def fails(*arguments):
        raise RuntimeError("the password is correct horse")

    monkeypatch.setattr(sys.modules["ops.deploy.status"], "status", fails)
    with pytest.raises(OpsError, match=r"unexpected RuntimeError: the password is \*\*\*") as failure:
        door.status()
    assert failure.value.exit_code == 4
    kept = (door.shop.folder / ".ops/logs/unexpected.log").read_text()
    assert "RuntimeError: the password is ***" in kept


def test_status_tells_what_docker_calls_unhealthy(door):
    door.shop.registry.images["shop/web:1"].behaviour.health = "unhealthy"
    found = door.status()
    (web,) = (one for one in found.servers["web1"].services if one.name == "web")
    assert web.note == "2 container(s) that Docker calls unhealthy"
    assert not found.agree


def test_an_error_says_which_stack_and_environment_it_is_about(door):
    with pytest.raises(OpsError) as failure:
        door.rollback("no-such-release")
    outcome = failure.value.outcome
    assert (outcome.stack, outcome.environment) == ("shop", "staging")


def test_no_warning_leaves_with_a_secret_in_it(door):
    door.shop.edit(
        "ops.toml",
        "[services.nginx]",
        '[[hooks]]\non = "before"\nphase = "check"\nrun = "echo correct horse; exit 1"\non_error = "warn"\n\n[services.nginx]',
    )
    door.settings = door.shop.settings("staging")
    (warning,) = door.deploy("2").warnings
    assert "***" in warning
    assert "correct" not in warning


class TestArguments:
    """What a program hands over by mistake is told as such, before anything is asked."""

    @pytest.mark.parametrize("given", [1.5, 1, "", " ", b"1"])
    def test_a_version_that_is_no_text_is_refused(self, door, given):
        for call in (door.deploy, door.plan, door.rollback, door.rollback_plan):
            with pytest.raises(UsageError, match=r"(version|to) is a text, not") as refusal:
                call(given)
            assert refusal.value.exit_code == 2

    @pytest.mark.parametrize("given", ["web1", {"web1"}, None, [1], [""]])
    def test_servers_that_are_no_list_of_names_are_refused(self, door, given):
        calls = (door.deploy, door.plan, door.rollback, door.rollback_plan)
        for call in (*calls, door.check_servers, door.prepare_servers):
            with pytest.raises(UsageError, match="servers"):
                call(servers=given)
        with pytest.raises(UsageError, match="servers"):
            door.trust(given, agree=lambda seen: False)

    def test_so_are_services(self, door):
        with pytest.raises(UsageError, match="services is a list of names, not 'web'"):
            door.restart("web")
        with pytest.raises(UsageError, match="services is a list of names, not 'web'"):
            door.logs("web", write=print)

    def test_a_folder_may_be_a_text(self, door):
        assert environment("staging", start=str(door.shop.folder)).settings.stack == "shop"


class TestStatus:
    """What serves, and what is off."""

    def test_a_whole_stack_agrees(self, door):
        found = door.status()
        assert found.agree
        assert [(s.name, s.running, s.wanted) for s in found.servers["web1"].services] == [
            ("nginx", 1, 1),
            ("postgres", 1, 1),
            ("web", 2, 2),
        ]
        assert found.locked_by is None

    def test_a_container_that_is_down_does_not(self, door):
        door.shop.web1.docker.crash(door.shop.web1.docker.of("web")[0])
        assert not door.status().agree

    def test_a_server_without_a_release_does_not(self, door):
        door.shop.path("web1", "current", "staging").unlink()
        assert not door.status().agree

    def test_a_dead_run_is_named_as_such(self, door):
        with dead(door.shop):
            found = door.status()
        assert found.stale
        assert found.locked_by.action == "deploy"
        assert found.heartbeat_age >= 100
        assert not found.well


class TestHistory:
    """The runs, from the journal."""

    def test_it_tells_each_runs_start_and_end(self, door):
        door.deploy("2")
        events = [(entry.version, entry.event, entry.exit_code) for entry in door.history()]
        assert events[-2:] == [("2", "started", None), ("2", "done", 0)]


class TestUnlock:
    """A lock that no living run holds."""

    def test_the_lock_of_a_dead_run_is_removed_and_its_holder_told(self, door):
        with dead(door.shop):
            assert door.unlock().version == "2"
        assert not door.shop.locked("staging")
        assert ("deploy.unlock", "done") in door.shop.journal("staging")

    def test_one_that_lives_is_left_alone(self, door):
        with dead(door.shop):
            door.shop.web1.age_lock("shop", "staging", 1)
            with pytest.raises(Locked, match="is alive"):
                door.unlock()
        assert door.shop.locked("staging")

    def test_force_removes_it_all_the_same(self, door):
        with dead(door.shop):
            door.shop.web1.age_lock("shop", "staging", 1)
            assert door.unlock(force=True) is not None
        assert not door.shop.locked("staging")

    def test_without_a_lock_there_is_nothing_to_remove(self, door):
        assert door.unlock() is None


class TestHooks:
    """The user's commands at fixed places."""

    def hooked(self, door, text):
        door.shop.edit("ops.toml", "[services.nginx]", f"{text}\n\n[services.nginx]")
        door.settings = door.shop.settings("staging")
        return door

    def test_they_run_in_order_with_the_facts(self, door):
        text = "\n".join(
            f'[[hooks]]\non = "{on}"\nphase = "switch"\nrun = "echo {on} $OPS_VERSION $OPS_PHASE >> hooks"'
            for on in ("before", "after")
        )
        self.hooked(door, text).deploy("2")
        assert (door.shop.folder / "hooks").read_text() == "before 2 switch\nafter 2 switch\n"

    def test_one_on_the_servers_runs_in_the_release(self, door):
        text = '[[hooks]]\non = "after"\nphase = "upload"\nwhere = "servers"\nrun = "ls > seen"'
        release = self.hooked(door, text).deploy("2").release
        seen = door.shop.path("web1", f"releases/{release}/seen", "staging").read_text().split()
        assert "compose.yaml" in seen

    def test_one_that_fails_before_the_switch_fails_the_run(self, door):
        before = door.shop.current("web1", "staging")
        with pytest.raises(OpsError, match="failed with status 3") as failure:
            self.hooked(door, '[[hooks]]\non = "before"\nphase = "upload"\nrun = "exit 3"').deploy("2")
        assert failure.value.exit_code == 1
        assert door.shop.releases("web1", "staging") == [before]

    def test_one_that_fails_behind_the_switch_rolls_back(self, door):
        before = door.shop.current("web1", "staging")
        with pytest.raises(OpsError) as failure:
            self.hooked(door, '[[hooks]]\non = "after"\nphase = "switch"\nrun = "exit 3"').deploy("2")
        assert failure.value.exit_code == 3
        assert door.shop.current("web1", "staging") == before

    def test_a_failure_is_told_to_those_for_failures(self, door):
        door.shop.registry.images["shop/web:2"].behaviour.crash = 3
        with pytest.raises(OpsError):
            self.hooked(door, '[[hooks]]\non = "failure"\nrun = "echo $OPS_PHASE > failed"').deploy("2")
        assert (door.shop.folder / "failed").read_text() == "switch\n"


class TestNotify:
    """Who is told how a run ended."""

    def test_a_line_for_each_end(self, door):
        import json

        door.shop.edit(
            "ops.toml", "[services.nginx]", '[[notify]]\nkind = "log"\npath = "told.log"\n\n[services.nginx]'
        )
        door.settings = door.shop.settings("staging")
        door.deploy("2")
        door.shop.registry.images["shop/web:3"].behaviour.crash = 3
        with pytest.raises(OpsError):
            door.deploy("3")
        lines = [json.loads(line) for line in (door.shop.folder / "told.log").read_text().splitlines()]
        assert [(line["version"], line["exit_code"]) for line in lines] == [("2", 0), ("3", 3)]
        assert "exit code 3" in lines[1]["message"]

    def test_a_notifier_that_fails_is_a_warning(self, door):
        (door.shop.folder / "told.log").mkdir()
        door.shop.edit(
            "ops.toml", "[services.nginx]", '[[notify]]\nkind = "log"\npath = "told.log"\n\n[services.nginx]'
        )
        door.settings = door.shop.settings("staging")
        assert "notifier log" in door.deploy("2").warnings[0]

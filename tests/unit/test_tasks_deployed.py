"""Tasks on a deployed stack, as somebody types them; the servers are stand-ins."""

import importlib
import io
import json
import sys

import pytest
from invoke.program import Program
from standin.server import Killed, Session
from standin.stack import Listener

from ops.errors import Unreachable
from ops.runs.interruption import Interruption
from ops.runs.phases import Phase
from ops.tasks import namespace


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Down:
    """A host that does not answer."""

    def __init__(self, name):
        self.name = name

    def __getattr__(self, verb):
        raise Unreachable("no answer", target=self.name)


@pytest.fixture
def typing(monkeypatch, capsys):
    """Make what runs a task on a shop's servers; `down` names those that do not answer, `opened` those that were asked."""

    def on(shop, environment):
        class Fleet:
            def __init__(self, config, folder, chosen, cancellation, only):
                interruption = Interruption()
                interruption.cancellation = cancellation
                there = shop.hosts(Session(), interruption, environment)
                self.hosts = {name: Down(name) if name in run.down else there[name] for name in only}
                run.opened = set(self.hosts)

            def __enter__(self):
                return self

            def __exit__(self, *error):
                return

            def __getitem__(self, name):
                return self.hosts[name]

        # A function bears the name of the module.
        monkeypatch.setattr(importlib.import_module("ops.environments.environment"), "Fleet", Fleet)
        monkeypatch.chdir(shop.folder)

        def run(*words, status=0):
            capsys.readouterr()
            code = 0
            try:
                Program(namespace=namespace).run(["opsbook", words[0], "--env", environment, *words[1:]])
            except SystemExit as end:
                code = end.code or 0
            captured = capsys.readouterr()
            assert code == status, captured
            return captured

        run.down, run.opened, run.shop = set(), set(), shop
        return run

    return on


@pytest.fixture
def staging(typing, single):
    return typing(single, "staging")


@pytest.fixture
def production(typing, pair):
    return typing(pair, "production")


def die(shop):
    """Leave the lock of a run that died before it changed anything."""
    session = Session()
    with pytest.raises(Killed):
        shop.deploy(
            "2", environment="staging", session=session, listener=Listener({Phase.FETCH: session.kill})
        )
    shop.web1.age_lock("shop", "staging", 100)


class TestSecrets:
    """No secret leaves in a document either."""

    @pytest.mark.parametrize("words", [("deploy.plan",), ("deploy", "--dry-run")])
    def test_a_plan_shows_none(self, staging, words):
        staging.shop.edit("compose.yaml", "DB_HOST:", 'URL: "db://app:correct%20horse@db", DB_HOST:')
        document = json.loads(staging(*words, "--version", "2", "--json").out)
        assert "db://app:***@db" in document["data"]["hosts"]["web1"]["difference"]
        assert "correct" not in json.dumps(document)
        assert (document["stack"], document["environment"]) == ("shop", "staging")


class TestRefused:
    """What was not confirmed is told in full, and not done."""

    @pytest.mark.parametrize("words", [("stack.remove",), ("stack.down",)])
    def test_the_document_says_of_which_stack(self, staging, monkeypatch, words):
        monkeypatch.setattr(sys, "stdin", Terminal(""))
        document = json.loads(staging(*words, "--json", status=2).out)
        assert (document["stack"], document["environment"]) == ("shop", "staging")

    def test_who_is_asked_to_unlock_is_told_whose_lock_it_is(self, staging, monkeypatch):
        die(staging.shop)
        monkeypatch.setattr(sys, "stdin", Terminal(""))
        told = staging("deploy.unlock", status=2).err
        assert told.startswith("Remove the lock of staging: deploy by ")
        assert "last sign of life" in told
        assert staging.shop.locked("staging")

    def test_who_is_asked_to_deploy_is_told_what_and_where(self, staging, monkeypatch):
        staging.shop.edit("ops.toml", "keep_releases = 3", 'keep_releases = 3\nconfirm = "yes"')
        monkeypatch.setattr(sys, "stdin", Terminal(""))
        assert staging("deploy", status=2).err.startswith("Deploy 1 to staging (web1)? (yes) ")
        assert "unknown server nope" in staging("deploy", "--servers", "nope", status=2).err

    def test_ctrl_d_at_the_question_is_a_no(self, staging, monkeypatch):
        monkeypatch.setattr(sys, "stdin", Terminal(""))
        told = staging("stack.down", status=2)
        assert told.out == ""
        assert told.err.endswith("Error: not confirmed; nothing was done\n")
        assert staging("deploy.status").out.endswith("All servers agree.\n")

    def test_a_question_leaves_stdout_to_the_document(self, staging, monkeypatch):
        monkeypatch.setattr(sys, "stdin", Terminal("yes\n"))
        told = staging("stack.down", "--json")
        assert json.loads(told.out)["ok"]
        assert told.err == "Take down shop in staging? Nothing serves then. (yes) "


class TestStatus:
    """Silence means that the next deploy can come."""

    def test_a_lock_that_a_dead_run_left_ends_it_with_1(self, staging):
        assert staging("deploy.status", "--quiet").out == ""
        die(staging.shop)
        told = staging("deploy.status", "--quiet", status=1).out
        assert "Next: inv deploy --env staging" in told
        assert "--resume   finishes it" in told
        assert told.endswith("All servers agree, but the next run will be refused: see the lock above.\n")

    def test_one_of_a_run_that_lives_does_not(self, staging):
        die(staging.shop)
        staging.shop.web1.age_lock("shop", "staging", 1)
        assert staging("deploy.status").out.endswith("All servers agree.\n")


class TestHistory:
    """As many runs as were asked for."""

    def test_the_newest_are_told_in_text_and_document(self, staging):
        for version in ("2", "3", "1"):
            staging("deploy", "--version", version, "--quiet")
        rows = staging("deploy.history", "--limit", "2").out.splitlines()[1:]
        assert [row.split()[3] for row in rows] == ["1", "3"]
        entries = json.loads(staging("deploy.history", "--limit", "2", "--json").out)["data"]
        assert [(entry["version"], entry["event"]) for entry in entries] == [
            ("3", "started"),
            ("3", "done"),
            ("1", "started"),
            ("1", "done"),
        ]

    def test_a_limit_of_many_runs_reads_as_many(self, staging):
        journal = staging.shop.path("web1", "journal.jsonl", "staging")
        line = '{{"at": "2026-01-01T00:00:00Z", "run_id": "r{0}", "action": "deploy", "event": "{1}", "who": "me"}}\n'
        journal.write_text("".join(line.format(n, e) for n in range(300) for e in ("started", "done")))
        rows = staging("deploy.history", "--limit", "250").out.splitlines()[1:]
        assert len(rows) == 250

    def test_a_run_of_one_line_stands_in_its_place(self, staging):
        die(staging.shop)
        staging("deploy.unlock", "--yes")
        staging("deploy", "--version", "3", "--quiet")
        rows = staging("deploy.history").out.splitlines()[1:]
        assert [row.split()[2] for row in rows] == ["deploy", "deploy.unlock", "deploy", "deploy"]

    @pytest.mark.parametrize("limit", ["0", "-1"])
    def test_fewer_than_one_is_refused(self, staging, limit):
        assert "--limit takes a number from 1 on" in staging("deploy.history", "--limit", limit, status=2).err


class TestStateHost:
    """Another server for lock and journal, while ops.toml's own is down."""

    @pytest.mark.parametrize("words", [("deploy.plan",), ("deploy", "--dry-run")])
    def test_a_plan_asks_that_one_and_not_the_lost_one(self, production, words):
        production.down = {"web1"}
        told = production(*words, "--version", "1", "--servers", "web2", "--state-host", "web2")
        assert "Plan: shop production -> version 1" in told.out
        assert production.opened == {"web2"}

    @pytest.mark.parametrize(
        "words",
        [
            ("stack.up",),
            ("stack.restart",),
            ("stack.scale", "--service", "web", "--replicas", "3"),
            ("stack.down",),
            ("stack.remove",),
        ],
    )
    def test_a_change_takes_the_lock_there(self, production, words):
        before = production.shop.path("web1", "journal.jsonl").read_text()
        production(*words, "--state-host", "web2", "--yes", "--quiet")
        if words != ("stack.remove",):
            assert words[0] in production.shop.path("web2", "journal.jsonl").read_text()
            assert production.shop.path("web1", "journal.jsonl").read_text() == before

    @pytest.mark.parametrize("words", [("deploy.plan",), ("stack.up", "--yes")])
    def test_an_unknown_one_is_refused(self, production, words):
        assert "unknown server web9" in production(*words, "--state-host", "web9", status=2).err


@pytest.mark.parametrize(
    "words", [("deploy", "--wait", "-1"), ("stack.up", "--wait", "-1"), ("stack.logs", "--tail", "-1")]
)
def test_a_negative_number_is_refused(staging, words):
    assert "takes a number from 0 on" in staging(*words, status=2).err

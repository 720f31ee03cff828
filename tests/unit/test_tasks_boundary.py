"""Where a task meets its caller: errors become exit codes, results become text or one JSON document."""

import inspect
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from invoke.collection import Collection
from invoke.program import Program

from ops import errors
from ops.commands import Redactor, Secret
from ops.errors import OpsError, Problem, UsageError
from ops.outcomes import Outcome, Target
from ops.tasks.boundary import Answer, task

FIELDS = {
    "format",
    "ok",
    "exit_code",
    "action",
    "stack",
    "environment",
    "run_id",
    "release",
    "version",
    "revision",
    "digests",
    "started_at",
    "seconds",
    "targets",
    "warnings",
    "log",
    "data",
    "error",
}
OUTCOME = Outcome(
    "deploy",
    "shop",
    "production",
    run_id="run-1",
    version="2",
    targets={"web1": Target("host", "changed", None, "r2", 1.5)},
    warnings=("look",),
    log="/log",
)
CODES = {
    "OpsError": 1,
    "FailedUnchanged": 1,
    "UsageError": 2,
    "ConfigError": 2,
    "RolledBack": 3,
    "NeedsPerson": 4,
    "Locked": 5,
    "Unreachable": 6,
    "Interrupted": 130,
}


@pytest.fixture
def type_(tmp_path, monkeypatch, capsys):
    """Run a task with a given body, as somebody types it."""
    monkeypatch.chdir(tmp_path)

    def typed(do, line="look"):
        @task(help={})
        def look(c, name: str = "", json: bool = False, quiet: bool = False) -> Answer:
            """Look."""
            if isinstance(do, BaseException):
                raise do
            return do

        capsys.readouterr()
        status = 0
        try:
            Program(namespace=Collection(look)).run(["inv", *line.split()])
        except SystemExit as end:
            status = int(end.code or 0)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return typed


class TestText:
    """What people see."""

    def test_an_answer_is_printed(self, type_):
        assert type_(Answer("all is well")) == (0, "all is well\n", "")

    def test_quiet_prints_nothing_on_success(self, type_):
        assert type_(Answer("all is well"), "look --quiet") == (0, "", "")

    def test_quiet_still_prints_what_is_wrong(self, type_):
        assert type_(Answer("servers differ", exit_code=1), "look --quiet") == (1, "servers differ\n", "")
        assert type_(OpsError("broken"), "look --quiet") == (1, "", "Error: broken\n")

    def test_an_answer_may_end_with_a_code(self, type_):
        assert type_(Answer("servers differ", exit_code=1))[0] == 1

    def test_a_failure_is_told_in_four_parts_on_stderr(self, type_):
        error = OpsError(
            "it broke", target="web1", left_behind="the new one", next_step="mend it\nthen again"
        )
        error.outcome = OUTCOME
        assert type_(error) == (
            1,
            "",
            "Error: web1: it broke\nLeft behind: the new one\nNext: mend it\n      then again\nLog: /log\n",
        )


class TestExitCodes:
    """One for each class of failure."""

    @pytest.mark.parametrize(("name", "code"), CODES.items())
    def test_each_class_ends_with_its_own(self, type_, name, code):
        status, out, err = type_(getattr(errors, name)("said"))
        assert (status, out) == (code, "")
        assert err.startswith("Error: said\n")

    def test_no_class_is_without_one(self):
        classes = {name for name in errors.__all__ if name[0].isupper() and name != "Problem"}
        assert classes == set(CODES)

    def test_sigterm_ends_with_143(self, type_):
        assert type_(errors.Interrupted("said", signal_number=15))[0] == 143

    def test_ctrl_c_outside_a_run_ends_with_130(self, type_):
        assert type_(KeyboardInterrupt()) == (130, "", "Error: interrupted\n")

    @pytest.mark.parametrize(
        ("names", "code"),
        [
            (["FailedUnchanged", "ConfigError"], 2),
            (["ConfigError", "Unreachable", "FailedUnchanged"], 6),
            (["FailedUnchanged", "FailedUnchanged"], 1),
            (["NeedsPerson", "RolledBack"], 4),
        ],
    )
    def test_of_several_findings_the_gravest_counts(self, type_, names, code):
        status, _, err = type_(Problem([getattr(errors, name)(f"said {n}") for n, name in enumerate(names)]))
        assert status == code
        assert err.count("  - said") == len(names)


class TestJson:
    """One document, whatever happens."""

    def document(self, type_, do):
        status, out, err = type_(do, "look --json")
        found = json.loads(out)
        assert err == ""
        assert set(found) == FIELDS
        assert (found["format"], found["exit_code"], found["ok"]) == (1, status, status == 0)
        return found

    def test_a_run_stands_in_its_fields(self, type_):
        found = self.document(type_, Answer("text", outcome=OUTCOME))
        assert (found["action"], found["version"], found["warnings"]) == ("deploy", "2", ["look"])
        assert found["targets"]["web1"] == {
            "kind": "host",
            "result": "changed",
            "previous": None,
            "release": "r2",
            "seconds": 1.5,
        }
        assert found["error"] is None

    def test_what_is_unknown_is_null_and_never_absent(self, type_):
        found = self.document(type_, Answer("text"))
        assert {key for key, value in found.items() if value is None} == FIELDS - {
            "format",
            "ok",
            "exit_code",
            "action",
            "digests",
            "targets",
            "warnings",
        }

    def test_what_a_task_found_stands_in_data(self, type_):
        assert self.document(type_, Answer(data=(OUTCOME, {1: Path("/x")})))["data"][1] == {"1": "/x"}

    @pytest.mark.parametrize("name", CODES)
    def test_a_failure_has_all_the_fields_and_says_what_it_is(self, type_, name):
        error = getattr(errors, name)("said", target="web1", left_behind="left", next_step="next")
        error.outcome = OUTCOME
        found = self.document(type_, error)
        assert found["error"] == {
            "message": "said",
            "target": "web1",
            "left_behind": "left",
            "next_step": "next",
        }
        assert found["run_id"] == "run-1"

    def test_a_failure_before_any_run_has_all_the_fields(self, type_):
        assert self.document(type_, UsageError("no such stack"))["action"] == "test_tasks_boundary.look"

    def test_what_nobody_expected_has_all_the_fields(self, type_):
        assert self.document(type_, KeyError("x"))["exit_code"] == 4


class TestUnexpected:
    """A traceback is a fault."""

    def test_it_ends_with_4_and_shows_no_traceback(self, type_, tmp_path):
        status, out, err = type_(KeyError("x"))
        assert (status, out) == (4, "")
        assert err.startswith("Error: unexpected KeyError: 'x'\nLeft behind: not known")
        assert "Traceback" not in err
        assert ".ops/logs/unexpected.log" in err
        assert "Traceback" in (tmp_path / ".ops/logs/unexpected.log").read_text()

    def test_only_its_owner_reads_what_is_kept_of_it(self, type_, tmp_path):
        type_(KeyError("x"))
        assert (tmp_path / ".ops/logs/unexpected.log").stat().st_mode & 0o777 == 0o600

    def test_where_nothing_can_be_written_the_place_is_told(self, type_, tmp_path):
        (tmp_path / ".ops").write_text("a file in the way")
        status, _, err = type_(KeyError("x"))
        assert status == 4
        assert "Traceback" not in err
        assert "report this (test_tasks_boundary.py:" in err


class TestDry:
    """Invoke's own --dry runs nothing of its own, and all of ours."""

    @pytest.mark.parametrize("line", ["--dry look", "look --dry", "-R look", "look --json -R"])
    def test_it_is_refused_and_the_body_does_not_run(self, type_, line):
        status, out, err = type_(AssertionError("the body ran"), line)
        assert status == 2
        assert "--dry-run" in out + err
        assert "deploy.plan" in out + err

    def test_so_is_its_variable(self, type_, monkeypatch):
        monkeypatch.setenv("INVOKE_RUN_DRY", "1")
        assert type_(AssertionError("the body ran"))[0] == 2

    def test_so_is_its_key_in_a_file(self, type_, tmp_path):
        (tmp_path / "invoke.yaml").write_text("run: {dry: true}\n")
        assert type_(AssertionError("the body ran"), f"-f {tmp_path / 'invoke.yaml'} look")[0] == 2


class TestSecrets:
    """An answer that knows its settings shows none of their secrets."""

    SECRETS = ('p"w\\n:1', "1234567", "länger", "format")

    @pytest.fixture
    def settings(self):
        return SimpleNamespace(
            stack="shop", environment="production", redactor=Redactor(Secret(one) for one in self.SECRETS)
        )

    def test_not_in_its_text(self, type_, settings):
        assert type_(Answer("it is 1234567", settings=settings))[1] == "it is ***\n"

    def test_not_in_its_document_which_stays_json(self, type_, settings):
        found = {
            "text": [f"it is {one}!" for one in self.SECRETS],
            "bytes": 12345678,
            "1234567": Path("/1234567"),
        }
        status, out, _ = type_(Answer(data=found, settings=settings), "look --json")
        document = json.loads(out)
        assert status == 0
        assert set(document) == FIELDS
        assert document["data"] == {"text": ["it is ***!"] * 4, "bytes": 12345678, "***": "/***"}
        assert (document["stack"], document["environment"]) == ("shop", "production")


def test_a_task_keeps_its_name_and_its_help():
    @task(help={"name": "Whose."}, name="show")
    def show_(c, name: str = "") -> Answer:
        """Show it."""
        return Answer()

    assert (show_.name, show_.help, inspect.getdoc(show_)) == ("show", {"name": "Whose."}, "Show it.")

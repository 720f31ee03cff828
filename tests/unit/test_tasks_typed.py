"""Options as they are typed: an empty one is no default, and a number that is none has one clear line."""

import json

import pytest
from invoke.program import Program

from ops.tasks import namespace

TEXTS = sorted(
    (name, argument.name.replace("_", "-"))
    for name in namespace.task_names
    for argument in namespace[name].get_arguments()
    if argument.kind is str
)
NUMBERS = sorted(
    (name, argument.name.replace("_", "-"))
    for name in namespace.task_names
    for argument in namespace[name].get_arguments()
    if argument.kind is int
)


@pytest.fixture
def typed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def run(*words):
        with pytest.raises(SystemExit) as end:
            Program(namespace=namespace).run(["opsbook", *words])
        captured = capsys.readouterr()
        return end.value.code, captured.out, captured.err

    return run


def test_there_are_such_options():
    assert {("deploy.deploy", "servers"), ("deploy.rollback", "to"), ("stack.logs", "service")} <= set(TEXTS)
    assert {("deploy.deploy", "wait"), ("deploy.history", "limit")} <= set(NUMBERS)


@pytest.mark.parametrize(("name", "option"), TEXTS)
@pytest.mark.parametrize("empty", ["", " "])
def test_one_that_is_given_and_empty_is_refused_by_name(typed, name, option, empty):
    status, out, err = typed(name, f"--{option}", empty)
    assert (status, out) == (2, "")
    assert err.startswith(f"Error: --{option} is empty\n")


@pytest.mark.parametrize("written", ["--servers=", "--version="])
def test_so_is_one_with_an_equals_sign(typed, written):
    assert typed("deploy", written)[0] == 2


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("deploy", "servers"),
        ("deploy.plan", "servers"),
        ("deploy.rollback", "servers"),
        ("stack.logs", "service"),
        ("stack.restart", "service"),
        ("build", "service"),
    ],
)
def test_commas_without_a_name_do_not_mean_all(typed, tmp_path, name, option):
    (tmp_path / "compose.yaml").write_text("services: {api: {image: a}}\n")
    (tmp_path / "ops.toml").write_text(
        'stack = "shop"\nversion = "1"\n[servers.app]\naddress = "192.0.2.1"\n[environments.test]\n'
    )
    status, out, err = typed(name, "--env", "test", f"--{option}", " , ")
    assert (status, out) == (2, "")
    assert f"Error: --{option} names nothing" in err


@pytest.mark.parametrize(("name", "option"), NUMBERS)
@pytest.mark.parametrize("text", ["abc", "1.5", ""])
def test_a_number_that_is_none_is_told_in_one_line(typed, name, option, text):
    status, out, err = typed(name, f"--{option}", text)
    assert (status, out) == (2, "")
    assert err.startswith(f"Error: --{option} ")
    assert "Traceback" not in err


def test_it_is_told_as_json_too(typed):
    status, out, _ = typed("deploy.history", "--limit", "abc", "--json")
    assert (status, json.loads(out)["error"]["message"]) == (2, "--limit takes a whole number, not 'abc'")


def test_help_still_says_what_kind_an_option_is(typed, capsys):
    _, out, _ = typed("stack.scale", "--help")
    assert "--replicas=INT" in out
    assert "--service=STRING" in out

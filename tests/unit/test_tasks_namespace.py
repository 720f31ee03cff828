"""Every task, as Invoke reads it: help runs nothing, nothing is positional."""

import functools
import inspect
import subprocess
import sys

import pytest
from invoke.program import Program

from ops.tasks import namespace

TASKS = sorted(namespace.task_names)
EXPLAINED = {
    name: dict(namespace[name].help) for name in TASKS
}  # Invoke empties them when it reads the options


def task_of(name):
    return namespace[name]


def test_there_are_tasks():
    assert {"deploy", "deploy.rollback", "deploy.status", "stack.scale", "init"} <= set(TASKS) | {"deploy"}


@pytest.mark.parametrize("name", TASKS)
def test_help_runs_no_body(name, monkeypatch, capsys):
    ran = []
    body = functools.wraps(task_of(name).body)(lambda *args, **options: ran.append(name))
    monkeypatch.setattr(task_of(name), "body", body)
    for line in ([name, "--help"], ["--help", name]):
        with pytest.raises(SystemExit) as end:
            Program(namespace=namespace).run(["inv", *line])
        assert not end.value.code
        assert "Docstring:" in capsys.readouterr().out
    assert ran == []


@pytest.mark.parametrize("name", TASKS)
def test_no_option_is_positional(name):
    assert list(task_of(name).positional) == []
    assert [argument.name for argument in task_of(name).get_arguments() if argument.positional] == []


@pytest.mark.parametrize("name", TASKS)
def test_no_option_has_a_short_flag_that_could_be_another_tasks(name):
    assert [n for argument in task_of(name).get_arguments() for n in argument.names if len(n) == 1] == []


@pytest.mark.parametrize("name", TASKS)
def test_every_option_and_the_task_itself_are_explained(name):
    task = task_of(name)
    options = set(inspect.signature(task.body).parameters) - {"c"}
    assert options == set(EXPLAINED[name])
    assert all(text.endswith((".", ").")) for text in EXPLAINED[name].values())
    assert inspect.getdoc(task)


@pytest.mark.parametrize("name", TASKS)
def test_every_option_has_a_default(name):
    parameters = list(inspect.signature(task_of(name).body).parameters.values())[1:]
    assert [p.name for p in parameters if p.default is inspect.Parameter.empty] == []


def test_an_option_that_many_tasks_share_means_one_thing():
    texts = {}
    for name in TASKS:
        for option in {"state_host", "wait", "yes", "json"} & set(EXPLAINED[name]):
            texts.setdefault(option, set()).add(EXPLAINED[name][option])
    assert {option: found for option, found in texts.items() if len(found) > 1} == {}


def test_listing_the_tasks_imports_nothing_that_is_slow():
    program = (
        "import sys\nfrom ops.tasks import namespace\n"
        "print([m for m in ('pydantic', 'fabric', 'paramiko', 'boto3', 'rich', 'urllib3') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True)
    assert done.stdout == "[]\n"

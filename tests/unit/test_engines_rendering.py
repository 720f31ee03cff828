"""Compose files are resolved on a server in memory, and nothing of them stays there."""

import json
import re
import string
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.engines.rendering import INSIDE, parse_rendered, render_command, sentinel, temporary_root, told_paths

NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,6}", fullmatch=True)
STAND_IN = re.compile(sentinel("([A-Za-z_][A-Za-z0-9_]*)"))


@given(st.lists(NAMES, min_size=1, max_size=4), st.text(string.ascii_letters + "_-:/@", max_size=3))
def test_stand_ins_side_by_side_are_told_apart(names, between):
    assert STAND_IN.findall(between.join(map(sentinel, names))) == names


@pytest.fixture
def render(tmp_path, shell):
    def run(body, files=("compose.yaml",), profiles=()):
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / "docker").write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / "bin" / "docker").chmod(0o755)
        command = render_command(
            [("compose.yaml", b"services: {}\n"), ("deep/it's.env", b"A=1\n")],
            files,
            profiles,
            "shop",
            'A="1"\n',
        )
        line = f"PATH={tmp_path}/bin:$PATH SECRET_OF_LOGIN=1; export SECRET_OF_LOGIN; {command.script}"
        return subprocess.run([shell, "-c", line], input=command.stdin, capture_output=True, check=False)

    return run


def test_compose_sees_the_files_and_the_values_below_the_folder_that_is_told(render):
    done = render('printf \'{"here": "%s", "files": "%s"}\' "$PWD" "$(find . -type f | sort | tr "\\n" " ")"')
    folder, model = parse_rendered(done.stdout.decode())
    assert model == {"here": folder, "files": "./.ops-interpolation ./compose.yaml ./deep/it's.env "}


def test_what_stands_beside_the_stack_folder_is_still_in_the_temporary_one(render):
    done = render("cd ../../.. && pwd | sed 's/.*/\"&\"/'")
    folder, above = parse_rendered(done.stdout.decode())
    assert above.startswith(temporary_root(folder) + "/")
    assert temporary_root(folder).rpartition("/")[0] in ("/dev/shm", "/tmp")


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("open /dev/shm/ops.Ab12Cd/{}/api.env: no such file", "open api.env: no such file"),
        ('file "/tmp/ops.Ab12Cd/{}/a/b.yaml" is wrong', 'file "a/b.yaml" is wrong'),
        ("env file /dev/shm/ops.Ab12Cd/{}/../api.env not found", "env file ../api.env not found"),
        ("services.api: no such property", "services.api: no such property"),
    ],
)
def test_paths_that_compose_complains_of_are_told_from_the_stack_folder_on(said, told):
    assert told_paths(said.format(INSIDE).replace("/stack/..", "")) == told


def test_compose_is_called_with_the_files_profiles_and_project(render):
    done = render('shift; printf \'"%s"\' "$*"', files=("compose.yaml", "b.yaml"), profiles=("x",))
    expected = (
        "--project-name shop --env-file .ops-interpolation "
        "--profile x -f compose.yaml -f b.yaml config --format json"
    )
    assert parse_rendered(done.stdout.decode())[1] == expected


def test_the_login_environment_of_the_server_takes_no_part(render):
    done = render("env | grep -c SECRET_OF_LOGIN")
    assert done.stdout.splitlines()[-1] == b"0"


@pytest.mark.parametrize("body", ["echo {}", "exit 15"])
def test_nothing_stays_on_the_server(render, body):
    done = render(body)
    folder = done.stdout.decode().splitlines()[0]
    assert folder.startswith(("/dev/shm/ops.", "/tmp/ops."))
    assert subprocess.run(["test", "-e", folder], check=False).returncode == 1


def test_only_the_owner_may_look_while_it_is_there(render):
    done = render("stat -c '\"%a\"' .")
    assert json.loads(done.stdout.decode().splitlines()[1]) == "700"


def test_what_compose_refuses_fails_the_command(render):
    done = render("echo 'service api refers to undefined network' >&2; exit 15")
    assert (done.returncode, done.stderr) == (15, b"service api refers to undefined network\n")

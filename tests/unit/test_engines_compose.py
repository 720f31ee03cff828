"""The compose commands that change a server, and the files of a release."""

import os
import signal
import string
import subprocess
import time
from dataclasses import replace

import pytest
import yaml
from examples import release, spec
from hypothesis import given, settings
from hypothesis import strategies as st
from shells import run

from ops.engines.compose import compose_yaml, dotenv_values, down, one_off, up
from ops.engines.layout import Layout

LAYOUT = Layout("/opt", "shop", "it's")
ODD = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    [
        "yes",
        "null",
        "1e3",
        "0x1F",
        "012",
        "~",
        "2026-01-01",
        "a: b",
        "# x",
        " lead",
        "trail ",
        "\t",
        "\u0085",
        "\ufeff",
    ]
)
VALUES = st.recursive(
    ODD | st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ODD, inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.text(string.ascii_lowercase, min_size=1, max_size=5), VALUES, max_size=3))
def test_a_compose_file_reads_back_as_the_same_model(services):
    text = compose_yaml({"services": services}, "shop-production")
    assert yaml.safe_load(text) == {"name": "shop-production", "services": services}


def test_the_project_name_stands_first_whatever_the_model_called_itself():
    text = compose_yaml({"services": {}, "name": "other"}, "shop")
    assert text.splitlines()[1] == "name: shop"
    assert "other" not in text


def test_up_starts_services_of_a_release_and_nothing_that_they_depend_on():
    command = up(LAYOUT, "r1", ["db", "api"], scale={"api": 3}, recreate=True, timeout=60)
    assert (
        command.title
        == "docker compose up -d --no-deps --no-build --pull never --quiet-pull --scale api=3 db api"
    )
    assert command.changes == "containers of db, api"
    assert command.timeout == 60


def test_without_recreate_containers_that_run_are_left_alone():
    assert " --no-recreate " in up(LAYOUT, "r1", ["api"], scale={}, recreate=False, timeout=60).title


def test_compose_runs_in_the_releases_folder_without_the_servers_own_environment():
    script = up(LAYOUT, "r1", ["api"], scale={}, recreate=True, timeout=60).script
    assert script.startswith('cd \'/opt/shop/it\'"\'"\'s/releases/r1\' && env -i HOME="$HOME" PATH="$PATH" ')


def test_a_one_off_container_bears_the_run_and_is_removed_by_it_when_interrupted():
    command = one_off(LAYOUT, "r1", "api", ["manage", "migrate db"], run_id="run-1", timeout=9)
    assert "run --rm -T --no-deps --label ops.run=run-1 api manage 'migrate db'" in command.script
    assert command.script.startswith("trap '")
    assert "label=ops.run=run-1" in command.script.partition("HUP INT TERM")[0]


def test_down_keeps_volumes_unless_they_are_asked_for():
    assert down("shop", volumes=False).title == "docker compose --project-name shop down --remove-orphans"
    assert down("shop", volumes=True).title.endswith(" --volumes")
    assert down("shop", volumes=True).changes == "containers and networks and volumes"


def test_a_releases_env_holds_its_secrets_and_the_hash_of_each_service():
    values = dotenv_values(release(spec("api", config="a1"), spec("my-db", config="b2")), {"TOKEN": "one"})
    assert values == {"TOKEN": "one", "OPS_CONFIG_API": "a1", "OPS_CONFIG_MY_2DDB": "b2"}


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_one_off_container_does_not_outlive_the_command_that_started_it(tmp_path, shell, how):
    layout = Layout(str(tmp_path), "shop", "production")
    (tmp_path / "shop/production/releases/r1").mkdir(parents=True)
    (tmp_path / "docker").write_text(
        f'#!/bin/sh\necho "$*" >> {tmp_path}/calls\n'
        f'case "$*" in *" run "*) touch {tmp_path}/begun; exec sleep 60 ;; "ps -aq "*) echo left-over ;; esac\n'
    )
    (tmp_path / "docker").chmod(0o755)
    command = one_off(layout, "r1", "api", ["migrate"], run_id="run-1", timeout=9)
    process = subprocess.Popen(
        [shell, "-c", f"PATH={tmp_path}:$PATH; {command.script}"],
        start_new_session=True,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 10
    while not (tmp_path / "begun").exists():
        assert time.monotonic() < deadline
    os.kill(process.pid, how)
    assert process.wait(10) == 143
    os.killpg(process.pid, signal.SIGKILL)
    assert (tmp_path / "calls").read_text().splitlines()[-1] == "rm -f left-over"


@pytest.mark.parametrize("status", [0, 7])
def test_a_one_off_command_ends_with_its_own_status(tmp_path, shell, status):
    layout = Layout(str(tmp_path), "shop", "production")
    (tmp_path / "shop/production/releases/r1").mkdir(parents=True)
    (tmp_path / "docker").write_text(f"#!/bin/sh\necho out; echo err >&2; exit {status}\n")
    (tmp_path / "docker").chmod(0o755)
    command = one_off(layout, "r1", "api", ["migrate"], run_id="run-1", timeout=9)
    result = run(replace(command, script=f"PATH={tmp_path}:$PATH; {command.script}"), shell)
    assert (result.status, result.stdout, result.stderr) == (status, "out\n", "err\n")

"""What `opsbook init` writes, from what Compose says of a project."""

import json
import subprocess
import tomllib

import pytest

from ops.commands import Command, Result
from ops.config import load
from ops.config.models import Server
from ops.errors import ConfigError, FailedUnchanged, UsageError
from ops.project import init

COMPOSE = """
services:
  api:
    build: .
    image: "api:${TAG:-1}"
    environment: {DB_PASSWORD: "${DB_PASSWORD}", MODE: "${MODE:?}"}
    volumes: ["./uploads:/uploads"]
"""


class Compose:
    """Answers `config` and `ls` from what a test sets, and fails on anything else."""

    def __init__(self) -> None:
        self.services: dict[str, object] = {"api": {"build": {"context": "."}, "image": "api:1"}}
        self.rest: dict[str, object] = {}
        self.running: list[dict[str, str]] | None = []
        self.refusal: Result | None = None
        self.asked: list[Command] = []

    def __call__(self, command: Command) -> Result:
        self.asked.append(command)
        if command.title == "docker compose config":
            model = {"name": "shop", "services": self.services, **self.rest}
            return self.refusal or Result(0, "/tmp/there\n" + json.dumps(model))
        if command.title == "docker compose ls":
            return Result(1, "", "no engine") if self.running is None else Result(0, json.dumps(self.running))
        raise AssertionError(command.script)


@pytest.fixture
def compose():
    return Compose()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.delenv("OPS_STACK", raising=False)
    found = tmp_path / "shop"
    found.mkdir()
    (found / "compose.yaml").write_text(COMPOSE)
    return found


def made(folder, compose, **options):
    init(folder, render=compose, **options)
    return tomllib.loads((folder / "ops.toml").read_text())


def test_the_files_are_written_and_load(folder, compose):
    found = init(folder, render=compose)
    assert found.written == ("ops.toml", "tasks.py", ".env.example", ".gitignore")
    assert load("production", start=folder).stack == "shop"
    assert "from ops.tasks import namespace" in (folder / "tasks.py").read_text()


def test_an_example_of_the_values_holds_names_and_never_a_value(folder, compose):
    (folder / ".env").write_text("DB_PASSWORD=hunter22\nMODE=fast\n")
    init(folder, render=compose)
    lines = (folder / ".env.example").read_text().splitlines()
    assert [line for line in lines if not line.startswith("#")] == ["DB_PASSWORD=", "MODE="]
    assert "# TAG=" in lines


def test_names_that_sound_secret_are_required(folder, compose):
    assert made(folder, compose)["secrets"]["required"] == ["DB_PASSWORD"]


def test_no_secret_travels_to_where_compose_runs(folder, compose):
    (folder / ".env").write_text("DB_PASSWORD=hunter22\n")
    (folder / "api.env").write_text("API_TOKEN=hunter23\n")
    (folder / "compose.yaml").write_text(COMPOSE + "    env_file: api.env\n")
    init(folder, render=compose)
    sent = b"".join(command.stdin + command.script.encode() for command in compose.asked)
    assert b"hunter" not in sent
    assert b"API_TOKEN" in sent


def test_the_name_of_the_running_project_is_kept(folder, compose):
    compose.running = [
        {"Name": "other", "ConfigFiles": "/opt/other/compose.yaml"},
        {"Name": "shopv2", "ConfigFiles": "/opt/shop/compose.yaml"},
    ]
    assert made(folder, compose)["project"] == "shopv2"


def test_the_name_in_the_compose_file_is_kept(folder, compose):
    (folder / "compose.yaml").write_text("name: shop\n" + COMPOSE)
    assert made(folder, compose)["project"] == "shop"


def test_of_several_environments_the_live_one_keeps_the_name(folder, compose):
    for name in ("compose.staging.yaml", "compose.production.yaml"):
        (folder / name).touch()
    compose.running = [{"Name": "shopv2", "ConfigFiles": "/opt/shop/compose.yaml"}]
    found = made(folder, compose)
    assert "project" not in found
    assert {name: one.get("project") for name, one in found["environments"].items()} == {
        "production": "shopv2",
        "staging": None,
    }


def test_a_project_seen_nowhere_is_left_open_and_said(folder, compose):
    assert "project" not in made(folder, compose)
    assert "# project = …" in (folder / "ops.toml").read_text()


def test_an_engine_that_does_not_answer_is_remarked(folder, compose):
    compose.running = None
    assert any("could not be asked" in remark for remark in init(folder, render=compose).remarks)


def test_health_is_http_where_the_healthcheck_curls_a_url_of_its_own(folder, compose):
    compose.services["api"] = {"healthcheck": {"test": ["CMD", "curl", "-f", "http://localhost:8000/up"]}}
    assert made(folder, compose)["services"]["api"] == {
        "port": 8000,
        "health": {"kind": "http", "path": "/up", "port": 8000},
    }


@pytest.mark.parametrize(
    "test",
    [["CMD", "pg_isready"], "curl -f http://other:8000/up", "curl -f https://localhost/up", ["CMD", "x"]],
)
def test_health_is_docker_where_the_healthcheck_asks_otherwise(folder, compose, test):
    compose.services["api"] = {"healthcheck": {"test": test}}
    assert made(folder, compose)["services"]["api"] == {"health": {"kind": "docker"}}


def test_a_healthcheck_that_is_off_counts_as_none(folder, compose):
    compose.services["api"] = {"healthcheck": {"disable": True, "test": ["NONE"]}}
    assert made(folder, compose)["services"]["api"] == {}


def test_one_port_is_taken_and_several_are_left_to_the_reader(folder, compose):
    compose.services = {"one": {"expose": ["8000"]}, "two": {"ports": [{"target": 1}, {"target": 2}]}}
    services = made(folder, compose)["services"]
    assert (services["one"], services["two"]) == ({"port": 8000}, {})


def test_replicas_are_carried_over(folder, compose):
    compose.services["api"] = {"deploy": {"replicas": 3}}
    assert made(folder, compose)["services"]["api"]["replicas"] == 3


def test_a_folder_mounted_for_writing_is_taken_for_data(folder, compose):
    mounts = [("uploads", False), ("conf", True), ("gone", True)]
    (folder / "uploads").mkdir()
    (folder / "conf").mkdir()
    volumes = [
        {"type": "bind", "source": f"/tmp/there/{name}", "target": f"/{name}", "read_only": read_only}
        for name, read_only in mounts
    ]
    compose.services["api"] = {"volumes": [*volumes, {"type": "volume", "source": "v", "target": "/v"}]}
    assert made(folder, compose)["persist"]["data"] == ["gone", "uploads"]


def test_what_is_external_or_claimed_twice_is_said(folder, compose):
    ports = {"ports": [{"target": 80, "published": "80"}]}
    compose.services = {"a": ports, "b": ports}
    compose.rest = {"networks": {"proxy": {"name": "proxy", "external": True}}}
    init(folder, render=compose)
    text = (folder / "ops.toml").read_text()
    assert "# network proxy is external" in text
    assert "# Port 80 is published by a and b" in text


def test_profiles_are_listed_and_none_is_turned_on(folder, compose):
    compose.services["metrics"] = {"profiles": ["monitoring"]}
    assert "profiles" not in made(folder, compose)
    assert '# profiles = ["monitoring"]' in (folder / "ops.toml").read_text()


def test_environments_come_from_files_named_after_them(folder, compose):
    for name in ("compose.staging.yaml", "compose.override.yaml", ".env.production", ".env.example"):
        (folder / name).touch()
    found = made(folder, compose)["environments"]
    assert found == {"production": {"confirm": "name"}, "staging": {}}


def test_the_server_that_was_read_is_written_down(folder, compose):
    server = {"address": "app.example.org", "user": "deploy", "port": 2222}
    assert made(folder, compose, server=Server(**server))["servers"]["app"] == server


def test_a_service_that_ops_toml_cannot_name_is_left_out_and_said(folder, compose):
    compose.services["Api.v2"] = {}
    assert "Api.v2" not in made(folder, compose)["services"]
    assert "# Service Api.v2: left out" in (folder / "ops.toml").read_text()


def test_a_folder_whose_name_cannot_be_a_stack_gets_one(folder, compose):
    assert made(folder.rename(folder.parent / "My Shop"), compose)["stack"] == "my-shop"


def test_an_ops_toml_that_exists_is_not_touched(folder, compose):
    (folder / "ops.toml").write_text("mine\n")
    with pytest.raises(UsageError) as caught:
        init(folder, render=compose)
    assert "--force" in str(caught.value.next_step)
    assert (folder / "ops.toml").read_text() == "mine\n"


def test_other_files_that_exist_are_kept(folder, compose):
    (folder / "tasks.py").write_text("mine\n")
    assert init(folder, render=compose).kept == ("tasks.py",)
    assert (folder / "tasks.py").read_text() == "mine\n"


def test_force_writes_all_anew(folder, compose):
    for name in ("ops.toml", "tasks.py", ".env.example"):
        (folder / name).write_text("mine\n")
    assert init(folder, render=compose, force=True).kept == ()


def test_without_compose_both_ways_are_named(folder):
    with pytest.raises(UsageError) as caught:
        init(folder, render=None)
    assert "install docker" in str(caught.value.next_step)
    assert "--server HOST" in str(caught.value.next_step)


def test_a_machine_without_docker_is_told(folder, compose):
    compose.refusal = Result(127)
    with pytest.raises(FailedUnchanged, match="docker compose is not there"):
        init(folder, render=compose)


def test_what_compose_refuses_is_told_in_its_words_and_nothing_is_written(folder, compose):
    compose.refusal = Result(1, "", "services.api must be a mapping")
    with pytest.raises(ConfigError, match="must be a mapping"):
        init(folder, render=compose)
    assert not (folder / "ops.toml").exists()


def test_a_folder_without_compose_files_is_told(tmp_path, compose):
    with pytest.raises(UsageError, match="no compose file"):
        init(tmp_path, render=compose)


def test_one_compose_file_of_another_name_is_taken_and_named(folder, compose):
    (folder / "compose.yaml").rename(folder / "docker-compose.prod.yml")
    assert made(folder, compose)["files"] == ["docker-compose.prod.yml"]


def test_several_compose_files_of_other_names_are_listed(folder, compose):
    (folder / "compose.yaml").rename(folder / "docker-compose.prod.yml")
    (folder / "docker-compose.dev.yml").touch()
    with pytest.raises(UsageError) as caught:
        init(folder, render=compose)
    assert "--files docker-compose.dev.yml,docker-compose.prod.yml" in str(caught.value.next_step)


def test_an_env_file_that_is_not_here_yet_is_remarked(folder, compose):
    (folder / "compose.yaml").write_text(COMPOSE + "    env_file: .env.production\n")
    assert any(
        ".env.production is named by env_file" in remark for remark in init(folder, render=compose).remarks
    )


IGNORED = [".ops/", ".env", ".env.*", "!.env.example"]


def test_git_leaves_values_and_logs_alone(folder, compose):
    init(folder, render=compose)
    assert (folder / ".gitignore").read_text().splitlines() == IGNORED


def test_a_gitignore_keeps_its_lines_and_what_is_new_is_told(folder, compose):
    (folder / ".gitignore").write_text("node_modules\n.env")
    found = init(folder, render=compose)
    assert (folder / ".gitignore").read_text() == "node_modules\n.env\n.ops/\n.env.*\n!.env.example\n"
    assert found.remarks[-1] == ".gitignore has new lines at its end: .ops/ .env.* !.env.example"
    assert init(folder, render=compose, force=True).written == ("ops.toml", "tasks.py", ".env.example")


def test_a_gitignore_above_that_says_it_all_is_enough(folder, compose):
    subprocess.run(["git", "init", "-q", folder.parent], check=True)
    (folder.parent / ".gitignore").write_text("\n".join(IGNORED))
    assert ".gitignore" not in init(folder, render=compose).written
    (folder.parent / ".gitignore").write_text(".ops\n.env*\n")
    init(folder, render=compose, force=True)
    assert (folder / ".gitignore").read_text() == "!.env.example\n"


def test_after_init_git_takes_no_secret_and_no_log(folder, compose):
    init(folder, render=compose)
    for name in (".env", ".env.production", ".ops/logs/a.log"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    subprocess.run(["git", "init", "-q", folder], check=True)
    subprocess.run(["git", "add", "-A"], cwd=folder, check=True)
    listed = subprocess.run(["git", "ls-files"], cwd=folder, check=True, capture_output=True, text=True)
    assert listed.stdout.split() == [".env.example", ".gitignore", "compose.yaml", "ops.toml", "tasks.py"]


def test_a_folder_that_cannot_be_written_is_told(folder, compose):
    (folder / "tasks.py").mkdir()
    with pytest.raises(UsageError, match=r"tasks\.py cannot be written"):
        init(folder, render=compose, force=True)


def test_a_folder_that_cannot_be_used_is_told(tmp_path, compose):
    with pytest.raises(UsageError, match="cannot be used"):
        init(tmp_path / ("x" * 300), render=compose)

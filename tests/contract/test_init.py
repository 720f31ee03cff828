"""What `opsbook init` makes of real projects, read by the real docker compose."""

import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from ops.commands import Command, Result
from ops.project import init

PROJECTS = Path(__file__).resolve().parents[1] / "fixtures" / "projects"


def render(command: Command) -> Result:
    if "compose ls" in command.script:
        return Result(0, "[]")  # what runs on this machine is no part of the test
    done = subprocess.run(["sh", "-c", command.script], input=command.stdin, capture_output=True, check=False)
    return Result(done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.fixture
def project(tmp_path):
    if shutil.which("docker") is None or not render(Command("docker compose version")).ok:
        pytest.skip("docker compose is not installed here")

    def copied(name: str, *files: str):
        shutil.copytree(PROJECTS / name, tmp_path / name)
        init(tmp_path / name, render=render, files=files)
        text = (tmp_path / name / "ops.toml").read_text()
        return tomllib.loads(text), text

    return copied


def test_the_document_with_one_compose_file_is_taken_over(project):
    table, text = project("pro-team-care-document", "docker-compose.prod.yml")
    assert table["services"]["backend"]["health"] == {"kind": "http", "path": "/api/v1/health", "port": 8000}
    assert table["secrets"]["required"] == ["DB_PASSWORD", "REDIS_PASSWORD"]
    assert table["persist"]["data"] == ["backup", "logs/nginx", "nginx/ssl"]
    assert "# Port 80 is published by frontend and nginx" in text
    assert "# /app/logs (backend) is a path of the server" in text


def test_the_mended_document_has_each_port_once(project):
    _, text = project("pro-team-care-document", "docker-compose.prod.yml", "mended.yaml")
    assert "is published by" not in text


def test_a_project_that_uses_much_of_compose_is_taken_over(project):
    table, text = project("rich")
    assert table["project"] == "rich"
    assert table["services"]["api"] == {
        "port": 8000,
        "health": {"kind": "http", "path": "/ready", "port": 8000},
    }, "compose.staging.yaml has a number of replicas of its own"
    assert list(table["environments"]) == ["staging"]
    assert '# profiles = ["jobs", "monitoring"]' in text


def test_an_old_project_is_taken_over(project):
    table, text = project("legacy")
    assert table["secrets"]["required"] == ["DB_PASS"]
    assert "# network proxy is external" in text
    assert "# volume legacy_pgdata is external" in text

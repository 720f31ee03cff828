"""Compose projects of other people's making: `opsbook init`, a look at the plan, and a deploy on a real server."""

from __future__ import annotations

import json
import shutil
import urllib.request
from pathlib import Path

import pytest
from fleets import address, containers, emptied, on, own_name
from stacks import ROOT, Stack

from ops import sandbox as boxes

PROJECTS = ROOT / "tests" / "fixtures" / "projects"
BUILD = """
[build]
registry = "registry.sandbox:5000"
[registries."registry.sandbox:5000"]
username = "env:REGISTRY_USERNAME"
password = "env:REGISTRY_PASSWORD"
"""


@pytest.fixture(scope="module")
def server(sandbox) -> str:
    """One emptied server for all projects, which bear names and ports of their own but for 80."""
    emptied("web1")
    return "web1"


def copied(folder: Path, name: str, environment: str) -> Stack:
    """Return a copy of a project, as its authors have it."""
    shutil.copytree(PROJECTS / name, folder / name)
    return Stack(folder / name, environment)


def completed(stack: Stack, server: str, values: str) -> None:
    """Do what `init` says is left to do: the server's address, the values, and here the way to the sandbox."""
    there = boxes.status()
    text = (stack.folder / "ops.toml").read_text()
    asked = [line for line in text.splitlines() if line.startswith("# address =")]
    assert len(asked) == 1, "init says where the address of the server goes"
    text = text.replace(asked[0], f'address = "{own_name(server)}.sandbox"')
    text = text.replace('version = "git"', f'version = "1.0"\nssh_config = "{there.ssh_config}"')
    text = text.replace('confirm = "name"', 'confirm = "no"')
    (stack.folder / "ops.toml").write_text(text + BUILD)
    path = stack.folder / f".env.{stack.environment}"
    path.write_text(f"{values}REGISTRY_USERNAME={there.username}\nREGISTRY_PASSWORD={there.password}\n")
    path.chmod(0o600)
    stack.variables["DOCKER_HOST"] = f"unix://{there.builder_socket}"


def got(server: str, port: int, path: str) -> str:
    """Return what a server answers."""
    with urllib.request.urlopen(f"http://{address(server)}:{port}{path}", timeout=20) as answer:
        text: str = answer.read().decode()
        return text


@pytest.mark.holds(3)
def test_the_document_is_refused_with_its_two_claimants_of_a_port_and_mended_it_runs(server, tmp_path):
    """As it stands, the plan names both services that publish 80 and 443; with one of them there, the project deploys."""
    stack = copied(tmp_path, "pro-team-care-document", "production")
    said = stack.run("init", "--files", "docker-compose.prod.yml", env=False).stdout
    assert "give [servers.app] the address" in said
    assert "DB_PASSWORD, REDIS_PASSWORD" in said
    completed(
        stack,
        server,
        "DB_DATABASE=care\nDB_USERNAME=care\nDB_PASSWORD=long-enough-1\nREDIS_PASSWORD=long-enough-2\nSECRET_KEY=k\n",
    )
    refused = stack.run("deploy.plan", status=2).stderr
    assert "services frontend and nginx both publish ports 80 and 443" in refused
    assert "remove `ports:` of frontend or nginx" in refused
    assert containers(server, "pro-team-care-document-production") == []

    stack.edit("ops.toml", lambda text: text.replace('prod.yml"]', 'prod.yml", "mended.yaml"]'))
    stack.run("build", "--push", "--quiet")
    stack.run("deploy", "--quiet")
    health = json.loads(got(server, 80, "/api/v1/health"))
    assert (health["status"], health["version"], health["environment"]) == ("healthy", "1.0", "production")
    assert "Pro Team Care" in got(server, 80, "/")
    assert "Nothing to do" in stack.run("deploy").stdout
    stack.run("stack.remove", "--volumes", "--yes", "--quiet")


@pytest.mark.parity("S6")
def test_a_project_that_uses_much_of_compose_runs_as_its_files_say(server, tmp_path):
    """include, extends, profiles, configs, secrets, anchors and several env files reach the containers as they were written."""
    stack = copied(tmp_path, "rich", "staging")
    stack.run("init", env=False)
    completed(stack, server, "API_TOKEN=token-of-many\nDATABASE_NAME=shop\n")
    stack.edit(
        "ops.toml",
        lambda text: text.replace('# profiles = ["jobs", "monitoring"]', 'profiles = ["monitoring"]'),
    )
    stack.run("build", "--push", "--quiet")
    stack.run("deploy", "--quiet")
    assert {one.service for one in containers(server, "rich")} == {"api", "db", "metrics", "schema"}
    assert "1/1 ended well" in stack.run("deploy.status").stdout
    assert "Nothing to do" in stack.run("deploy").stdout
    (api,) = containers(server, "rich", "api")
    seen = json.loads(
        on(server, f"docker exec {api.id} python -c 'import json, os; print(json.dumps(dict(os.environ)))'")
    )
    wanted = {
        "API_TOKEN": "token-of-many",
        "PRICE": "5$",
        "PATTERN": "^a$b",
        "GREETING": "hello, world",
        "WORKERS": "2",
        "DATABASE_NAME": "shop",
        "DATABASE_HOST": "db",
    }
    assert {name: seen.get(name) for name in wanted} == wanted
    inside = f"docker exec {api.id} cat /etc/api/settings.json /run/secrets/signing_key"
    assert on(server, inside) == '{"debug": false}\nnot-a-real-key\n'
    (database,) = containers(server, "rich", "db")
    extensions = f"docker exec {database.id} psql -U postgres -d shop -Atc 'SELECT extname FROM pg_extension'"
    assert "pg_stat_statements" in on(server, extensions).split()
    on(server, extensions.replace("extname FROM pg_extension", "count(*) FROM visits"))
    assert on(server, "curl -so /dev/null -w '%{http_code}' http://127.0.0.1:8000/ready") == "200"
    assert on(server, "curl -so /dev/null -w '%{http_code}' http://127.0.0.1:9090/") in ("200", "403")

    stack.edit("ops.toml", lambda text: text.replace('profiles = ["monitoring"]', 'profiles = ["jobs"]'))
    planned = stack.run("deploy.plan").stdout
    assert "removed: no longer" in next(line for line in planned.splitlines() if " metrics " in line)
    stack.run("stack.remove", "--volumes", "--yes", "--quiet")


def test_an_old_project_is_read_on_a_server_and_runs_with_its_own_names(server, tmp_path):
    """Without docker here, `init` names both ways, and reads through a server; external things must be there, and names stay."""
    stack = copied(tmp_path, "legacy", "production")
    there = boxes.status()
    (tmp_path / "home" / ".ssh").mkdir(parents=True)
    shutil.copy(there.ssh_config, tmp_path / "home" / ".ssh" / "config")
    (tmp_path / "empty").mkdir()
    stack.variables |= {"PATH": str(tmp_path / "empty"), "HOME": str(tmp_path / "home")}
    refused = stack.run("init", env=False, status=2).stderr
    assert "install docker with compose on this machine" in refused
    assert "--server HOST" in refused
    assert not (stack.folder / "ops.toml").exists()

    said = stack.run("init", "--server", f"{own_name(server)}.sandbox", env=False).stdout
    assert "Wrote ops.toml, tasks.py, .env.example" in said
    assert f'address = "{own_name(server)}.sandbox"' in (stack.folder / "ops.toml").read_text()
    stack.edit("ops.toml", lambda text: 'ssh_config = "../home/.ssh/config"\n' + text)
    stack.edit("ops.toml", lambda text: text.replace('"git"', '"1.0"').replace('"name"', '"no"'))
    (stack.folder / ".env.production").write_text("DB_PASS=long-enough\n")
    (stack.folder / ".env.production").chmod(0o600)

    missing = stack.run("deploy", status=None)
    assert missing.returncode in (1, 2), missing.stderr
    assert "proxy" in missing.stderr
    assert "legacy_pgdata" in missing.stderr
    assert containers(server, "legacy-production") == []
    on(server, "docker network create proxy && docker volume create legacy_pgdata")

    stack.run("deploy", "--quiet")
    assert {one.name for one in containers(server, "legacy-production")} == {
        "legacy_web",
        "legacy_app",
        "legacy_db",
    }
    assert on(server, "curl -so /dev/null -w '%{http_code}' http://127.0.0.1:8080/") == "200"
    assert on(server, "docker exec legacy_web getent hosts app").strip(), "a link by name"
    assert "Nothing to do" in stack.run("deploy").stdout
    stack.run("stack.remove", "--volumes", "--yes", "--quiet")
    assert on(server, "docker volume ls -q").split() == ["legacy_pgdata"], (
        "what is external is not ours to remove"
    )
    on(server, "docker network rm proxy && docker volume rm legacy_pgdata")

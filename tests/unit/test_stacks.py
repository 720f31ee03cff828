"""The stacks under compose/: ordinary compose files that the tool can deploy, with nothing secret in them."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ops.config import load
from ops.config.folder import load_yaml, parse_yaml, scalars, yaml_files
from ops.config.interpolation import references
from ops.config.names import variables_of
from ops.config.settings import Settings

ROOT = Path(__file__).parents[2] / "compose"
STACKS = sorted(path.parent for path in ROOT.glob("*/ops.toml"))
IN_ENVIRONMENTS = [
    (stack, name)
    for stack in STACKS
    for name in tomllib.loads((stack / "ops.toml").read_text())["environments"]
]
DOCKERFILES = sorted(ROOT.glob("*/*/Dockerfile"))
PASSWORDS = {
    "DB_PASSWORD": "correct-horse",
    "REDIS_PASSWORD": "battery-staple",
    "MONGO_ROOT_PASSWORD": "tr0ub4dor-and-3",
    "WEBHOOK_SECRET": "a-shared-secret",
    "API_KEY": "a-bearer-key",
}

each_stack = pytest.mark.parametrize("stack", STACKS, ids=lambda path: path.name)
each_environment = pytest.mark.parametrize(
    ("stack", "environment"), IN_ENVIRONMENTS, ids=[f"{stack.name}-{name}" for stack, name in IN_ENVIRONMENTS]
)
each_dockerfile = pytest.mark.parametrize(
    "dockerfile", DOCKERFILES, ids=[path.parent.relative_to(ROOT).as_posix() for path in DOCKERFILES]
)


@pytest.fixture(autouse=True)
def passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPS_STACK", raising=False)
    for name, value in PASSWORDS.items():
        monkeypatch.setenv(name, value)


def services(stack: Path) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield file name, service name and service of every compose file."""
    for path in yaml_files(stack):
        document = load_yaml(path.read_bytes(), path.name)
        assert isinstance(document, dict)
        for name, service in document.get("services", {}).items():
            yield path.name, name, service


def base_services(stack: Path) -> dict[str, dict[str, Any]]:
    return {name: service for file, name, service in services(stack) if file == "compose.yaml"}


def secrets(stack: Path) -> set[str]:
    return set(load("staging", start=stack).config.secrets.required)


def texts(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for inner in value.values():
            yield from texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from texts(inner)
    else:
        yield str(value)


@each_environment
def test_the_configuration_loads_for_each_environment(stack: Path, environment: str) -> None:
    settings = load(environment, start=stack)
    assert isinstance(settings, Settings)
    assert settings.stack == stack.name
    assert settings.config.servers
    assert not settings.warnings
    assert all(path.is_file() for path in settings.compose_files)


@each_environment
def test_each_service_has_servers_that_run_it(stack: Path, environment: str) -> None:
    config = load(environment, start=stack).config
    assert set(config.services) == set(base_services(stack))
    for service in config.services.values():
        assert any(set(service.roles) & set(server.roles) for server in config.servers.values())


@each_environment
def test_compose_accepts_the_files_of_each_environment(stack: Path, environment: str) -> None:
    if not shutil.which("docker"):
        pytest.skip("there is no docker client here")
    settings = load(environment, start=stack)
    done = subprocess.run(
        ["docker", "compose", *settings.compose_arguments, "config", "--quiet"],
        cwd=stack,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@each_stack
def test_an_override_belongs_to_an_environment(stack: Path) -> None:
    known = {"compose.yaml", "compose.override.yaml"}
    known |= {f"compose.{name}.yaml" for name in load("staging", start=stack).environments}
    assert {path.name for path in stack.glob("compose*.yaml")} <= known


@each_stack
def test_no_secret_stands_where_every_user_of_the_server_can_read_it(stack: Path) -> None:
    hidden = secrets(stack)
    assert hidden
    for file, name, service in services(stack):
        for place in ("command", "entrypoint", "healthcheck", "labels", "build"):
            named = {found.name for text in texts(service.get(place, "")) for found in references(text)}
            assert not named & hidden, f"{file}: {name}.{place}"


@each_stack
def test_no_password_has_a_default(stack: Path) -> None:
    hidden = secrets(stack)
    used = set()
    for path in yaml_files(stack):
        for text in scalars(parse_yaml(path.read_bytes(), path.name)):
            for found in references(text):
                if found.name in hidden:
                    used.add(found.name)
                    assert found.operator == ":?", f"{path.name}: {text}"
        used |= variables_of(path, "secrets")  # where Compose refuses one without a value
    assert used == hidden
    for file, name, service in services(stack):
        for key, value in service.get("environment", {}).items():
            if re.search("PASS|SECRET|TOKEN|AUTH", key) and not str(value).startswith("/run/secrets/"):
                assert list(references(value)), f"{file}: {name} has {key} written out"


@each_stack
def test_the_example_asks_for_every_secret_and_gives_none(stack: Path) -> None:
    lines = (stack / ".env.example").read_text().splitlines()
    given = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert secrets(stack) <= set(given)
    assert set(given.values()) == {""}


@each_stack
def test_what_is_mounted_from_the_stack_folder_is_there(stack: Path) -> None:
    for file, name, service in services(stack):
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (stack / source).is_dir(), f"{file}: {name} mounts {source}, not a folder"


@each_stack
def test_each_rolling_service_has_an_upstream_to_begin_with(stack: Path) -> None:
    config = load("staging", start=stack).config
    assert config.proxy
    rolling = {name: service for name, service in config.services.items() if service.strategy == "rolling"}
    folder = stack / config.proxy.upstreams
    assert {path.name for path in folder.iterdir()} == {f"{name}.conf" for name in rolling}
    for name, service in rolling.items():
        text = (folder / f"{name}.conf").read_text()
        assert f"upstream {name} {{" in text
        assert f"server {name}:{service.port} resolve " in text
        assert not {"ports", "container_name"} & set(base_services(stack)[name])


@each_stack
def test_the_proxy_sends_no_write_twice(stack: Path) -> None:
    for path in (stack / "nginx" / "conf.d").glob("*.conf"):
        text = path.read_text()
        assert re.findall(r"proxy_next_upstream\s+([^;]+);", text) == ["error timeout"]
        assert "include /etc/nginx/upstreams/*.conf;" in text
        assert "keepalive_min_timeout 3s;" in text


@each_stack
def test_every_service_may_finish_what_it_does(stack: Path) -> None:
    for name, service in base_services(stack).items():
        assert int(service["stop_grace_period"].removesuffix("s")) >= 15, name


@each_dockerfile
def test_images_are_multi_stage_healthy_and_not_run_by_root(dockerfile: Path) -> None:
    text = dockerfile.read_text()
    stages = re.split(r"^FROM ", text, flags=re.M)[1:]
    assert len(stages) > 1
    last = stages[-1]
    users = re.findall(r"^USER (\S+)", last, flags=re.M)
    assert users
    assert users[-1] not in ("root", "0")
    assert re.search(r"^HEALTHCHECK .*--interval=[1-5]s .*CMD \[", last, flags=re.M)
    assert {"VERSION", "REVISION"} <= set(re.findall(r"^ARG (\w+)", last, flags=re.M))
    assert "APP_VERSION=$VERSION" in last
    assert not re.search(r"FROM \S+:latest|FROM [^:\s]+( AS|$)", text, flags=re.M)


@each_dockerfile
def test_only_what_an_image_needs_reaches_the_builder(dockerfile: Path) -> None:
    lines = (dockerfile.parent / ".dockerignore").read_text().splitlines()
    assert lines[0] == "*"
    for name in (line[1:] for line in lines if line.startswith("!")):
        assert (dockerfile.parent / name).exists(), name


@pytest.mark.parametrize(
    "requirements", sorted(ROOT.glob("*/*/requirements.txt")), ids=lambda path: path.parent.name
)
def test_packages_are_pinned(requirements: Path) -> None:
    assert all(
        re.fullmatch(r"[\w.-]+(\[[\w,]+\])?==[\d.]+", line) for line in requirements.read_text().split()
    )


def test_the_demo_is_read_in_a_minute() -> None:
    assert len((ROOT / "demo" / "web" / "app.py").read_text().splitlines()) < 90


def test_keys_and_certificates_stay_out_of_git() -> None:
    folder = ROOT / "pro-team-care" / "nginx" / "certs"
    assert (folder / ".gitignore").read_text().splitlines()[-2:] == ["*", "!.gitignore"]

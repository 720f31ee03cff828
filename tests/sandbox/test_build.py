"""Images built on this machine: pushed to a registry with a login, or served to servers through SSH."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from stacks import SERVERS, Stack

from ops import sandbox as boxes
from ops.build import build, serve_images
from ops.config import Settings, Version, load
from ops.config.logins import credentials
from ops.errors import OpsError
from ops.hosts import Host
from ops.hosts.fleet import Fleet
from ops.hosts.local import LocalHost

TOKEN = "npm_s3cret-token"
DOCKERFILE = """\
FROM python:3.13-slim AS packages
RUN mkdir /packages && echo 1 > /packages/one
FROM python:3.13-slim
COPY --from=packages /packages /packages
ARG VERSION
RUN --mount=type=secret,id=npm : NAME && cat /run/secrets/npm && wc -c < /run/secrets/npm > /token-size
RUN echo "$VERSION" > /version
"""
# Small, since all of it travels to every server; only the last layer depends on the version.
SMALL = """\
FROM scratch
COPY layer /layer
COPY more /more
ARG VERSION
COPY $VERSION /version
"""
COMPOSE = """\
services:
  web:
    build: {context: ./web, secrets: [npm]}
    environment: {PASSWORD: "${DB_PASSWORD:?set it}"}
secrets:
  npm: {environment: NPM_TOKEN}
"""
OPS = """\
version = "1.0"
[secrets]
required = ["DB_PASSWORD", "NPM_TOKEN"]
"""


@dataclass
class Shop(Stack):
    """A stack with one image of its own, under a name that no other test has."""

    name: str = ""
    port: int = 0

    @property
    def settings(self) -> Settings:
        """The settings, read under the stack's own variables."""
        os.environ.update(self.variables)
        return load(self.environment, start=self.folder)

    def on_host(self, *words: str) -> str:
        """Run docker on this machine's own engine."""
        own = {name: value for name, value in os.environ.items() if name != "DOCKER_HOST"}
        return subprocess.run(["docker", *words], env=own, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def shop(sandbox: boxes.Sandbox, tmp_path: Path) -> Iterator[Callable[..., Shop]]:
    """Make a stack folder; `registry` chooses the sandbox's registry and builder, or none and this machine."""
    made: list[Shop] = []

    def make(*, registry: bool, password: str = "", dockerfile: str = "") -> Shop:
        name = f"shop-{secrets.token_hex(3)}"
        folder = tmp_path / name
        (folder / "web").mkdir(parents=True)
        chosen = dockerfile or (DOCKERFILE if registry else SMALL)
        (folder / "web" / "Dockerfile").write_text(
            chosen.replace("NAME", name)
        )  # a step of its own, never cached
        for file in ("layer", "more", "1.0", "1.1"):
            (folder / "web" / file).write_bytes(secrets.token_bytes(100_000))
        (folder / "compose.yaml").write_text(COMPOSE)
        port = free_port()
        where = f'registry = "{sandbox.registry}"' if registry else f"forward_port = {port}"
        toml = f'{OPS}[build]\n{where}\n[registries."{sandbox.registry}"]\nusername = "{sandbox.username}"\n'
        toml += 'password = "env:REGISTRY_PASSWORD"\n'
        for server in SERVERS[:2]:
            toml += f'[servers.{server}]\naddress = "{server}.sandbox"\n'
        (folder / "ops.toml").write_text(
            f'ssh_config = "{sandbox.ssh_config}"\nstate_host = "{SERVERS[0]}"\n{toml}[environments.staging]\n'
        )
        variables = {
            "NPM_TOKEN": TOKEN,
            "REGISTRY_PASSWORD": password or sandbox.password,
            "OPS_REGISTRY_IMAGE": registry_image(sandbox),
            "XDG_CACHE_HOME": str(tmp_path / "cache"),
        }
        if registry:
            variables["DOCKER_HOST"] = f"unix://{sandbox.builder_socket}"
        made.append(Shop(folder, "staging", variables, name=name, port=port))
        return made[-1]

    yield make
    for each in made:
        with contextlib.suppress(subprocess.CalledProcessError):
            each.on_host("rm", "--force", f"opsbook-registry-{each.port}")
        with contextlib.suppress(subprocess.CalledProcessError):
            each.on_host("volume", "rm", f"opsbook-registry-{each.name}")
        listed = each.on_host("image", "ls", "-q", "--filter", f"reference=*/{each.name}/*").split()
        if listed:
            each.on_host("image", "rm", "--force", *listed)


def registry_image(sandbox: boxes.Sandbox) -> str:
    """Return what stands in for registry:2 where it cannot be pulled."""
    if sandbox.images == "upstream":
        return "registry:2"
    words = [
        "docker",
        "image",
        "ls",
        "--filter",
        "reference=opsbook-sandbox/registry",
        "--format",
        "{{.Repository}}:{{.Tag}}",
    ]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()[0]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(done: Callable[[], object], seconds: float = 30.0) -> None:
    """Poll until something is true; fail past the deadline."""
    deadline = time.monotonic() + seconds
    waiting = threading.Event()
    while not done():
        assert time.monotonic() < deadline, "this did not come true in time"
        waiting.wait(0.05)


def private_folders(stack: Shop) -> list[Path]:
    """Return the folders that builds of a stack have for logins and secrets."""
    files = [file for place in ("/dev/shm", "/tmp") for file in Path(place).glob("ops.*/interpolation.env")]
    return [file.parent for file in files if file.is_file() and stack.name in file.read_text()]


@contextlib.contextmanager
def servers_of(settings: Settings, count: int = 2) -> Iterator[dict[str, Host]]:
    """Connect to the stack's servers for a while."""
    with Fleet(settings.config, settings.folder, settings.environment, only=SERVERS[:count]) as fleet:
        yield fleet.hosts


def pulled_labels(settings: Settings, reference: str) -> dict[str, str]:
    """Pull an image on the first server with the stack's login and return its labels."""
    from ops.deploy.images import pull

    with servers_of(settings, 1) as hosts:
        host = hosts[SERVERS[0]]
        answer = host.run(pull([reference], credentials(settings, [reference]), 120.0)).stdout
        assert "\t{" in answer, answer
        from ops.commands import command

        shown = host.run(
            command("docker", "image", "inspect", "--format", "{{json .Config.Labels}}", reference)
        )
        labels: dict[str, str] = json.loads(shown.stdout)
        return labels


@pytest.mark.parity("S4")
def test_a_pushed_image_bears_version_and_title_where_a_server_pulls_it(shop):
    stack = shop(registry=True)
    document = stack.json("build", "--push")
    reference = document["data"]["images"]["web"]["reference"]
    assert reference == f"registry.sandbox:5000/{stack.name}/web:1.0"
    assert document["digests"]["web"].startswith("sha256:")
    labels = pulled_labels(stack.settings, reference)
    assert labels["org.opencontainers.image.version"] == "1.0"
    assert labels["org.opencontainers.image.title"] == f"{stack.name}/web"
    assert labels["org.opencontainers.image.created"].endswith("Z")
    assert "org.opencontainers.image.revision" not in labels, "the folder is in no repository"


@pytest.mark.parity("S4")
def test_the_commit_stands_in_the_labels_and_names_the_version(shop):
    stack = shop(registry=True)
    stack.edit("ops.toml", lambda text: text.replace('version = "1.0"', 'version = "git"'))
    for words in (("init", "-q"), ("add", "."), ("commit", "-q", "-m", "first")):
        identity = ("-c", "user.name=ops", "-c", "user.email=ops@example.org")
        subprocess.run(["git", *identity, *words], cwd=stack.folder, check=True)
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=stack.folder, capture_output=True, text=True, check=True
    )
    document = stack.json("build", "--push")
    labels = pulled_labels(stack.settings, document["data"]["images"]["web"]["reference"])
    assert labels["org.opencontainers.image.revision"] == head.stdout.strip() == document["revision"]
    assert head.stdout.startswith(labels["org.opencontainers.image.version"])


def test_the_demo_is_built_multi_stage_for_a_user_without_rights(demo, sandbox):
    stack = demo("staging")
    stack.variables["DOCKER_HOST"] = f"unix://{sandbox.builder_socket}"
    document = stack.json("build", "--push", "--version", "build-test")
    reference = document["data"]["images"]["web"]["reference"]
    inspect = subprocess.run(
        ["docker", "image", "inspect", "--format", "{{.Config.User}} {{.Config.Healthcheck}}", reference],
        env={**os.environ, **stack.variables},
        capture_output=True,
        text=True,
        check=True,
    )
    assert inspect.stdout.startswith("app ")
    assert "/health" in inspect.stdout


def test_a_build_secret_reaches_the_build_and_no_log_and_nothing_is_left_of_it(shop):
    stack = shop(registry=True)
    done = stack.run("build")
    (log,) = (stack.folder / ".ops" / "logs").glob("*.log")
    told = done.stdout + done.stderr + log.read_text()
    assert TOKEN not in told
    assert "***" in log.read_text(), "the step that prints the secret was to be seen, masked"
    assert log.stat().st_mode & 0o077 == 0
    assert private_folders(stack) == []


def test_a_wrong_password_is_told_with_the_entry_to_look_at(shop):
    stack = shop(registry=True, password="not-the-password")
    document = stack.json("build", "--push", status=1)
    assert "registry.sandbox:5000 refuses" in document["error"]["message"]
    assert (
        document["error"]["next_step"]
        == 'check [registries."registry.sandbox:5000"] in ops.toml and its password'
    )
    assert document["targets"]["web"]["result"] == "failed"


def test_a_failing_step_is_told_with_the_end_of_the_log_and_its_path(shop):
    stack = shop(registry=True, dockerfile="FROM python:3.13-slim\nRUN echo no such compiler >&2 && exit 7\n")
    done = stack.run("build", status=1)
    assert "no such compiler" in done.stderr
    assert "exit code: 7" in done.stderr
    assert f"Log: {stack.folder}/.ops/logs/" in done.stderr


def test_the_users_own_configuration_stays_in_use_and_unwritten(shop, tmp_path):
    stack = shop(registry=True)
    own = tmp_path / "dot-docker"
    own.mkdir()
    config = json.dumps(
        {"credsStore": "absent-helper", "auths": {"ghcr.io": {}}, "HttpHeaders": {"X-Mine": "1"}}
    )
    (own / "config.json").write_text(config)
    stack.variables["DOCKER_CONFIG"] = str(own)
    stack.run("build", "--push")
    assert (own / "config.json").read_text() == config


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_the_build_and_leaves_nothing(shop, sandbox, number):
    there = registry_image(sandbox)  # the one image that this machine's own engine surely has
    stack = shop(registry=False, dockerfile=f"FROM {there}\nRUN echo begun && sleep 300\n")
    logs = stack.folder / ".ops" / "logs"

    def begun() -> bool:
        lines = [line for path in logs.glob("*.log") for line in path.read_text().splitlines()]
        return any("begun" in line and "RUN" not in line for line in lines)

    with stack.start("build") as process:
        try:
            until(begun)
            assert private_folders(stack) != []
            process.send_signal(number)
            _, told = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 128 + number
    assert "the build was interrupted" in told
    assert private_folders(stack) == []
    assert not stack.on_host("ps", "-aq", "--filter", f"name=opsbook-registry-{stack.port}")


@pytest.mark.parity("D3")
def test_without_a_registry_servers_pull_through_ssh_what_was_built_here(shop):
    stack = shop(registry=False)
    document = stack.json("build")
    image = document["data"]["images"]["web"]
    assert image["reference"] == f"127.0.0.1:{stack.port}/{stack.name}/web:1.0"
    assert image["digest"].startswith("sha256:")
    settings = stack.settings
    local = LocalHost("this machine")
    from ops.deploy.images import pull

    with servers_of(settings) as hosts:
        with serve_images(settings, local)(hosts):
            for host in hosts.values():
                answer = host.run(pull([image["reference"]], None, 120.0)).stdout
                assert image["digest"] in answer, answer
        for host in hosts.values():
            with pytest.raises(ConnectionRefusedError):
                host.connect("127.0.0.1", stack.port)
    assert not stack.on_host("ps", "-aq", "--filter", f"name=opsbook-registry-{stack.port}")


def test_a_second_push_sends_only_what_changed(shop):
    stack = shop(registry=False)
    stack.run("build", "--version", "1.0")
    stack.run("build", "--version", "1.1")
    newest = max((stack.folder / ".ops" / "logs").glob("*.log"), key=lambda path: path.stat().st_mtime_ns)
    lines = newest.read_text().splitlines()
    assert (
        sum("Layer already exists" in line for line in lines) > sum(": Pushed" in line for line in lines) >= 1
    )


def test_a_registry_that_a_killed_run_left_is_used_and_cleared_away(shop):
    stack = shop(registry=False)
    settings = stack.settings
    script = (
        "import sys, time\nfrom pathlib import Path\nfrom ops.build.throwaway import throwaway_registry\n"
        "from ops.config import load\nfrom ops.hosts.local import LocalHost\n"
        "with throwaway_registry(load('staging', start=Path('.')), LocalHost('here')):\n"
        "    print('up', flush=True)\n    sys.stdin.read()\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=stack.folder,
        env=stack.environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "up\n"
        first = stack.on_host("ps", "-q", "--filter", f"name=opsbook-registry-{stack.port}")
        build(settings, LocalHost("here"), Version("1.0"))
        still = stack.on_host("ps", "-q", "--filter", f"name=opsbook-registry-{stack.port}")
        assert first == still != "", "the first run's registry must outlive the second run"
        holder.kill()
    assert stack.on_host("ps", "-q", "--filter", f"name=opsbook-registry-{stack.port}"), (
        "killed, so still there"
    )
    build(settings, LocalHost("here"), Version("1.0"))
    assert not stack.on_host("ps", "-aq", "--filter", f"name=opsbook-registry-{stack.port}")


def test_a_port_that_another_program_has_is_named(shop):
    stack = shop(registry=False)
    with socket.socket() as other:
        other.bind(("127.0.0.1", stack.port))
        other.listen()
        document = stack.json("build", status=1)
    assert f"port {stack.port} of this machine is taken by another program" in document["error"]["message"]
    assert "forward_port" in document["error"]["next_step"]


def test_a_port_that_is_in_use_on_a_server_is_named(shop):
    stack = shop(registry=False)
    stack.run("build")
    settings = stack.settings
    with servers_of(settings) as hosts:
        first = hosts[SERVERS[0]]
        with (
            first.expose(stack.port, stack.port),
            servers_of(settings) as again,
            pytest.raises(OpsError) as caught,
            serve_images(settings, LocalHost("here"))(again),
        ):
            pass
    assert caught.value.target == SERVERS[0]
    assert "forward_port" in (caught.value.next_step or "")


def test_an_engine_behind_a_socket_that_is_not_on_this_machine_is_refused(shop, sandbox):
    stack = shop(registry=False)
    stack.variables |= {"DOCKER_HOST": f"unix://{sandbox.builder_socket}", "OPS_REGISTRY_IMAGE": "registry:2"}
    document = stack.json("build", status=1)
    assert "on another machine" in document["error"]["message"]
    assert "unset DOCKER_HOST" in document["error"]["next_step"]
    left = subprocess.run(
        ["docker", "ps", "-aq", "--filter", f"name=opsbook-registry-{stack.port}"],
        env=stack.environ,
        capture_output=True,
        text=True,
        check=True,
    )
    assert left.stdout == ""


def test_an_image_of_the_registry_that_cannot_be_had_is_one_clear_error(shop):
    stack = shop(registry=False)
    stack.variables["OPS_REGISTRY_IMAGE"] = "registry.sandbox:5000/nowhere:1"
    document = stack.json("build", status=1)
    assert "cannot be pulled" in document["error"]["message"]
    assert "OPS_REGISTRY_IMAGE" in document["error"]["next_step"]

"""No secret in any process argument, log, document or file that another user may read; only what is asked to print it does."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from conftest import Stack, on_this_set
from fleets import demo_copy, emptied, on, own_name
from tracing import Trace, leaks, traced, traced_run

from ops import sandbox as boxes
from ops.sandbox.layout import layout

PASSWORD = "pä $HOME;\"quoted\" 'single' \\back %41+/=<&>"
TOKEN = "tökén-'\"\\$X %+/=&; of-the-build"
DAEMONS = ("sshd", "dockerd", "containerd")

BUILD_STEP = "RUN --mount=type=secret,id=build_token,required=true test -s /run/secrets/build_token && echo $APP_VERSION\n"
HOOKS = """
[[notify]]
kind = "log"

[[hooks]]
on = "before"
phase = "switch"
where = "operator"
run = "env; printf %s \\"$GIVEN\\" | base64 -w0"
environment = { GIVEN = "env:DB_PASSWORD" }

[[hooks]]
on = "after"
phase = "switch"
where = "servers"
run = "env; printf %s \\"$GIVEN\\" | base64 -w0"
environment = { GIVEN = "env:DB_PASSWORD" }
"""


def quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


@dataclass
class Story:
    """A build, two deploys and a rollback of the demo: what was executed meanwhile, and what was told."""

    stack: Stack
    secrets: tuple[str, ...]
    here: Trace = field(default_factory=Trace)
    builder: Trace = field(default_factory=Trace)
    server: Trace = field(default_factory=Trace)
    told: list[str] = field(default_factory=list)

    def run(self, *words: str) -> None:
        done, trace = traced_run(
            layout().container(own_name("web1")),
            self.stack.command(*words),
            self.stack.folder,
            self.stack.environ,
        )
        self.told += [done.stdout, done.stderr]
        self.here.calls += trace.calls
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"


@pytest.fixture(scope="module")
def story(sandbox: boxes.Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    stack = demo_copy(tmp_path_factory.mktemp("secrets") / "demo", emptied("web1"), "staging")
    stack.edit("ops.toml", lambda text: text.replace("replicas = 3", "replicas = 1") + HOOKS)
    stack.edit(
        "compose.yaml",
        lambda text: (
            text.replace("build: ./web\n", "build: {context: ./web, secrets: [build_token]}\n")
            + "secrets:\n  build_token:\n    environment: BUILD_TOKEN\n"
        ),
    )
    stack.edit("web/Dockerfile", lambda text: text.replace("USER app\n", BUILD_STEP + "USER app\n"))
    (stack.folder / ".env").write_text(
        f"DB_PASSWORD={quoted(PASSWORD)}\nBUILD_TOKEN={quoted(TOKEN)}\n"
        f"REGISTRY_USERNAME={sandbox.username}\nREGISTRY_PASSWORD={sandbox.password}\n"
    )
    (stack.folder / ".env").chmod(0o600)
    stack.variables["DOCKER_HOST"] = f"unix://{sandbox.builder_socket}"
    story = Story(stack, (PASSWORD, TOKEN, sandbox.password))
    old, new = (f"3.{n}.0-{os.getpid()}" for n in (0, 1))
    with traced(layout().container("builder"), DAEMONS[1:]) as story.builder:
        story.run("build", "--push", "--version", old)
        story.run("build", "--push", "--json", "--version", new)
    del stack.variables["DOCKER_HOST"]
    with traced(layout().container(own_name("web1")), DAEMONS) as story.server:
        story.run("deploy", "--version", old)
        story.run("deploy", "--json", "--version", new)
        story.run("deploy.rollback", "--yes")
    for words in (("deploy.history", "--json"), ("deploy.status", "--json"), ("deploy.plan", "--json")):
        options = ("--version", new) if words[0] == "deploy.plan" else ()
        story.told.append(stack.run(*words, *options).stdout)
    yield story


@pytest.mark.holds(10)
@pytest.mark.parity("K2")
def test_no_secret_is_an_argument_of_any_process(story: Story) -> None:
    """From the build to the rollback no process that any of it starts, on any machine, has a secret in its arguments."""
    for trace, expected in (
        (story.here, (("docker", "buildx", "build"), ("docker", "compose", "config"))),
        (story.builder, (("runc", "init"), ("test -s /run/secrets/build_token",))),
        (
            story.server,
            (
                ("docker", "pull", "registry.sandbox"),
                ("docker", "compose", "run", "migrate"),
                ("python", "app.py", "migrate"),
                ("initdb", "--pwfile"),
                ("nginx", "reload"),
                ("docker", "compose", "up"),
                ("docker", "stop"),
            ),
        ),
    ):
        for words in expected:
            assert trace.ran(*words), f"{words} is not in the trace, so the trace proves nothing"
        assert leaks(trace.lines, story.secrets) == []


@pytest.mark.holds(10)
def test_no_secret_is_told_logged_or_left_to_be_read(story: Story) -> None:
    """Output, logs, notifications, the journal and every file but .env are free of secrets, although hooks print them."""
    told = [line.encode() for text in story.told for line in (text, *text.split("\n"))]
    assert leaks(told, story.secrets) == []
    kept = [path for path in (story.stack.folder / ".ops").rglob("*") if path.is_file()]
    assert any("***" in path.read_text() for path in kept), "the hooks print it, masked"
    assert any(path.name == "notify.log" for path in kept)
    assert leaks((path.read_bytes() for path in kept), story.secrets) == []
    assert {
        path.stat().st_mode & 0o077 for path in kept if path.suffix == ".log" and path.parent.name == "logs"
    } == {0}
    root = "/opt/demo/staging"
    names = on("web1", f"find {root} -type f ! -name '.env*' -print0").split("\0")
    assert any(name.endswith("release.json") for name in names)
    read = on("web1", f"find {root} -type f ! -name '.env*' -exec cat {{}} +")
    assert leaks([read.encode()], story.secrets) == []
    images = on(
        "web1",
        "docker image ls -q | sort -u | xargs docker image inspect; "
        "docker image ls -q | sort -u | xargs -n1 docker history --no-trunc; "
        "docker ps -a --no-trunc; docker ps -aq | xargs docker inspect --format '{{json .Config.Labels}} {{json .Args}} "
        "{{json .Config.Cmd}} {{json .Config.Healthcheck}}'; docker ps -aq | xargs -n1 docker logs 2>&1",
    )
    assert "demo/web" in images
    assert leaks(images.encode().split(b"\n"), story.secrets) == []
    state = on("web1", "cat /root/.docker/config.json 2>/dev/null; find /dev/shm /tmp -mindepth 1; true")
    assert leaks([state.encode()], story.secrets) == []
    assert "ops." not in state


@pytest.mark.holds(10)
def test_another_user_of_the_server_reads_nothing_of_a_stack(story: Story) -> None:
    """An account without rights to Docker comes neither into releases nor files, and no .env is open to it."""
    root = "/opt/demo/staging"
    assert on("web1", f"find {root} -name '.env*' -printf '%m\\n' | sort -u").split() == ["600"]
    assert on("web1", f"cd {root} && stat -c %a releases files").split() == ["700", "700"]
    for folder in ("releases", "files", "proxy", "locks", "shared"):
        said = on("web1", f"su deploy -c 'ls {root}/{folder}' 2>&1; test $? -ne 0")
        assert "Permission denied" in said
    found = on(
        "web1",
        "su deploy -c \"find / -xdev -not -path '/proc/*' -type f -readable -newermt '-1 hour' -print0\" 2>/dev/null"
        " | xargs -0 cat 2>/dev/null || true",
    )
    assert leaks([found.encode()], story.secrets) == []


SPILL = """\
import base64, json, os, shlex, sys, urllib.parse

secret = os.environ["TOKEN"]
print("wrong password", secret)
print(json.dumps({"it": secret}), json.dumps({"it": secret}, ensure_ascii=False))
print(os.environ)
print([secret], [secret.encode()], shlex.quote(secret))
print(urllib.parse.quote(secret), urllib.parse.quote(secret, safe=""), urllib.parse.urlencode({"a": secret}))
for before in ("", "a", "ab"):
    print(base64.b64encode((before + secret + "xy").encode()).decode())
sys.exit(7)
"""
SMALL = """\
services:
  app:
    image: IMAGE
    command: ["python", "/app/APP.py"]
    stop_grace_period: 1s
    environment:
      TOKEN: ${TOKEN:?set it in .env}
    volumes:
      - ./app:/app:ro
"""
SMALL_TOML = """\
stack = "small"
version = "1.0.0"
ssh_config = "../../.sandbox/ssh_config"

[secrets]
required = ["TOKEN"]

[registries."registry.sandbox:5000"]
username = "env:REGISTRY_USERNAME"
password = "env:REGISTRY_PASSWORD"

[services.app.health]
timeout = 10

[[notify]]
kind = "log"

[environments.test.servers.web1]
address = "web1.sandbox"
"""
SPILLING_HOOK = """
[[hooks]]
on = "before"
phase = "switch"
where = "WHERE"
run = "python3 app/spill.py 2>&1 || { env; set -x; : \\"$TOKEN\\"; exit 7; }"
environment = { TOKEN = "env:TOKEN" }
"""
MIGRATION = '\n[migrate]\nservice = "app"\ncommand = ["python", "/app/spill.py"]\n'


def small(folder: Path, sandbox: boxes.Sandbox, *, app: str = "wait", toml: str = "") -> Stack:
    """Write a stack of one service that waits, or spills its secret in every spelling and ends."""
    (folder / "app").mkdir(parents=True)
    (folder / "app" / "spill.py").write_text(SPILL)
    (folder / "app" / "wait.py").write_text("import signal\nsignal.pause()\n")
    (folder / "compose.yaml").write_text(SMALL.replace("IMAGE", "python:3.13-slim").replace("APP", app))
    (folder / "ops.toml").write_text(on_this_set(SMALL_TOML, sandbox) + toml)
    (folder / ".env").write_text(
        f"TOKEN={quoted(TOKEN)}\nREGISTRY_USERNAME={sandbox.username}\nREGISTRY_PASSWORD={quoted(PASSWORD)}\n"
    )
    (folder / ".env").chmod(0o600)
    return Stack(folder, "test")


FAULTS = {
    "container": ({"app": "spill"}, 3, "wrong password ***"),
    "migration": ({"toml": MIGRATION}, 4, "the migration failed with status 7"),
    "hook here": ({"toml": SPILLING_HOOK.replace("WHERE", "operator")}, 3, "failed with status 7"),
    "hook there": ({"toml": SPILLING_HOOK.replace("WHERE", "servers")}, 3, "failed with status 7"),
    "warned hook": (
        {"toml": SPILLING_HOOK.replace("WHERE", "operator") + 'on_error = "warn"\n'},
        0,
        "failed with status 7",
    ),
}


@pytest.mark.holds(10)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_failure_tells_what_was_printed_with_secrets_masked(
    sandbox: boxes.Sandbox, tmp_path: Path, fault: str
) -> None:
    """What a container, a migration or a hook prints before it fails is told to people and machines, its secrets masked."""
    options, status, words = FAULTS[fault]
    stack = small(tmp_path / "small", emptied("web1"), **options)
    document = stack.run("deploy", "--json", status=status)
    text = stack.run("deploy", "--version", "1.0.1", status=status)
    assert words in json.loads(document.stdout)["error"]["message"] if status else words in document.stdout
    told = [document.stdout, document.stderr, text.stdout, text.stderr]
    assert words in text.stdout + text.stderr
    told += [path.read_text() for path in (stack.folder / ".ops").rglob("*") if path.is_file()]
    told.append(on("web1", "cat /opt/small/test/journal.jsonl"))
    told.append(stack.run("deploy.history", "--json").stdout)
    assert leaks([line.encode() for one in told for line in one.split("\n")], (TOKEN, PASSWORD)) == []

"""No secret in any process argument, log, document or file that another user may read; only what is asked to print it does."""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from conftest import ROOT, Stack, on_this_set
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
def story(sandbox: boxes.Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Story:
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
    return story


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
    assert words in json.loads(document.stdout)["error"]["message"] if status else words in document.stdout
    told = [document.stdout, document.stderr]
    if fault == "container":  # all are told to people by the same few lines
        text = stack.run("deploy", status=status)
        assert words in text.stderr
        told += [text.stdout, text.stderr]
    told += [path.read_text() for path in (stack.folder / ".ops").rglob("*") if path.is_file()]
    told.append(on("web1", "cat /opt/small/test/journal.jsonl"))
    told.append(stack.run("deploy.history", "--json").stdout)
    assert leaks([line.encode() for one in told for line in one.split("\n")], (TOKEN, PASSWORD)) == []


@pytest.mark.holds(10)
def test_a_refused_login_names_the_registry_and_not_the_password(
    sandbox: boxes.Sandbox, tmp_path: Path
) -> None:
    """A wrong registry password fails the deploy before any change; neither arguments nor words hold it."""
    stack = small(tmp_path / "small", emptied("web1"))
    stack.edit(
        "compose.yaml", lambda text: text.replace("python:3.13-slim", "registry.sandbox:5000/demo/none:1")
    )
    container = layout().container(own_name("web1"))
    with traced(container, DAEMONS) as there:
        done, here = traced_run(container, stack.command("deploy", "--json"), stack.folder, stack.environ)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "registry.sandbox:5000 refuses" in json.loads(done.stdout)["error"]["message"]
    assert there.ran("docker", "pull", "registry.sandbox:5000/demo/none:1")
    assert leaks([*there.lines, *here.lines], (TOKEN, PASSWORD, sandbox.password)) == []
    kept = [path.read_bytes() for path in (stack.folder / ".ops").rglob("*") if path.is_file()]
    assert leaks([done.stdout.encode(), done.stderr.encode(), *kept], (TOKEN, PASSWORD)) == []
    assert on("web1", "find /dev/shm /tmp -mindepth 1") == ""


LEAK = """
[[hooks]]
on = "before"
phase = "switch"
where = "WHERE"
run = '''COMMAND'''
environment = { TOKEN = "env:TOKEN" }
"""


@pytest.mark.holds(10)
def test_a_secret_in_an_argument_is_found_wherever_it_stands_and_warned_of(
    sandbox: boxes.Sandbox, tmp_path: Path
) -> None:
    """The search that finds nothing elsewhere finds leaks made on purpose, and a compose file's own are told with their lines."""
    encoded = '/bin/true $(printf "x%s" "$TOKEN" | base64 -w0)'
    hooks = LEAK.replace("WHERE", "operator").replace("COMMAND", '/bin/true "user:$TOKEN"')
    hooks += LEAK.replace("WHERE", "servers").replace("COMMAND", encoded)
    stack = small(tmp_path / "small", emptied("web1"), toml=hooks)
    leaking = """\
    healthcheck:
      test: ["CMD", "true", "${TOKEN}"]
      interval: 1s
      timeout: 20s
"""
    stack.edit(
        "compose.yaml", lambda text: text.replace('wait.py"]', 'wait.py", "--token=$TOKEN"]') + leaking
    )
    container = layout().container(own_name("web1"))
    with traced(container, DAEMONS) as there:
        done, here = traced_run(container, stack.command("deploy", "--json"), stack.folder, stack.environ)
    assert done.returncode == 0, done.stdout + done.stderr
    assert any(b"user:" in line for line in leaks(here.lines, (TOKEN,)))
    found = leaks(there.lines, (TOKEN,))
    assert any(b"/bin/true" in line for line in found), "in base64, on the server"
    assert any(b"--token=" in line and b"wait.py" in line for line in found), "inside a container"
    assert any(line.endswith(b" true " + TOKEN.encode()) for line in found), "its healthcheck"
    warnings = json.loads(done.stdout)["warnings"]
    lines = (stack.folder / "compose.yaml").read_text().split("\n")
    for where, text in (("command", "wait.py"), ("healthcheck", "CMD")):
        number = next(n for n, line in enumerate(lines, 1) if text in line)
        told = [one for one in warnings if f"the {where} holds the secret TOKEN" in one]
        assert len(told) == 1, warnings
        assert f"(compose.yaml:{number})" in told[0]


@pytest.mark.holds(10)
@pytest.mark.parametrize(
    ("name", "environment"), [("demo", "staging"), ("pro-team-care", "staging"), ("gatekeeper", "staging")]
)
def test_our_own_stacks_put_no_secret_into_a_command(
    sandbox: boxes.Sandbox, tmp_path: Path, name: str, environment: str
) -> None:
    """A plan of the stacks that come with Opsbook warns of nothing."""
    folder = tmp_path / name
    shutil.copytree(ROOT / "compose" / name, folder, ignore=shutil.ignore_patterns(".env", ".ops"))
    (folder / "ops.toml").write_text(on_this_set((folder / "ops.toml").read_text(), emptied("web1")))
    required = ("DB_PASSWORD", "REDIS_PASSWORD", "REGISTRY_PASSWORD")
    required += ("MONGO_ROOT_PASSWORD", "WEBHOOK_SECRET", "API_KEY")
    (folder / ".env").write_text(
        "REGISTRY_USERNAME=someone\n" + "".join(f"{each}={quoted(TOKEN + each)}\n" for each in required)
    )
    (folder / ".env").chmod(0o600)
    done = Stack(folder, environment).json("deploy.plan", "--version", "1.0.0")
    assert done["data"]["warnings"] == []


@pytest.mark.holds(10)
def test_values_are_their_owners_alone_from_the_first_byte(sandbox: boxes.Sandbox, tmp_path: Path) -> None:
    """Whatever writes .env on a server, in a deploy or a rollback, creates it 0600 in a folder that no other user enters."""
    stack = small(tmp_path / "small", emptied("web1"))
    container = layout().container(own_name("web1"))
    with traced(
        container, ("sshd",), "open,openat,creat,chmod,fchmodat,fchmodat2,mkdir,mkdirat,umask"
    ) as trace:
        stack.run("deploy")
        stack.edit(".env", lambda text: text.replace("TOKEN='", "TOKEN='new-"))
        stack.run("deploy", "--version", "1.0.1")
        stack.run("deploy.rollback", "--yes")
    private, made = 0o077, []
    for call, strings, rest in trace.calls:
        if not strings or b".env" not in (name := strings[-1].rpartition(b"/")[2]):
            continue
        if "chmod" in call or (call in ("open", "openat", "creat") and b"O_CREAT" in rest):
            (mode,) = re.findall(rb"\b0[0-7]{3}\b", rest) or (b"0777",)
            made.append((name.decode(), int(mode, 8)))
    assert {".env", ".env.next", ".env.release.next"} <= {name for name, _ in made}
    # A shell's `>` asks for 0666 under its umask; tar, cp and chmod say what they mean.
    assert {(name, mode) for name, mode in made if mode & private} <= {(".env.next", 0o666)}
    assert [rest for call, _, rest in trace.calls if call == "umask" and rest.startswith(b"077")]
    assert on("web1", "find /opt/small/test -name '.env*' ! -perm 600") == ""
    folders = [rest for call, strings, rest in trace.calls if "mkdir" in call and b".incoming-" in strings[0]]
    assert any(b"0700" in rest for rest in folders)
    assert on("web1", "stat -c %a /opt/small/test/releases /opt/small/test/files").split() == ["700", "700"]

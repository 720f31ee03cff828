"""What forbids a deploy is found before anything is touched: exit code, message, and a server as it was."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import pytest
from fleets import emptied, on, own_name
from stacks import Stack
from tiny import behave, current, releases, standing, tiny

from ops import sandbox as boxes

REGISTRY = "registry.sandbox:5000"


@pytest.fixture(scope="module")
def deployed(
    sandbox: boxes.Sandbox, images: Callable[..., None], tmp_path_factory: pytest.TempPathFactory
) -> Stack:
    """The stack with 1.0.0 on the first server; the second is empty."""
    images("1.0.0")
    stack = tiny(tmp_path_factory.mktemp("refusals") / "tiny", emptied("web1", "web2"), replicas=1)
    stack.run("deploy", "--version", "1.0.0")
    return stack


@dataclass(frozen=True)
class Refusal:
    """One reason: what makes it, the exit code, and what the message must hold."""

    make: Callable[[Stack, boxes.Sandbox], AbstractContextManager[None] | None]
    exit_code: int
    says: tuple[str, ...]


def toml(old: str, new: str) -> Callable[[Stack, boxes.Sandbox], None]:
    """Return what replaces a text in ops.toml."""

    def make(stack: Stack, sandbox: boxes.Sandbox) -> None:
        stack.edit("ops.toml", lambda text: replaced(text, old, new))

    return make


def compose(old: str, new: str) -> Callable[[Stack, boxes.Sandbox], None]:
    """Return what replaces a text in compose.yaml."""

    def make(stack: Stack, sandbox: boxes.Sandbox) -> None:
        stack.edit("compose.yaml", lambda text: replaced(text, old, new))

    return make


def replaced(text: str, old: str, new: str) -> str:
    assert old in text, f"{old!r} is not in the file"
    return text.replace(old, new, 1)


@contextmanager
def on_the_server(script: str, undo: str, server: str = "web1") -> Iterator[None]:
    """Run a script on a server, and another one at the end."""
    on(server, script)
    try:
        yield
    finally:
        on(server, undo)


own_image = toml("port = 8000", f'port = 8000\nimage = "{REGISTRY}/demo/web:{{version}}"')


def registry_down(stack: Stack, sandbox: boxes.Sandbox) -> AbstractContextManager[None]:
    own_image(stack, sandbox)
    rule = "OUTPUT -p tcp --dport 5000 -j REJECT"
    return on_the_server(f"iptables -I {rule}", f"iptables -D {rule}")


def unreachable(stack: Stack, sandbox: boxes.Sandbox) -> None:
    address = sandbox.server(own_name("web1")).address.rpartition(".")[0] + ".250"
    server = f'\n[environments.test.servers.gone]\naddress = "{address}"\nprivate_address = "{address}"\n'
    stack.edit("ops.toml", lambda text: text + server)


def disk_full(stack: Stack, sandbox: boxes.Sandbox) -> AbstractContextManager[None]:
    toml('stack = "tiny"', 'stack = "tiny"\nbase = "/small/opt"')(stack, sandbox)
    mount = "mkdir -p /small && mount -t tmpfs -o size=8m none /small && mkdir -p /small/opt && cp -a /opt/tiny /small/opt"
    return on_the_server(
        mount,
        "diff -r --exclude locks --exclude fence --exclude '.fence.lock' --exclude journal.jsonl /opt/tiny /small/opt/tiny; "
        "s=$?; umount /small && rmdir /small && exit $s",
    )


def missing_secret(stack: Stack, sandbox: boxes.Sandbox) -> None:
    stack.edit(".env", lambda text: text.replace("TOKEN=", "TOKEN_OF_OLD="))


def ssh_of_its_own(stack: Stack, sandbox: boxes.Sandbox, key: Path, known_hosts: str) -> None:
    name = own_name("web1")
    (stack.folder / "hosts").write_text(known_hosts)
    (stack.folder / "own_ssh_config").write_text(
        f"Host {name}.sandbox\n  HostName {sandbox.server(name).address}\n  User root\n  IdentityFile {key}\n"
        f"  IdentitiesOnly yes\n  UserKnownHostsFile {stack.folder}/hosts\n"
    )
    stack.edit("ops.toml", lambda text: replaced(text, str(sandbox.ssh_config), "own_ssh_config"))


def fresh_key(stack: Stack) -> Path:
    path = stack.folder / "other_key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(path)], check=True)
    return path


def wrong_key(stack: Stack, sandbox: boxes.Sandbox) -> None:
    ssh_of_its_own(stack, sandbox, fresh_key(stack), sandbox.known_hosts.read_text())


def unknown_host_key(stack: Stack, sandbox: boxes.Sandbox) -> None:
    ssh_of_its_own(stack, sandbox, sandbox.ssh_key, "")


def changed_host_key(stack: Stack, sandbox: boxes.Sandbox) -> None:
    name = own_name("web1")
    kind, body = fresh_key(stack).with_suffix(".pub").read_text().split()[:2]
    known = "".join(f"{who} {kind} {body}\n" for who in (f"{name}.sandbox", sandbox.server(name).address))
    ssh_of_its_own(stack, sandbox, sandbox.ssh_key, known)


def foreign_project(stack: Stack, sandbox: boxes.Sandbox) -> AbstractContextManager[None]:
    for old, new in (("web1", "web2"), (own_name("web1"), own_name("web2"))):
        stack.edit("ops.toml", lambda text, old=old, new=new: text.replace(old, new))  # type: ignore[misc]
    labels = "--label com.docker.compose.project=oldtiny --label com.docker.compose.service=app"
    return on_the_server(
        f"docker run -d --name oldtiny_app_1 {labels} python:3.13-slim sleep 3600",
        "docker rm -f oldtiny_app_1",
        "web2",
    )


def own_volume(stack: Stack, sandbox: boxes.Sandbox) -> None:
    compose("- ./app:/app:ro", "- ./app:/app:ro\n      - data:/data")(stack, sandbox)
    stack.edit("compose.yaml", lambda text: f"{text}\nvolumes:\n  data:\n")


CANNOT = 'set services.app.strategy = "recreate"'
REFUSALS = {
    "a tag that does not exist": Refusal(
        own_image, 1, (f"web1: there is no image {REGISTRY}/demo/web:9.9.9", "inv build --env test --push")
    ),
    "the registry is down": Refusal(
        registry_down, 1, (f"cannot pull {REGISTRY}/demo/web:9.9.9", f"does {REGISTRY} answer from web1?")
    ),
    "a server is unreachable": Refusal(unreachable, 6, ("gone: cannot connect to", "check the address")),
    "the disk is full": Refusal(
        disk_full, 1, ("web1: disk full: ", " MiB free at /small/opt/tiny/test", "make room on web1")
    ),
    "a secret is missing": Refusal(missing_secret, 2, ("TOKEN", ".env")),
    "the key is not accepted": Refusal(
        wrong_key, 6, ("no key was accepted for root", "other_key", "authorized_keys")
    ),
    "the host key is unknown": Refusal(
        unknown_host_key, 6, ("is not known: SHA256:", "inv servers.trust --env test --server web1")
    ),
    "the host key has changed": Refusal(
        changed_host_key,
        6,
        ("is not the one that is known", "inv servers.trust --env test --server web1 --replace"),
    ),
    "a key of ops.toml is misspelt": Refusal(
        toml("drain = 10", "drian = 10"), 2, ("ops.toml", "services.app.drian", "drain")
    ),
    "another project has its containers": Refusal(
        foreign_project,
        2,
        ("web2: this stack seems to run here already as project 'oldtiny' (app)", 'project = "oldtiny"'),
    ),
    "the compose file is wrong": Refusal(
        compose("restart: unless-stopped", "restrat: always"),
        2,
        ("refuses the compose files: validating compose.yaml: services.proxy", "docker compose config"),
    ),
    "it rolls with a fixed host port": Refusal(
        compose(
            "    restart: unless-stopped\n    environment:", '    ports: ["8080:8000"]\n    environment:'
        ),
        2,
        ("service app cannot roll: it publishes the fixed host port 8080", CANNOT),
    ),
    "it rolls with a container_name": Refusal(
        compose("  app:\n    image", "  app:\n    container_name: the-app\n    image"),
        2,
        ("service app cannot roll: container_name 'the-app' can exist once only", CANNOT),
    ),
    "it rolls on the host's network": Refusal(
        compose("  app:\n    image", "  app:\n    network_mode: host\n    image"),
        2,
        ("service app cannot roll: on the host's network two containers cannot listen on one port", CANNOT),
    ),
    "it rolls with a volume of its own": Refusal(
        own_volume,
        2,
        ("service app cannot roll: two containers would write to the volume data", CANNOT),
    ),
}


@pytest.mark.holds(3)
@pytest.mark.parametrize("reason", REFUSALS)
def test_a_deploy_is_refused_before_anything_is_touched(
    deployed: Stack, sandbox: boxes.Sandbox, tmp_path: Path, reason: str
) -> None:
    """For each reason: its exit code, what is wrong and what helps, and nothing on the servers differs afterwards."""
    refusal = REFUSALS[reason]
    stack = Stack(tmp_path / "tiny", "test")
    shutil.copytree(deployed.folder, stack.folder, ignore=shutil.ignore_patterns(".ops"))
    before, first = {}, current("web1")
    with refusal.make(stack, sandbox) or nullcontext():
        before = {name: standing(name) for name in ("web1", "web2")}
        done = stack.run("deploy", "--version", "9.9.9", status=refusal.exit_code)
        after = {name: standing(name) for name in ("web1", "web2")}
    for part in refusal.says:
        assert part in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    assert after == before
    assert current("web1") == first


@pytest.mark.holds(3)
def test_a_disk_that_fills_up_under_way_leaves_the_server_as_it_was(
    servers: boxes.Sandbox, tmp_path: Path
) -> None:
    """What was written until then is removed, the lock is given back, and there being room again the deploy works."""
    stack = tiny(tmp_path / "tiny", servers, strategy="recreate")
    stack.run("deploy", "--version", "1.0.0")
    first = current("web1")
    behave(stack, token="another-token")
    fill = f"ssh -F {servers.ssh_config} {own_name('web1')}.sandbox 'head -c 1G /dev/zero > /opt/tiny/test/shared/filler'"
    hook = f'\n[[hooks]]\non = "before"\nphase = "upload"\nrun = "{fill} || true"\n'
    # The folder moves to a file system of its own, with room enough to pass the check at the beginning.
    mount = "cp -a /opt/tiny /tmp/tiny && mount -t tmpfs -o size=540m none /opt/tiny && cp -a /tmp/tiny/. /opt/tiny/"
    with on_the_server(mount, "umount /opt/tiny"):
        before = standing("web1")
        (stack.folder / "ops.toml").write_text((stack.folder / "ops.toml").read_text() + hook)
        done = stack.run("deploy", "--version", "1.1.0", status=1)
        assert "web1: disk full" in done.stderr
        assert "make room on web1" in done.stderr
        on("web1", "rm /opt/tiny/test/shared/filler")
        assert standing("web1") == before
        assert current("web1") == first
        stack.edit("ops.toml", lambda text: text.replace(hook, ""))
        stack.run("deploy", "--version", "1.1.0")
        assert "1.1.0" in (current("web1") or "")
        assert len(releases("web1")) == 2

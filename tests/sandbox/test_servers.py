"""Servers as people have them: other users, other shells, jump hosts, tight sshd settings, unknown keys."""

from __future__ import annotations

import hashlib
import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from stacks import SERVERS, Stack

from ops import sandbox as boxes
from ops.commands import Command
from ops.config.models import StackConfig
from ops.errors import Unreachable
from ops.hosts import Cancellation, Cancelled, Host, TimedOut
from ops.hosts.fleet import Fleet

COMPOSE = """\
services:
  web:
    image: nginx:1.27-alpine
    environment: {REVISION: "${OPS_VERSION}"}
"""


def one_server(folder: Path, box: boxes.Sandbox, server: str, base: str = "/opt") -> Stack:
    """Return a stack of one service for one server, given as the body of its table."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "compose.yaml").write_text(COMPOSE)
    (folder / "ops.toml").write_text(
        f'stack = "plain"\nversion = "1"\nbase = "{base}"\nssh_config = "{box.ssh_config}"\n'
        f'[services.web]\nhealth = {{ kind = "tcp", port = 80 }}\n[environments.test.servers.one]\n{server}\n'
    )
    return Stack(folder, "test")


@pytest.fixture
def fleet(sandbox: boxes.Sandbox) -> Iterator[Callable[..., Host]]:
    """Open one host by its settings; closed at the end."""
    opened: list[Fleet] = []

    def make(cancellation: Cancellation | None = None, **server: object) -> Host:
        settings = {"address": f"{SERVERS[0]}.sandbox", **server}
        silence = settings.pop("silence", 20.0)
        config = StackConfig.model_validate(
            {"ssh_config": str(sandbox.ssh_config), "silence": silence, "servers": {"one": settings}}
        )
        opened.append(Fleet(config, Path("/"), "test", cancellation or Cancellation()))
        return opened[-1]["one"]

    yield make
    for each in opened:
        each.close()


@pytest.mark.parametrize(
    ("user", "extra", "base"),
    [
        ("deploy", "sudo = true", "/opt"),
        ("docker-user", "", "/home/docker-user/stacks"),
        ("banner", "", "/home/banner/stacks"),
        ("fishy", "", "/home/fishy/stacks"),
    ],
)
def test_a_user_who_is_not_root_deploys_and_rolls_back(
    servers: boxes.Sandbox, tmp_path: Path, user: str, extra: str, base: str
) -> None:
    """Sudo without a terminal, the docker group, a shell that prints a banner, a shell that is not bash."""
    stack = one_server(tmp_path, servers, f'address = "{SERVERS[0]}.sandbox"\nuser = "{user}"\n{extra}', base)
    stack.run("servers.check")
    stack.run("deploy", "--version", "1")
    stack.run("deploy", "--version", "2")
    stack.run("deploy.rollback", "--yes")
    found = stack.json("deploy.status")["data"]
    assert isinstance(found, dict)
    assert found["servers"]["one"]["version"] == "1"


def test_prepare_makes_the_folder_for_a_user_with_sudo_and_then_has_nothing_to_do(
    servers: boxes.Sandbox, tmp_path: Path
) -> None:
    """What is missing is shown first; without a terminal and without --yes nothing is done."""
    stack = one_server(tmp_path, servers, f'address = "{SERVERS[0]}.sandbox"\nuser = "deploy"')
    assert "may not use Docker" in stack.run("servers.check", status=1).stdout
    planned = stack.run("servers.prepare", "--dry-run").stdout
    assert "make /opt/plain for deploy" in planned
    assert "group docker" in planned
    stack.run("servers.prepare", status=2)
    stack.run("servers.prepare", "--yes")
    try:
        assert "nothing to do" in stack.run("servers.prepare", "--dry-run").stdout
        stack.run("servers.check")
        stack.run("deploy", "--version", "1")
    finally:
        subprocess.run(
            ["ssh", "-F", str(servers.ssh_config), f"{SERVERS[0]}.sandbox", "gpasswd -d deploy docker"],
            check=True,
            capture_output=True,
        )


def test_a_server_without_docker_rights_is_told_apart_from_one_that_does_not_answer(
    servers: boxes.Sandbox, tmp_path: Path
) -> None:
    """Exit 1 with what helps, exit 6 with what was tried."""
    stack = one_server(tmp_path, servers, f'address = "{SERVERS[0]}.sandbox"\nuser = "deploy"')
    done = stack.run("deploy", status=1)
    assert "no right to use Docker" in done.stderr
    assert "sudo = true" in done.stderr
    other = one_server(tmp_path / "other", servers, f'address = "{SERVERS[0]}.sandbox"\nport = 2')
    done = other.run("servers.check", status=6)
    assert "no answer" in done.stdout


def test_a_jump_host_leads_to_a_server(servers: boxes.Sandbox, tmp_path: Path) -> None:
    """Both host keys are checked; the deploy goes through the first to the second."""
    stack = one_server(tmp_path, servers, f'address = "{SERVERS[1]}.sandbox"\njump = "{SERVERS[0]}.sandbox"')
    stack.run("deploy", "--version", "1")
    assert "1/1 running" in stack.run("deploy.status").stdout


def test_two_sessions_on_a_connection_are_enough(
    sandbox: boxes.Sandbox, demo: Callable[..., Stack], images: Callable[..., None]
) -> None:
    """An sshd with MaxSessions 2 serves a whole rolling deploy, heartbeat and probes included."""
    images("1.0.0")
    boxes.add("tight", max_sessions=2)
    try:
        stack = demo("staging", toml="lock = { heartbeat = 0.5, stale_after = 5 }")
        stack.edit("ops.toml", lambda text: text.replace(f"{SERVERS[0]}.sandbox", "tight.sandbox"))
        stack.run("deploy", "--version", "1.0.0")
    finally:
        boxes.remove("tight")


@pytest.mark.parity("D15")
def test_an_unknown_host_key_stops_until_it_is_trusted_and_a_changed_one_needs_more(
    servers: boxes.Sandbox, tmp_path: Path
) -> None:
    """The fingerprint is shown, the command that trusts it is named, and a changed key needs --replace."""
    address = servers.server(SERVERS[0]).address
    stack = one_server(tmp_path, servers, f'address = "{address}"\nkey = "{servers.ssh_key}"\nuser = "root"')
    stack.edit("ops.toml", lambda text: text.replace("ssh_config = ", 'known_hosts = "known"\nssh_config = '))
    refused = stack.run("deploy", status=6).stderr
    shown = subprocess.run(
        ["ssh-keygen", "-l", "-f", str(servers.known_hosts), "-F", address],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    fingerprint = next(word for word in shown.split() if word.startswith("SHA256:"))
    assert fingerprint in refused
    assert "inv servers.trust" in refused
    stack.run("servers.trust", status=2)  # nobody is there to say yes
    assert fingerprint in stack.run("servers.trust", "--yes").stdout
    stack.run("deploy", "--version", "1")
    known = stack.folder / "known"
    lines = servers.known_hosts.read_text().splitlines()
    wrong = next(
        line.split(" ", 1)[1] for line in lines if servers.server(SERVERS[1]).address in line.split(" ")[0]
    )
    known.write_text(f"{address} {wrong}\n")
    assert "may be an attack" in stack.run("deploy", status=6).stderr
    stack.run("servers.trust", "--yes", status=2)
    stack.run("servers.trust", "--yes", "--replace")
    stack.run("deploy", "--version", "1")


def test_a_silent_server_is_an_error_in_bounded_time(
    servers: boxes.Sandbox, fleet: Callable[..., Host]
) -> None:
    """A frozen peer answers nothing and closes nothing; the wait ends all the same."""
    host = fleet(silence=3.0)
    assert host.run(Command("echo here")).stdout == "here\n"
    boxes.pause(SERVERS[0])
    try:
        start = time.monotonic()
        with pytest.raises(Unreachable):  # lost while it ran, or no answer to a new connection
            host.run(Command("sleep 60", timeout=None))
        assert time.monotonic() - start < 30
    finally:
        boxes.resume(SERVERS[0])


@pytest.mark.parametrize("how", ["timeout", "cancel"])
def test_what_ran_on_the_server_is_ended_there(
    servers: boxes.Sandbox, fleet: Callable[..., Host], how: str
) -> None:
    """A command that takes too long or is interrupted leaves no process behind."""
    cancellation = Cancellation()
    host = fleet(cancellation)
    mark = f"86399.{time.time_ns() % 100000}"
    if how == "timeout":
        with pytest.raises(TimedOut):
            host.run(Command(f"sleep {mark} & sleep {mark}", timeout=1.0))
    else:
        threading.Timer(1.0, cancellation.cancel).start()
        with pytest.raises(Cancelled):
            host.run(Command(f"sleep {mark} & sleep {mark}", timeout=None))
    other = host.with_cancellation(Cancellation())
    deadline = time.monotonic() + 10
    while (
        left := other.run(Command(f"pgrep -f 'sleep {mark[:5]}[.]{mark[6:]}' || true")).stdout
    ) and time.monotonic() < deadline:
        pass
    assert left == ""


def test_much_output_comes_whole(servers: boxes.Sandbox, fleet: Callable[..., Host]) -> None:
    """16 MB of output are collected in the time that they take to travel, and not one byte is missing."""
    host = fleet()
    result = host.run(Command("head -c 16000000 /dev/zero | tr '\\0' 'x'"))
    assert len(result.stdout) == 16_000_000
    echoed = host.run(Command("cat | sha256sum", stdin=b"y" * 16_000_000))
    assert echoed.stdout.split()[0] == hashlib.sha256(b"y" * 16_000_000).hexdigest()


def test_a_key_that_the_server_does_not_know_is_told_with_who_was_tried(
    servers: boxes.Sandbox, tmp_path: Path, fleet: Callable[..., Host]
) -> None:
    """A wrong key is exit 6, before anything else is asked."""
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    host = fleet(key=str(key), user="docker-user")
    with pytest.raises(Unreachable, match="docker-user@"):
        host.run(Command("true"))


def test_the_json_of_a_check_says_what_each_server_has(servers: boxes.Sandbox, tmp_path: Path) -> None:
    """A machine reads the same facts as a person."""
    stack = one_server(tmp_path, servers, f'address = "{SERVERS[0]}.sandbox"')
    data = json.loads(stack.run("servers.check", "--json").stdout)["data"]
    assert data[0]["docker"].startswith("26.")
    assert data[0]["problems"] == []

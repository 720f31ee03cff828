"""What a check reads from a server, and what it says is missing."""

from __future__ import annotations

import re
import time

import pytest

from ops.config import load
from ops.errors import OpsError, Unreachable
from ops.hosts.fake import FakeHost
from ops.hosts.local import LocalHost
from ops.servers.checking import TOOLS, check

GIB = 1024 * 1024  # in the KiB that df tells


def said(**changes):
    lines = {
        "user": "deploy",
        "system": "Debian GNU/Linux 13 (trixie)",
        "machine": "x86_64",
        "clock": f"{time.time():.6f}",
        "docker": "26.1.5",
        "compose": "2.26.1",
        "buildx": "0.13.1",
        "images": str(20 * GIB),
        "free": str(10 * GIB),
    } | changes
    return "".join(f"{key}\t{value}\n" for key, value in lines.items() if value is not None)


class Open:
    def close(self):
        pass


@pytest.fixture
def settings(tmp_path):
    (tmp_path / "compose.yaml").write_text("services: {web: {image: nginx}}\n")
    (tmp_path / "ops.toml").write_text(
        'stack = "shop"\n[environments.test.servers.web1]\naddress = "local"\n'
    )
    return load("test", stack=str(tmp_path))


def checked(settings, text, *, forwards=True):
    host = FakeHost("web1").expect(re.compile("say user"), stdout=text)
    if not forwards:
        host.connections["127.0.0.1", 9] = forbidden
    (found,) = check(settings, {"web1": host})
    host.finish()
    return found


def forbidden():
    raise OpsError("sshd forbids forwarding to 127.0.0.1:9")


def test_a_server_with_everything_is_good_and_was_asked_once(settings):
    found = checked(settings, said())
    assert found.good
    assert (found.user, found.docker, found.compose, found.buildx) == ("deploy", "26.1.5", "2.26.1", "0.13.1")
    assert (found.free, found.free_images) == (10 * 2**30, 20 * 2**30)
    assert abs(found.clock_off) < 5
    assert not found.sudo


@pytest.mark.parametrize(
    ("changes", "problem", "step"),
    [
        ({"docker": None, "compose": None}, "Docker is not installed", "servers.prepare"),
        ({"docker": "19.03.1"}, "older than 20.10", "servers.prepare"),
        ({"compose": "2.19.0"}, "Compose 2.19.0; 2.20 or later", "servers.prepare"),
        ({"compose": ""}, "Compose is not there", "servers.prepare"),
        ({"compose": "v2.3.4"}, "Compose v2.3.4", "servers.prepare"),
        (
            {"docker": None, "refused": "permission denied"},
            "deploy may not use Docker: permission",
            "servers.prepare",
        ),
        ({"docker": None, "refused": "denied", "sudo": "yes"}, "may not use Docker", "web1.sudo = true"),
        ({"missing": "flock"}, "not there: flock", "servers.prepare"),
        ({"readonly": "/opt"}, "deploy may not write to /opt", "servers.prepare"),
        ({"free": "1024"}, "only 1 MiB free for the stack", "docker system df"),
        ({"images": "2048"}, "only 2 MiB free for images", "docker system df"),
        ({"clock": "1000.5"}, "its clock is -", "time server"),
    ],
)
def test_what_is_missing_is_told_with_what_helps(settings, changes, problem, step):
    found = checked(settings, said(**changes))
    assert found.reachable
    assert not found.good
    (told,) = found.problems
    assert problem in told
    assert any(step in one for one in found.next_steps)


def test_an_sshd_that_forbids_forwarding_is_told(settings):
    found = checked(settings, said(), forwards=False)
    assert "health cannot be probed" in found.problems[0]
    assert "AllowTcpForwarding" in found.next_steps[0]


def test_a_server_that_does_not_answer_does_not_hide_the_others(settings):
    def silent():
        raise Unreachable("no answer within 10 s", target="web2", next_step="look at it")

    hosts = {name: FakeHost(name) for name in ("web1", "web2")}
    hosts["web1"].expect(re.compile("say user"), stdout=said())
    hosts["web2"].connections["127.0.0.1", 9] = silent
    good, lost = check(settings, hosts)
    assert good.good
    assert (lost.reachable, lost.problems, lost.next_steps) == (
        False,
        ("no answer within 10 s",),
        ("look at it",),
    )


def test_the_question_runs_in_a_real_shell(settings):
    (found,) = check(settings, {"here": LocalHost("here")})
    assert found.reachable
    assert found.user
    assert found.free > 0
    assert abs(found.clock_off) < 30
    assert not any(tool in problem for tool in TOOLS for problem in found.problems if "not there" in problem)

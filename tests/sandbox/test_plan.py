"""A plan shows everything and changes nothing."""

from __future__ import annotations

import re

import pytest
from conftest import Stack
from fleets import emptied, on
from tiny import TOKEN, behave, standing, tiny

from ops import sandbox as boxes

SERVERS = ("web1", "web2")
BOOKS = "cd /opt 2>/dev/null && find . -printf '%p %l %s %T@\\n' | sort | sha256sum"


@pytest.fixture(scope="module")
def stack(sandbox: boxes.Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """The stack's folder, nothing deployed yet, two servers."""
    folder = tmp_path_factory.mktemp("plan") / "tiny"
    return tiny(folder, emptied(*SERVERS), servers=SERVERS, replicas=1)


def everything(server: str) -> list[str]:
    """Return all that stands on a server, the books of runs too."""
    return [*standing(server), on(server, BOOKS, status=None)]


def planned(stack: Stack, *words: str) -> str:
    """Return the text of a plan, having seen that no server noticed it."""
    before = {name: everything(name) for name in SERVERS}
    since = {name: on(name, "date +%s.%N").strip() for name in SERVERS}
    text = stack.run("deploy.plan", *words).stdout
    for name in SERVERS:
        events = on(name, f"docker events --since {since[name]} --until $(date +%s.%N)")
        assert events == "", f"{name}: {events}"
        assert everything(name) == before[name]
    assert TOKEN not in text
    return text


def effects(text: str) -> dict[tuple[str, str], str]:
    """Return what a plan says of each service on each server."""
    lines = text[text.index("What each service lives through") :].split("\n\n")[0].splitlines()[1:]
    return {(server, service): rest for server, service, rest in (line.split(maxsplit=2) for line in lines)}


@pytest.mark.holds(12)
def test_a_first_plan_changes_nothing_and_shows_what_would_be_done(stack: Stack) -> None:
    """Not even a folder, an image or a lock is there afterwards; it shows pulls, steps, effects, the compose file."""
    text = planned(stack, "--version", "1.0.0")
    assert effects(text) == {(server, name): "started" for server in SERVERS for name in ("app", "proxy")}
    (pulls,) = re.findall(r"every server: pull (.+)", text)
    assert set(pulls.split(", ")) == {"nginx:1.27-alpine", "python:3.13-slim"}
    assert "batch 1, web1 (serves nothing yet)" in text
    assert "batch 2, web2 (serves nothing yet)" in text
    assert "start 1 new app container" in text
    assert "$ docker compose up -d" in text
    assert re.search(r"^  \+\s+TOKEN: .?\$\{TOKEN\}", text, re.MULTILINE)
    assert on("web1", "ls -A /opt") == ""


@pytest.mark.holds(12)
def test_a_plan_of_a_change_tells_what_each_service_lives_through(stack: Stack) -> None:
    """Rolling, recreated, untouched; the compose difference names the secret and not its value; then it is done as told."""
    stack.run("deploy", "--version", "1.0.0")
    text = planned(stack, "--version", "2.0.0")
    assert effects(text) == {
        (server, name): line
        for server in SERVERS
        for name, line in (("app", "rolling: none without it, 1 -> 1"), ("proxy", "untouched"))
    }
    assert re.search(r"^  -\s+VERSION: .?1\.0\.0", text, re.MULTILINE)
    assert re.search(r"^  \+\s+VERSION: .?2\.0\.0", text, re.MULTILINE)
    stack.edit("compose.yaml", lambda text: text.replace("  app:\n", f"  app:\n{INIT}", 1) + CACHE)
    stack.edit("ops.toml", lambda text: text.replace('strategy = "rolling"', 'strategy = "recreate"'))
    stack.edit("nginx/conf.d/tiny.conf", lambda text: text.replace("timeout 2s", "timeout 3s"))
    text = planned(stack, "--version", "1.0.0")
    assert effects(text) == {
        (server, name): line
        for server in SERVERS
        for name, line in (
            ("app", "recreated: about 2 s without it"),
            ("cache", "started"),
            ("proxy", "reloaded: new configuration, nobody waits"),
        )
    }
    assert re.search(r"^  \+\s+init: true", text, re.MULTILINE)


@pytest.mark.holds(12)
def test_a_plan_of_a_changed_secret_shows_the_change_and_no_value(stack: Stack) -> None:
    """Neither the old nor the new value is in text, JSON or the log folder; what would be refused is refused."""
    behave(stack, token="the-second-token")
    text = planned(stack, "--version", "1.0.0")
    assert "the-second-token" not in text
    assert effects(text)["web1", "app"] == "recreated: about 2 s without it"
    document = stack.run("deploy", "--dry-run", "--json", "--version", "1.0.0").stdout
    assert "the-second-token" not in document
    assert TOKEN not in document
    stack.edit(".env", lambda text: text.replace("TOKEN=", "TOKEN_OF_OLD="))
    assert "TOKEN" in stack.run("deploy.plan", "--version", "1.0.0", status=2).stderr


INIT = "    init: true\n"
CACHE = """
  cache:
    image: nginx:1.27-alpine
    stop_grace_period: 1s
"""

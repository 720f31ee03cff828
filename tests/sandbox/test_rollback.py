"""Back to earlier releases: whatever was cleaned up meanwhile, and with the registry gone."""

from __future__ import annotations

import getpass
import json
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fleets import address, containers, emptied, on
from stacks import Stack
from tiny import APP, PROJECT, TOKEN, behave, current, from_registry, releases, standing, tiny
from traffic import Traffic

from ops import sandbox as boxes

VERSIONS = ("7.0.1", "7.0.2", "7.0.3", "7.0.4")


@contextmanager
def without_registries() -> Iterator[None]:
    """No registry and no mirror answers the first server."""
    rule = "OUTPUT -p tcp -m multiport --dports 5000,5001,443 -j REJECT"
    on("web1", f"iptables -I {rule}")
    try:
        yield
    finally:
        on("web1", f"iptables -D {rule}")


@pytest.fixture(scope="module")
def built(images: Callable[..., None]) -> None:
    """Images of the small service, one for each version."""
    for version in VERSIONS:
        images(version, lambda text: APP, repository="tiny/app")


@pytest.fixture(scope="module")
def stack(sandbox: boxes.Sandbox, built: None, tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """The stack with 7.0.1, 7.0.2 and 7.0.3 deployed one after another."""
    stack = tiny(tmp_path_factory.mktemp("rollback") / "tiny", emptied("web1"), replicas=1)
    from_registry(stack)
    for version in VERSIONS[:3]:
        stack.run("deploy", "--version", version)
    return stack


def serves() -> str:
    """Return the version that answers through the proxy."""
    found: str = json.loads(on("web1", "curl -s --max-time 5 http://127.0.0.1/version"))["version"]
    return found


def image_of(version: str) -> str:
    """Return the id of a version's image on the server; empty where it has none."""
    return on("web1", f"docker image ls -q --no-trunc registry.sandbox:5000/tiny/app:{version}").strip()


@pytest.mark.holds(7)
@pytest.mark.parity("D5")
@pytest.mark.parity("D6")
@pytest.mark.parity("D14")
def test_rollbacks_need_no_registry_and_survive_a_prune(stack: Stack) -> None:
    """After `docker system prune -f`, without any registry, two in a row lose no request; then there is none to go to."""
    first, second, third = releases("web1")
    on("web1", "docker system prune -f")
    load = Traffic([(address("web1"), 80)], rate=60, slow_seconds=1.0).start()
    with without_registries():
        document = stack.json("deploy.rollback")
        assert (current("web1"), serves()) == (second, "7.0.2")
        stack.run("deploy.rollback")
        assert (current("web1"), serves()) == (first, "7.0.1")
        report = load.stop()
        none = stack.run("deploy.rollback", status=2)
    assert report.failed == 0, report.failures[:10]
    targets = document["targets"]
    assert isinstance(targets, dict)
    assert (targets["web1"]["previous"], targets["web1"]["release"]) == (third, second)
    assert "web1: there is no earlier release to go back to" in none.stderr
    told = stack.run("deploy.status").stdout
    assert f"version 7.0.1, release {first}" in told


@pytest.mark.holds(7)
@pytest.mark.parity("D14")
def test_a_deploy_after_a_rollback_and_the_rollback_of_that(stack: Stack) -> None:
    """The release before is then the one that served, not the newest; status and history tell what happened."""
    stack.run("deploy.rollback", "--to", releases("web1")[0])
    served = current("web1")
    stack.run("deploy", "--version", "7.0.4")
    assert serves() == "7.0.4"
    stack.run("deploy.rollback")
    assert (current("web1"), serves()) == (served, "7.0.1")
    entries = stack.json("deploy.history")["data"]
    assert isinstance(entries, list)
    ends = [(one["action"], one["version"], one["event"]) for one in entries if one["event"] != "started"]
    assert ends[-2:] == [("deploy", "7.0.4", "done"), ("deploy.rollback", "7.0.1", "done")]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", one["at"]) for one in entries[-2:])
    assert {one["who"] for one in entries[-2:]} == {f"{getpass.getuser()}@{socket.gethostname()}"}
    newest = stack.run("deploy.history").stdout.splitlines()[1]
    assert "deploy.rollback" in newest
    assert "7.0.1" in newest
    assert str(served) in newest
    assert f"version 7.0.1, release {served}" in stack.run("deploy.status").stdout


@pytest.mark.holds(7)
def test_an_image_that_is_gone_is_pulled_again_or_the_rollback_is_refused(stack: Stack) -> None:
    """`docker system prune -a -f` takes what no container uses: without a registry nothing is touched, with it all works."""
    earlier = serves()
    stack.run("deploy", "--version", "7.0.4")
    on("web1", "docker system prune -a -f")
    before = standing("web1")
    with without_registries():
        done = stack.run("deploy.rollback", status=1)
        assert "cannot pull registry.sandbox:5000/tiny/app@sha256:" in done.stderr
        assert "does registry.sandbox:5000 answer from web1?" in done.stderr
        assert standing("web1") == before
    stack.run("deploy.rollback")
    assert serves() == earlier != "7.0.4"


@pytest.mark.holds(7)
@pytest.mark.parity("D6")
def test_pruning_takes_old_releases_and_nothing_that_anyone_needs(
    stack: Stack, sandbox: boxes.Sandbox, tmp_path: Path
) -> None:
    """Past `keep_releases` images and files go; another stack's images and what a rollback needs stay."""
    other = tiny(tmp_path / "other", sandbox, replicas=1)
    from_registry(other)
    other.edit("ops.toml", lambda text: text.replace('stack = "tiny"', 'stack = "other"'))
    other.edit("ops.toml", lambda text: text.replace('path = "/smoke"', 'path = "/smoke"\nport = 81'))
    other.edit("compose.yaml", lambda text: text.replace("80:80", "81:80"))
    other.run("deploy", "--version", "7.0.1")
    other.run("stack.down", "--yes")
    on("web1", "docker tag $(docker image ls -q nginx:1.27-alpine) legacy/web:3")
    stack.edit("ops.toml", lambda text: text.replace('stack = "tiny"', 'stack = "tiny"\nkeep_releases = 2'))
    stack.run("deploy", "--version", "7.0.4")
    assert image_of("7.0.4")
    for version in ("7.0.2", "7.0.3"):
        stack.run("deploy", "--version", version)
    kept = releases("web1")
    assert ["7.0.2" in kept[0], "7.0.3" in kept[1]] == [True, True]
    assert len(kept) == 2
    tags = on("web1", "docker image ls --format '{{.Repository}}:{{.Tag}}'").split()
    own = sorted(tag.rpartition(":")[2] for tag in tags if tag.startswith("opsbook/tiny-test/app:"))
    assert own == kept
    assert image_of("7.0.4") == "", "no kept release needs it, and no other stack has it"
    assert on("web1", "docker image ls -aq --filter dangling=true") == ""
    assert "legacy/web:3" in tags
    stack.run("deploy.rollback")
    assert serves() == "7.0.2"
    with without_registries():
        other.run("stack.up")
        assert on("web1", "curl -s http://127.0.0.1:81/version").count("7.0.1") == 1


@pytest.mark.holds(7)
def test_a_rollback_takes_the_secrets_of_today(servers: boxes.Sandbox, tmp_path: Path) -> None:
    """A retired password does not come back with the old release, unless --secrets-of-release asks for it."""
    stack = tiny(tmp_path / "tiny", servers, strategy="recreate")
    stack.run("deploy", "--version", "1.0.0")
    stack.run("deploy", "--version", "2.0.0")
    behave(stack, token="todays-own-token")
    stack.run("deploy.rollback")
    assert token() == "todays-own-token"
    assert on("web1", "stat -c %a /opt/tiny/test/current/.env").strip() == "600"
    stack.run("deploy.rollback", "--to", releases("web1")[-1], "--secrets-of-release")
    assert token() == TOKEN
    stack.run("deploy.status")


def token() -> str:
    (app,) = containers("web1", PROJECT, "app")
    return on("web1", f"docker exec {app.id} printenv TOKEN").strip()

"""What prepare would do: decided by the script itself, run here with stand-ins for what it calls."""

from __future__ import annotations

import os
import re

import pytest

from ops.config import load
from ops.errors import Problem, Unreachable
from ops.hosts.fake import FakeHost
from ops.hosts.local import LocalHost
from ops.servers.preparing import prepare


@pytest.fixture
def settings(tmp_path):
    (tmp_path / "compose.yaml").write_text("services: {web: {image: nginx}}\n")
    (tmp_path / "ops.toml").write_text(
        f'stack = "shop"\nbase = "{tmp_path}/base"\n[environments.test.servers.web1]\naddress = "local"\n'
    )
    return load("test", stack=str(tmp_path))


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """Put stand-ins for programs before all others; each notes its words in `calls`."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    def make(name, body):
        (folder / name).write_text(f'#!/bin/sh\necho "{name} $*" >>{tmp_path}/calls\n{body}\n')
        (folder / name).chmod(0o755)

    make("docker", 'case "$*" in "compose version --short") echo 2.26.1 ;; esac')
    make("apt-get", "")
    return make


def done(settings, **options):
    (found,) = prepare(settings, {"web1": LocalHost("web1")}, **options)
    return found.done


def test_the_folder_is_made_once_and_then_nothing_is_left_to_do(settings, tools, tmp_path):
    root = tmp_path / "base" / "shop"
    planned = done(settings, dry_run=True)
    assert [step for step in planned if step.startswith(f"make {root}")]
    assert not root.exists()
    assert done(settings, dry_run=False) == planned
    assert root.is_dir()
    assert done(settings, dry_run=False) == ()


def test_a_compose_that_is_too_old_is_told_in_a_dry_run_and_nothing_is_installed(settings, tools, tmp_path):
    tools("docker", 'case "$*" in "compose version --short") echo 2.3.0 ;; esac')
    try:
        told = done(settings, dry_run=True)[0]
    except Problem as refused:  # this machine's distribution has packages that are too old
        told = refused.message
    assert told.startswith("install docker.io") or "has no Docker with Compose 2.20" in told
    assert "apt-get" not in (tmp_path / "calls").read_text()


def test_every_server_that_could_not_be_prepared_is_told(settings):
    hosts = {
        "web1": FakeHost("web1").expect(
            re.compile("apt-get"), stdout="+ install docker.io\n", stderr="apt-get failed\n", status=1
        ),
        "web2": FakeHost("web2").expect(
            re.compile("apt-get"), answer=Unreachable("no answer", target="web2")
        ),
        "web3": FakeHost("web3").expect(re.compile("apt-get")),
    }
    with pytest.raises(Problem) as caught:
        prepare(settings, hosts, dry_run=False)
    assert [finding.target for finding in caught.value.findings] == ["web1", "web2"]
    assert caught.value.left_behind == "install docker.io"
    for host in hosts.values():
        host.finish()


def test_a_dry_run_asks_by_a_command_that_only_reads(settings):
    host = FakeHost("web1").expect(re.compile("false; }"), stdout="+ make /opt/shop\n")
    prepare(settings, {"web1": host}, dry_run=True)
    assert host.commands[0].changes is None

"""Where a connection leads: ops.toml over ssh_config, jump hosts in order."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ops.errors import ConfigError
from ops.hosts import route as module
from ops.hosts.route import Settings, route

CONFIG = """\
Host web1
  HostName 10.0.0.1
  User alice
  Port 2222
  IdentityFile ~/keys/web1
  IdentitiesOnly yes
  UserKnownHostsFile "/tmp/known hosts" /tmp/other
  HostKeyAlias the-web

Host inner
  HostName 10.0.0.2
  ProxyJump bob@gate:2200

Host gate
  HostName 10.0.0.9

Host far
  HostName 10.0.0.3
  ProxyJump first,inner

Host circle-a
  ProxyJump circle-b
Host circle-b
  ProxyJump circle-a

Match host star.* !host star.gate
  ProxyJump star.gate
"""

needs_client = pytest.mark.skipif(shutil.which("ssh") is None, reason="no ssh client on this machine")


@pytest.fixture(params=[pytest.param("ssh -G", marks=needs_client), "paramiko"])
def resolver(request, monkeypatch):
    """With an ssh client, and without one."""
    if request.param == "paramiko":
        monkeypatch.setattr(module.shutil, "which", lambda name: None)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "ssh_config"
    path.write_text(CONFIG)
    return Settings(ssh_config=path)


def shown(endpoints):
    return [endpoint.shown for endpoint in endpoints]


def test_the_ssh_config_fills_what_ops_toml_leaves_open(resolver, file):
    (target,) = route("web1", settings=file, environ={"SSH_AUTH_SOCK": "/run/agent"})
    assert target.shown == "alice@10.0.0.1:2222"
    assert target.identity_files == (Path("~/keys/web1").expanduser(),)
    assert target.explicit_key
    assert target.known_as == "the-web"
    assert target.agent == "/run/agent"


def test_ops_toml_wins_over_the_ssh_config(resolver, file):
    (target,) = route("web1", user="deploy", port=22, settings=file)
    assert target.shown == "deploy@10.0.0.1:22"


@needs_client
def test_known_hosts_come_from_the_ssh_config_also_with_a_blank_in_the_name(file):
    (target,) = route("web1", settings=file)
    assert target.known_hosts[:2] == (Path("/tmp/known hosts"), Path("/tmp/other"))


def test_a_known_hosts_file_beside_ops_toml_is_the_only_one(resolver, file, tmp_path):
    settings = Settings(file.ssh_config, tmp_path / "known")
    (target,) = route("web1", settings=settings)
    assert target.known_hosts == (tmp_path / "known",)


def test_a_port_other_than_22_is_part_of_the_name_in_known_hosts(resolver, file):
    assert route("10.1.1.1", port=2222, settings=file)[0].known_as == "[10.1.1.1]:2222"
    assert route("10.1.1.1", settings=file)[0].known_as == "10.1.1.1"


def test_jump_hosts_of_the_ssh_config_come_first(resolver, file):
    endpoints = route("inner", user="u", settings=file)
    assert shown(endpoints) == ["bob@10.0.0.9:2200", "u@10.0.0.2:22"]


def test_several_jump_hosts_are_dialled_in_their_order(resolver, file):
    endpoints = route("10.9.9.9", user="u", jump="a@one,b@two:23", settings=file)
    assert shown(endpoints) == ["a@one:22", "b@two:23", "u@10.9.9.9:22"]


def test_a_jump_host_of_ops_toml_is_itself_looked_up(resolver, file):
    endpoints = route("10.9.9.9", user="u", jump="web1", settings=file)
    assert shown(endpoints)[0] == "alice@10.0.0.1:2222"


def test_a_jump_for_all_hosts_does_not_lead_through_the_jump_host_to_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(module.shutil, "which", lambda name: None)  # ssh itself refuses such a file
    settings = Settings(tmp_path / "all")
    settings.ssh_config.write_text("Host *\n  User u\n  ProxyJump gate\n")
    assert shown(route("web", settings=settings)) == ["u@gate:22", "u@web:22"]
    assert shown(route("gate", settings=settings)) == ["u@gate:22"]


def test_jumps_in_a_circle_are_a_mistake(resolver, file):
    with pytest.raises(ConfigError, match="circle"):
        route("circle-a", settings=file)


@pytest.mark.parametrize(
    ("hop", "expected"),
    [("x@[fe80::1]:2222", "x@fe80::1:2222"), ("ssh://x@h:5", "x@h:5"), ("x@h", "x@h:22")],
)
def test_a_jump_host_may_be_written_in_any_of_its_forms(file, hop, expected):
    assert route("h2", jump=hop, settings=file)[0].shown == expected


def test_an_empty_jump_host_is_a_mistake(file):
    with pytest.raises(ConfigError, match="no jump host"):
        route("h", jump="a,,b", settings=file)


def test_a_key_file_is_found_beside_ops_toml(file, tmp_path):
    (tmp_path / "key").write_text("x")
    (target,) = route("web1", key="key", folder=tmp_path, settings=file)
    assert target.identity_files == (tmp_path / "key",)


def test_a_key_file_that_is_not_there_is_a_mistake(file, tmp_path):
    with pytest.raises(ConfigError, match="there is no key file"):
        route("web1", key="nowhere", folder=tmp_path, settings=file)


def test_a_key_in_a_variable_does_not_show_in_the_endpoint(file):
    (target,) = route("web1", key="env:CI_KEY", settings=file, environ={"CI_KEY": "-----BEGIN"})
    assert target.key_text == "-----BEGIN"
    assert "-----BEGIN" not in repr(target)


def test_an_ssh_config_that_is_not_there_is_a_mistake(tmp_path):
    with pytest.raises(ConfigError, match="there is no ssh_config"):
        route("web1", settings=Settings(tmp_path / "nowhere"))

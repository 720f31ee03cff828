"""The tasks `config.check`, `config.show` and `init` as a person types them."""

import json

import pytest
from invoke import Collection, Program

from ops.tasks import config


@pytest.fixture
def inv(tmp_path, monkeypatch, capsys):
    for name in ("OPS_STACK", "DB_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "compose.yaml").write_text("services: {api: {image: a}}\n")
    (tmp_path / "ops.toml").write_text(
        'stack = "shop"\n[secrets]\nrequired = ["DB_PASSWORD"]\n[environments.staging.servers.web1]\n'
    )
    monkeypatch.chdir(tmp_path)
    namespace = Collection(config.init)
    namespace.add_collection(Collection("config", config.check, config.show))

    def run(line: str):
        capsys.readouterr()
        status = 0
        try:
            Program(namespace=namespace).run(["inv", *line.split()])
        except SystemExit as end:
            status = int(end.code or 0)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def test_check_ends_with_2_and_names_what_is_missing(inv):
    status, out, _ = inv("config.check --env staging")
    assert status == 2
    assert "secret DB_PASSWORD has no value" in out


def test_check_ends_with_0_and_quietly_when_all_is_well(inv, monkeypatch):
    monkeypatch.setenv("DB_PASSWORD", "hunter22")
    assert inv("config.check --env staging --quiet") == (0, "", "")


def test_check_without_an_environment_lists_the_known_ones(inv):
    status, _, err = inv("config.check")
    assert status == 2
    assert "known: staging" in err


def test_show_masks_secrets_in_its_document(inv, monkeypatch):
    monkeypatch.setenv("DB_PASSWORD", "hunter22")
    status, out, _ = inv("config.show --env staging --json")
    assert status == 0
    assert json.loads(out)["data"]["values"]["DB_PASSWORD"] == ["***", "process environment"]
    assert "hunter22" not in out


@pytest.mark.parametrize("server", ["a@b@c", "host:port", "host:0", "host:70000", "@"])
def test_init_refuses_a_server_that_is_none(inv, server):
    status, _, err = inv(f"init --force --server {server}")
    assert status == 2
    assert f"--server {server}" in err


def test_init_refuses_an_ops_toml_that_is_there(inv):
    status, _, err = inv("init")
    assert status == 2
    assert "--force" in err

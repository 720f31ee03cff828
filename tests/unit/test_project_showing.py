"""What `config.show` shows."""

import tomllib

import pytest

from ops.config import load
from ops.project import show

OPS = """
stack = "shop"
[secrets]
required = ["DB_PASSWORD", "API_TOKEN"]
[services.api]
port = 8000
[registries."r.example.org"]
username = "ci"
password = "env:HUB"
[[smoke]]
path = "/version"
[environments.staging]
keep_releases = 9
"""


@pytest.fixture
def shown(tmp_path, monkeypatch):
    for name in ("OPS_STACK", "DB_PASSWORD", "API_TOKEN", "HUB"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "ops.toml").write_text(OPS)
    (tmp_path / "compose.yaml").write_text('services: {api: {image: "a:${TAG}"}}\n')
    (tmp_path / ".env").write_text("DB_PASSWORD=hunter22\nTAG=1\nURL=db://hunter22@db\n")
    (tmp_path / ".env.staging").write_text("TAG=2\n")
    return show(load("staging", start=tmp_path))


def test_each_value_is_shown_with_where_it_came_from(shown):
    assert shown.values["TAG"] == ("2", ".env.staging")


def test_secrets_are_masked_also_inside_other_values(shown):
    assert shown.values["DB_PASSWORD"] == ("***", ".env")
    assert shown.values["URL"] == ("db://***@db", ".env")
    assert "hunter22" not in shown.text


def test_a_secret_without_value_says_so(shown):
    assert shown.values["API_TOKEN"] == ("", "no value")


def test_the_text_is_toml_and_says_what_is_in_effect(shown):
    table = tomllib.loads(shown.text)
    assert table["keep_releases"] == 9
    assert table["services"]["api"]["port"] == 8000
    assert table["registries"]["r.example.org"]["username"] == "ci"
    assert table["smoke"][0]["path"] == "/version"

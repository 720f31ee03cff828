"""What a smoke check or a probe cannot ask for is its own failure, and a `ca` is loaded before a run."""

from __future__ import annotations

from pathlib import Path

import pytest
from examples import container
from test_gates_smoke import certificate
from web import Web, web_host

from ops.config import load
from ops.config.services import Smoke
from ops.engines.release import HealthSpec
from ops.gates.health import probe
from ops.gates.smoke import check, untrusted
from ops.project import check as look_over

TOML = """
stack = "shop"
[[smoke]]
scheme = "https"
port = 443
ca = "ca.pem"
[environments.staging.servers.web1]
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.delenv("OPS_STACK", raising=False)
    (tmp_path / "ops.toml").write_text(TOML)
    (tmp_path / "compose.yaml").write_text("services: {api: {image: a}}\n")
    return tmp_path


def empty(path: Path) -> None:
    path.write_text("not a certificate\n")


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda path: None, "cannot be read: No such file"),
        (Path.mkdir, "cannot be read: Is a directory"),
        (empty, "holds no certificate"),
    ],
)
def test_a_ca_that_cannot_be_loaded_is_a_problem_before_anything_runs(folder, make, why):
    make(folder / "ca.pem")
    (problem,) = look_over(load("staging", start=folder)).problems
    assert f"smoke[0].ca: {folder / 'ca.pem'} " in str(problem)
    assert (why in str(problem), problem.exit_code) == (True, 2), problem


def test_a_ca_that_holds_certificates_is_none(folder):
    certificate(folder, "shop.test")[1].rename(folder / "ca.pem")
    assert untrusted(load("staging", start=folder)) == []


@pytest.fixture
def web():
    made = Web()
    yield made
    made.close()


@pytest.mark.parametrize(
    "fields",
    [{"path": "/ü"}, {"host": "a→b"}, {"scheme": "https", "ca": "gone.pem"}, {"scheme": "https", "ca": "."}],
)
def test_a_request_that_cannot_be_made_is_the_checks_own_failure(web, tmp_path, fields):
    asked = Smoke.model_construct(**Smoke().model_dump() | fields)
    found = check(web_host(web, ("127.0.0.1", 80)), asked, tmp_path, "web1.test")
    assert found is not None
    assert found.startswith("no answer (")


def test_a_probe_that_cannot_be_made_is_its_own_failure(web):
    asked = container()
    host = web_host(web, (asked.addresses[0], 8000))
    assert probe(host, asked, HealthSpec("http", "/ü", 8000)) is not None

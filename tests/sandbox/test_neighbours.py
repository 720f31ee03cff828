"""Two environments of one stack on one server leave each other alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from fleets import containers, on
from ledger import PORTS, ledger
from stacks import SERVERS
from tiny import standing

from ops import sandbox as boxes


def page(environment: str) -> str:
    return on("web1", f"curl -sf http://127.0.0.1:{PORTS[environment]}/").strip()


def of_staging() -> list[str]:
    """Return all of the server's state that is staging's."""
    ids = {one.id for one in containers("web1", "ledger-staging")}
    assert len(ids) == 3
    mine = ("ledger-staging", "/staging/", "./ledger/staging")
    return [line for line in standing("web1") if any(word in line for word in (*mine, *ids))]


@pytest.mark.holds(9)
def test_production_comes_changes_and_goes_beside_staging(sandbox: boxes.Sandbox, tmp_path: Path) -> None:
    """Deploys with pruning, a scaling and the removal of production leave all of staging as it was."""
    boxes.reset(SERVERS[0])
    stack = ledger(tmp_path / "ledger", sandbox, "staging")
    stack.run("deploy")
    before = of_staging()
    assert any(line.startswith("volume ") for line in before)
    stack.environment = "production"
    stack.edit("ops.toml", lambda text: "keep_releases = 2\n" + text)
    for text in ("two", "three", "four"):
        stack.edit("pages/index.html", lambda _, text=text: text)
        stack.run("deploy")
        assert (page("staging"), page("production")) == ("one", text)
    stack.run("stack.scale", "--service", "pages", "--replicas", "2")
    stack.run("stack.remove", "--volumes", "--yes")
    assert containers("web1", "ledger-production") == []
    assert of_staging() == before
    assert page("staging") == "one"


@pytest.mark.holds(9)
def test_names_that_two_environments_would_share_are_refused(sandbox: boxes.Sandbox, tmp_path: Path) -> None:
    """A volume, a network and a project of a fixed name are each found before production touches anything."""
    boxes.reset(SERVERS[0])
    stack = ledger(tmp_path / "ledger", sandbox, "staging")
    plain = (stack.folder / "compose.yaml").read_text()
    stack.edit(
        "compose.yaml", lambda text: f"{text}    name: entries\nnetworks:\n  default:\n    name: wire\n"
    )
    stack.run("deploy")
    before = standing("web1")
    stack.environment = "production"
    refused = stack.run("deploy", status=2).stderr
    assert "volume entries belongs to project ledger-staging" in refused
    assert "network wire belongs to project ledger-staging" in refused
    stack.edit("compose.yaml", lambda _: plain)
    stack.edit("ops.toml", lambda text: f'project = "ledger-staging"\n{text}')
    refused = stack.run("deploy", status=2).stderr
    assert "is stack ledger, environment staging here" in refused
    assert standing("web1") == before

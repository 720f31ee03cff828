"""A service that gets another name: what it had for itself goes over to its successor, and nothing is there twice."""

from __future__ import annotations

from pathlib import Path

import pytest
from fleets import containers, on, query, until
from ledger import PORTS, ledger

from ops import sandbox as boxes


@pytest.mark.holds(3)
def test_a_renamed_database_and_a_renamed_proxy_take_over(servers: boxes.Sandbox, tmp_path: Path) -> None:
    """The old ones are shut down before the new start on their volume and port; a rollback hands both back."""
    stack, project = ledger(tmp_path / "ledger", servers), "ledger-production"
    stack.run("deploy")
    query("web1", project, "create table seen (n int); insert into seen values (1), (2)", "db")

    stack.edit(
        "compose.yaml", lambda text: text.replace("  db:\n", "  store:\n").replace("  proxy:\n", "  front:\n")
    )
    renamed = {'service = "proxy"': 'service = "front"', "[services.proxy]": "[services.front]"}
    for old, new in renamed.items():
        stack.edit("ops.toml", lambda text, old=old, new=new: text.replace(old, new))  # type: ignore[misc]
    planned = stack.run("deploy.plan").stdout
    assert f"its volume {project}_entries is wanted by another service" in planned
    assert f"its port {PORTS['production']}/tcp is wanted by another service" in planned
    stack.run("deploy")
    assert {one.service for one in containers("web1", project)} == {"store", "front", "pages"}
    assert query("web1", project, "select count(*) from seen", "store") == "2"
    (store,) = containers("web1", project, "store")
    assert "was interrupted" not in on("web1", f"docker logs {store.id} 2>&1"), "it was shut down, not killed"
    page = f"curl -so /dev/null -w '%{{http_code}}' http://127.0.0.1:{PORTS['production']}/"
    until("the page is served", lambda: on("web1", page) == "200")

    stack.run("deploy.rollback", "--yes")
    assert {one.service for one in containers("web1", project)} == {"db", "proxy", "pages"}
    assert query("web1", project, "select count(*) from seen", "db") == "2"

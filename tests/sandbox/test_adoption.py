"""A stack that plain Docker Compose started is deployed over with its data, under whatever project name it runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from fleets import containers, on
from ledger import ledger, rows, started_by_hand
from stacks import SERVERS
from tiny import standing

from ops import sandbox as boxes


def volumes() -> list[str]:
    return on("web1", "docker volume ls -q").split()


@pytest.mark.holds(8)
def test_a_stack_started_by_hand_keeps_its_rows(sandbox: boxes.Sandbox, tmp_path: Path) -> None:
    """Under the usual project name a deploy takes the running stack over: same volume, same rows, new containers."""
    boxes.reset(SERVERS[0])
    stack, project = ledger(tmp_path / "ledger", sandbox), "ledger-production"
    started_by_hand(stack, project)
    before, there = containers("web1", project), volumes()
    stack.run("deploy")
    assert rows(project) == "a,b,c"
    assert volumes() == there
    after = containers("web1", project)
    assert [one.service for one in after] == ["db", "pages", "proxy"]
    assert not {one.id for one in before} & {one.id for one in after}
    assert stack.json("deploy")["targets"]["web1"]["result"] == "unchanged"  # type: ignore[index]


@pytest.mark.holds(8)
def test_another_project_name_is_found_and_the_printed_line_adopts_it(
    sandbox: boxes.Sandbox, tmp_path: Path
) -> None:
    """Preflight stops before anything is touched; with exactly the lines that it prints, the deploy keeps the rows."""
    boxes.reset(SERVERS[0])
    stack, project = ledger(tmp_path / "ledger", sandbox), "shop"
    started_by_hand(stack, project)
    before, there = standing("web1"), volumes()
    refused = stack.json("deploy", status=2)["error"]
    assert standing("web1") == before
    assert "'shop'" in refused["message"]  # type: ignore[index]
    told = refused["next_step"].splitlines()  # type: ignore[index]
    assert told[0].endswith("add at the end of ops.toml:")
    stack.edit("ops.toml", lambda text: text + "\n".join(told[1:3]) + "\n")
    stack.run("deploy")
    assert rows(project) == "a,b,c"
    assert volumes() == there

    # Now it is production, under an unusual name: neither a stranger to staging, nor to be forgotten.
    stack.environment = "staging"
    stack.run("deploy")
    stack.environment = "production"
    stack.edit("ops.toml", lambda text: text.replace('project = "shop"', ""))
    again = stack.json("deploy", status=2)["error"]
    assert 'below [environments.production] in ops.toml:\nproject = "shop"' in again["next_step"]  # type: ignore[index]


@pytest.mark.holds(8)
def test_a_stranger_with_the_same_images_is_no_part_of_the_stack(
    sandbox: boxes.Sandbox, tmp_path: Path
) -> None:
    """A proxy and a database of another stack beside it do not keep a deploy from its first start."""
    boxes.reset(SERVERS[0])
    stack = ledger(tmp_path / "ledger", sandbox)
    for service, image in {
        "proxy": "nginx:1.27-alpine",
        "db": "postgres:16",
        "till": "python:3.13-slim",
    }.items():
        labels = f"--label com.docker.compose.project=other --label com.docker.compose.service={service}"
        on("web1", f"docker create -q --name other-{service}-1 {labels} {image}")
    stack.run("deploy", "--dry-run")

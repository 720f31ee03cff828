"""Versions that fail: what was touched goes back, nobody notices, and the message says why."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Stack
from fleets import address, containers, emptied, on, own_name
from tiny import PROJECT, behave, current, releases, tiny
from traffic import Report, Traffic

from ops import sandbox as boxes

FAULTS = {
    "crash": ("exit code 7", "fatal: the setting colour is missing"),
    "sick": ("not healthy after 6 s: /health answers 503", "the queue does not answer"),
    "brief": ("exit code 9", "fatal: the cache ran over"),
    "wrong": ("smoke check", "the body lacks 'right'"),
}


def told(report: Report) -> str:
    return f"{report.failed} of {report.total} failed: {report.failures[:10]}"


def traffic(*servers: str) -> Traffic:
    return Traffic([(address(name), 80) for name in servers], rate=60, slow_seconds=1.0).start()


@pytest.fixture(scope="module")
def rolling(sandbox: boxes.Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """Version 1 on one server, two containers behind the proxy, watched for 4 s after each switch."""
    stack = tiny(tmp_path_factory.mktemp("rolling") / "tiny", emptied("web1"))
    stack.edit("ops.toml", lambda text: text.replace("timeout = 20, soak = 0", "timeout = 6, soak = 4"))
    stack.run("deploy", "--version", "1.0.0")
    return stack


@pytest.mark.holds(2)
@pytest.mark.parity("D4")
@pytest.mark.parametrize("fault", FAULTS)
def test_a_version_that_fails_is_rolled_back_and_nobody_notices(rolling: Stack, fault: str) -> None:
    """Whether it crashes at start, stays unhealthy, crashes in the soak or fails its smoke check: no request is lost."""
    before, first = containers("web1", PROJECT), current("web1")
    behave(rolling, fault)
    load = traffic("web1")
    document = rolling.json("deploy", "--version", f"2.0.0-{fault}", status=3)
    report = load.stop()
    assert report.failed == 0, told(report)
    error = document["error"]
    assert isinstance(error, dict)
    for part in FAULTS[fault]:
        assert part in error["message"], error
    assert error["target"] == "web1"
    assert f"web1 on {first}" in error["left_behind"]
    assert "mend it and deploy again" in error["next_step"]
    targets = document["targets"]
    assert isinstance(targets, dict)
    assert (targets["web1"]["result"], targets["web1"]["release"]) == ("rolled_back", first)
    assert current("web1") == first
    assert releases("web1") == [first]
    if fault != "wrong":  # those that had gone come back under other numbers
        assert containers("web1", PROJECT) == before
    assert {c.service for c in containers("web1", PROJECT)} == {"proxy", "app"}
    assert rolling.json("deploy.status")["data"]["agree"] is True  # type: ignore[index]

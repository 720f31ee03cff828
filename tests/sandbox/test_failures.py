"""Versions that fail: what was touched goes back, nobody notices, and the message says why."""

from __future__ import annotations

from pathlib import Path

import pytest
from fleets import address, containers, emptied, on, own_name
from stacks import Stack
from tiny import PROJECT, behave, current, releases, tiny
from traffic import Report, Traffic

from ops import sandbox as boxes

FAULTS = {
    "crash": ("exit code 7", "fatal: the setting colour is missing"),
    "sick": ("not healthy after 6 s: /health answers 503", "the queue does not answer"),
    "brief": ("exit code 9", "fatal: the cache ran over"),
    "worn": ("exit code 9", "fatal: too many requests"),
    "wrong": ("smoke check", "the body lacks 'right'"),
}


WORKER = """\
services:
  worker:
    image: nginx:1.27-alpine
    restart: unless-stopped
    command: ["sh", "-c", "sleep 3600"]
    stop_grace_period: 1s
"""


def told(report: Report) -> str:
    return f"{report.failed} of {report.total} failed: {report.failures[:10]}"


def traffic(*servers: str, post_share: float = 0.5) -> Traffic:
    targets = [(address(name), 80) for name in servers]
    return Traffic(targets, rate=60, post_share=post_share, slow_seconds=1.0).start()


@pytest.fixture(scope="module")
def rolling(sandbox: boxes.Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """Version 1 on one server, two containers behind the proxy, watched for 4 s before and after each switch."""
    stack = tiny(tmp_path_factory.mktemp("rolling") / "tiny", emptied("web1"))
    stack.edit("ops.toml", lambda text: text.replace("timeout = 20, soak = 0", "timeout = 6, soak = 4"))
    stack.run("deploy", "--version", "1.0.0")
    return stack


@pytest.mark.holds(2)
@pytest.mark.parity("D4")
@pytest.mark.parametrize("fault", FAULTS)
def test_a_version_that_fails_is_rolled_back_and_nobody_notices(rolling: Stack, fault: str) -> None:
    """Whether it crashes at start, stays unhealthy, crashes in a soak or fails its smoke check: no request is lost."""
    before, first = containers("web1", PROJECT), current("web1")
    behave(rolling, fault)
    # What a container has in hand when its traffic kills it is asked of another one, but nginx never repeats a write.
    load = traffic("web1", post_share=0.0 if fault == "worn" else 0.5)
    document = rolling.json("deploy", "--version", f"2.0.0-{fault}", status=3)
    report = load.stop()
    assert report.failed == 0, told(report)
    seen = report.by_version.get(f"2.0.0-{fault}", 0) > 0
    assert seen == (fault in ("worn", "wrong")), "what crashes or sickens on its own never gets a request"
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
    rolling.run("deploy.status")


@pytest.fixture(scope="module")
def pair(sandbox: boxes.Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """Two servers on releases of their own: 2.0.0 on the first, 1.0.0 on the second."""
    stack = tiny(
        tmp_path_factory.mktemp("pair") / "tiny",
        emptied("web1", "web2"),
        servers=("web1", "web2"),
        replicas=1,
    )
    stack.run("deploy", "--version", "1.0.0")
    stack.run("deploy", "--version", "2.0.0", "--servers", "web1")
    return stack


@pytest.mark.holds(2)
@pytest.mark.parity("D5")
@pytest.mark.parity("D12")
@pytest.mark.parametrize("where", ["gate", "smoke"])
def test_each_server_goes_back_to_its_own_release(pair: Stack, where: str) -> None:
    """When the second server fails, the first, switched before it, goes back too; each to what it had, unnoticed."""
    first, second = current("web1"), current("web2")
    assert first is not None
    assert second is not None
    assert ("2.0.0" in first, "1.0.0" in second) == (True, True)
    behave(pair, f"{'crash' if where == 'gate' else 'wrong'}@{own_name('web2')}")
    load = traffic("web1", "web2")
    document = pair.json("deploy", "--version", "3.0.0", status=3)
    report = load.stop()
    assert report.failed == 0, told(report)
    assert report.by_version.get("3.0.0", 0) > 0, "the first server was switched before the second failed"
    targets, error = document["targets"], document["error"]
    assert isinstance(targets, dict)
    assert isinstance(error, dict)
    assert {name: (one["result"], one["release"]) for name, one in targets.items()} == {
        "web1": ("rolled_back", first),
        "web2": ("rolled_back", second),
    }
    assert error["target"] == "web2"
    assert f"web1 on {first}" in error["left_behind"]
    assert f"web2 on {second}" in error["left_behind"]
    assert (current("web1"), current("web2")) == (first, second)
    versions = {name: on(name, "curl -s http://127.0.0.1/version") for name in ("web1", "web2")}
    assert '"2.0.0"' in versions["web1"]
    assert '"1.0.0"' in versions["web2"]


@pytest.mark.holds(2)
def test_a_first_deploy_that_fails_leaves_the_data_and_nothing_else(
    servers: boxes.Sandbox, tmp_path: Path
) -> None:
    """Containers and `current` are gone, volumes stay, the message shows why, and the next deploy works."""
    stack = tiny(tmp_path / "tiny", servers, strategy="recreate")
    behave(stack, "crash")
    done = stack.run("deploy", "--version", "1.0.0", status=3)
    assert "ended with exit code 7" in done.stderr
    assert "fatal: the setting colour is missing" in done.stderr
    assert (
        "Left behind: every touched server is back on its own release (web1 on nothing, as before)"
        in done.stderr
    )
    assert containers("web1", PROJECT) == []
    assert current("web1") is None
    assert releases("web1") == []
    assert on("web1", "docker volume ls -q").split() == [f"{PROJECT}_data"]
    assert on("web1", "docker network ls -q --filter type=custom") == ""
    behave(stack)
    stack.run("deploy", "--version", "1.0.1")
    assert on("web1", "docker volume ls -q").split() == [f"{PROJECT}_data"]
    assert "1.0.1" in (current("web1") or "")


@pytest.mark.holds(2)
@pytest.mark.parity("D4")
def test_a_worker_without_any_health_check_that_crashes_at_start_is_rolled_back(
    servers: boxes.Sandbox, tmp_path: Path
) -> None:
    """A service with no port and no healthcheck passes only when it stays up; one that ends after a second does not."""
    (tmp_path / "worker").mkdir()
    stack = tiny(tmp_path / "worker" / "tiny", servers, strategy="recreate")
    (stack.folder / "compose.yaml").write_text(WORKER)
    stack.edit("ops.toml", lambda text: text[: text.index("[proxy]")] + text[text.index("[environments") :])
    stack.run("deploy", "--version", "1.0.0")
    first = containers("web1", PROJECT)
    stack.edit(
        "compose.yaml", lambda text: text.replace("sleep 3600", "sleep 1; echo fatal: no queue; exit 4")
    )
    done = stack.run("deploy", "--version", "2.0.0", status=3)
    assert "ended with exit code 4" in done.stderr
    assert "fatal: no queue" in done.stderr
    assert [one.image for one in containers("web1", PROJECT)] == [one.image for one in first]
    assert (
        on("web1", f"docker inspect --format '{{{{json .Config.Cmd}}}}' {PROJECT}-worker-1").count("3600")
        == 1
    )

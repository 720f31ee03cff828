"""Rolling deploys of a whole fleet under traffic: nothing is lost, and what did not change is not touched."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from conftest import Stack
from fleets import address, containers, demo_copy, emptied, on, own_name, query, until
from traffic import Report, Traffic

from ops import sandbox as boxes

PROJECT = "demo-fleet"
WEB = ("web1", "web2")
RATE, REQUESTS = 220.0, 10_000
STREAM_SECONDS = 40.0


@dataclass(frozen=True)
class Fleet:
    """The demo's fleet, deployed: two web servers with three replicas each, the database on a third."""

    stack: Stack
    addresses: dict[str, str]

    def traffic(self, rate: float = RATE, stream_seconds: float | None = None) -> Traffic:
        """Start requests to both web servers, half of them POST, a twentieth of them slow."""
        targets = [(self.addresses[name], 80) for name in WEB]
        return Traffic(targets, rate=rate, stream_seconds=stream_seconds).start()

    def version(self, server: str) -> str | None:
        """Return the version that answers through a server's proxy, None where nothing answers."""
        return version_at(self.addresses[server])


def version_at(host: str) -> str | None:
    connection = http.client.HTTPConnection(host, 80, timeout=5)
    try:
        connection.request("GET", "/version")
        answer = connection.getresponse()
        found: str = json.loads(answer.read())["version"]
    except (OSError, http.client.HTTPException, ValueError, KeyError):
        return None
    finally:
        connection.close()
    return found


def told(report: Report) -> str:
    return f"{report.failed} of {report.total} failed: {report.failures[:10]}"


@pytest.fixture(scope="module")
def fleet(
    sandbox: boxes.Sandbox, images: Callable[..., None], tmp_path_factory: pytest.TempPathFactory
) -> Fleet:
    """The fleet with 1.0.0 on it and an hour of drain, so that a stream decides for itself when it ends."""
    images("1.0.0")
    images("1.1.0")
    stack = demo_copy(tmp_path_factory.mktemp("fleet") / "demo", emptied(*WEB, "db1"), "fleet")
    stack.edit("ops.toml", lambda text: text.replace("drain = 20", "drain = 3600"))
    stack.run("deploy", "--version", "1.0.0")
    return Fleet(stack, {name: address(name) for name in WEB})


@pytest.mark.holds(1)
@pytest.mark.parity("D7")
def test_a_rolling_deploy_loses_none_of_ten_thousand_requests(fleet: Fleet) -> None:
    """Writes, slow requests and a stream that spans the switch all get their answer while 1.1.0 replaces 1.0.0."""
    began = time.monotonic()
    traffic = fleet.traffic(stream_seconds=STREAM_SECONDS)
    deploy = fleet.stack.start("deploy", "--version", "1.1.0")
    until("1.1.0 on the first server", lambda: fleet.version("web1") == "1.1.0", seconds=180)
    switched = time.monotonic() - began
    out, err = deploy.communicate(timeout=300)
    assert deploy.returncode == 0, out + err
    while time.monotonic() - began < REQUESTS / RATE:
        time.sleep(0.5)
    report = traffic.stop()
    print(out, report)
    assert report.failed == 0, told(report)
    assert report.total >= REQUESTS
    assert report.total / report.seconds >= 200, "the generator did not reach its rate"
    assert report.posts > report.total * 0.45
    assert report.slow > report.total * 0.04
    assert set(report.by_version) == {"1.0.0", "1.1.0"}
    assert report.stream_ok
    assert switched < STREAM_SECONDS, f"the stream ended before the switch ({switched:.0f} s)"

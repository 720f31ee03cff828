"""Rolling deploys of a whole fleet under traffic: nothing is lost, and what did not change is not touched."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from fleets import address, containers, demo_copy, emptied, on, own_name, query, until
from stacks import Stack
from traffic import Report, Traffic

from ops import sandbox as boxes

PROJECT = "demo-fleet"
WEB = ("web1", "web2")
RATE, REQUESTS = 220.0, 10_000
STREAM_SECONDS = 40.0
OLD, NEW = "1.0.0-patient", "1.1.0-patient"


def patient(source: str) -> str:
    """Let the service wait longer for its database: on a busy machine its own 503 is no fault of the deploy."""
    return source.replace("connection(timeout=5)", "connection(timeout=25)")


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


def hosts_at(host: str, asked: int = 40) -> set[str]:
    """Return the containers that answer through a proxy."""
    connection = http.client.HTTPConnection(host, 80, timeout=5)
    found = set()
    for _ in range(asked):
        connection.request("GET", "/version")
        found.add(json.loads(connection.getresponse().read())["host"])
    connection.close()
    return found


def told(report: Report) -> str:
    return f"{report.failed} of {report.total} failed: {report.failures[:10]}"


@pytest.fixture(scope="module")
def fleet(
    sandbox: boxes.Sandbox, images: Callable[..., None], tmp_path_factory: pytest.TempPathFactory
) -> Fleet:
    """The fleet with the old version on it and an hour of drain, so that a stream decides for itself when it ends."""
    images(OLD, patient)
    images(NEW, patient)
    stack = demo_copy(tmp_path_factory.mktemp("fleet") / "demo", emptied(*WEB, "db1"), "fleet")
    stack.edit("ops.toml", lambda text: text.replace("drain = 20", "drain = 3600"))
    stack.run("deploy", "--version", OLD)
    return Fleet(stack, {name: address(name) for name in WEB})


@pytest.mark.holds(1)
@pytest.mark.parity("D7")
def test_a_rolling_deploy_loses_none_of_ten_thousand_requests(fleet: Fleet) -> None:
    """Writes, slow requests and a stream that spans the switch all get their answer while one version replaces another."""
    began = time.monotonic()
    traffic = fleet.traffic(stream_seconds=STREAM_SECONDS)
    deploy = fleet.stack.start("deploy", "--version", NEW)
    until("the new version on the first server", lambda: fleet.version("web1") == NEW, seconds=180)
    switched = time.monotonic() - began
    out, err = deploy.communicate(timeout=300)
    assert deploy.returncode == 0, out + err
    while time.monotonic() - began < REQUESTS / RATE:
        time.sleep(0.5)
    report = traffic.stop()
    assert report.failed == 0, told(report)
    assert report.total >= REQUESTS
    assert report.total / report.seconds >= 200, "the generator did not reach its rate"
    assert report.posts > report.total * 0.45
    assert report.slow > report.total * 0.04
    assert set(report.by_version) == {OLD, NEW}
    assert report.stream_ok
    assert switched < STREAM_SECONDS, f"the stream ended before the switch ({switched:.0f} s)"


@pytest.mark.holds(1)
@pytest.mark.parity("S3")
def test_scaling_up_and_down_loses_no_request(fleet: Fleet) -> None:
    """From three replicas to five and back, each takes its share and nobody notices those that come and go."""
    traffic = fleet.traffic(rate=100)
    fleet.stack.run("stack.scale", "--service", "web", "--replicas", "5")
    for name in WEB:
        assert len(containers(name, PROJECT, "web")) == 5
        until("all five behind the proxy", lambda name=name: len(hosts_at(fleet.addresses[name])) == 5)
    fleet.stack.run("stack.scale", "--service", "web", "--replicas", "3")
    report = traffic.stop()
    for name in WEB:
        assert len(containers(name, PROJECT, "web")) == 3
        assert len(hosts_at(fleet.addresses[name])) == 3
    assert report.failed == 0, told(report)
    assert report.posts > report.total * 0.4


@pytest.mark.holds(1)
def test_deploys_of_the_web_service_leave_the_database_alone(fleet: Fleet) -> None:
    """Twice in a row the database keeps its container, its start and its rows, while every web container is new."""
    query("db1", PROJECT, "INSERT INTO notes (body) VALUES ('kept')")
    rows = query("db1", PROJECT, "SELECT count(*), sum(hashtext(body)) FROM notes")
    database, proxies = containers("db1", PROJECT), [containers(name, PROJECT, "nginx") for name in WEB]
    fleet.stack.edit("ops.toml", lambda text: f'batch = "100%"\n{text}')
    versions = [OLD, NEW]
    for version in versions if fleet.version("web1") == NEW else reversed(versions):
        before = {one.id for name in WEB for one in containers(name, PROJECT, "web")}
        fleet.stack.run("deploy", "--version", version)
        assert {fleet.version(name) for name in WEB} == {version}
        assert not before & {one.id for name in WEB for one in containers(name, PROJECT, "web")}
        assert containers("db1", PROJECT) == database
        assert [containers(name, PROJECT, "nginx") for name in WEB] == proxies
        assert query("db1", PROJECT, "SELECT count(*), sum(hashtext(body)) FROM notes") == rows


@pytest.mark.holds(1)
def test_plain_compose_in_the_current_release_tells_the_truth(fleet: Fleet) -> None:
    """`docker compose ps` there lists what runs, and `docker compose up` finds nothing to change."""
    for name in (*WEB, "db1"):
        before = containers(name, PROJECT)
        listed = on(
            name, "cd /opt/demo/fleet/current && docker compose ps --format '{{.ID}} {{.State}}' --no-trunc"
        )
        assert sorted(listed.splitlines()) == sorted(f"{one.id} running" for one in before)
        on(name, "cd /opt/demo/fleet/current && docker compose up -d --pull never 2>&1")
        assert containers(name, PROJECT) == before


@pytest.mark.holds(1)
def test_a_reboot_of_a_web_server_brings_its_traffic_back(fleet: Fleet) -> None:
    """The containers and the proxy's upstream come back by themselves, and every replica is asked again."""
    boxes.restart(own_name("web1"))
    until("an answer from the rebooted server", lambda: fleet.version("web1"))
    until("all replicas behind its proxy", lambda: len(hosts_at(fleet.addresses["web1"])) == 3)
    fleet.stack.run("deploy.status")


@pytest.mark.holds(1)
def test_a_rolling_deploy_behind_an_older_nginx_loses_no_request(
    demo: Callable[..., Stack], images: Callable[..., None]
) -> None:
    """nginx 1.26 knows no `resolve`: addresses stand in during the roll. Idle connections, which it resets, are not kept."""
    images("1.0.0")
    images("1.1.0")
    stack = demo()
    stack.edit("compose.yaml", lambda text: text.replace("nginx:1.27-alpine", "nginx:1.26"))
    stack.edit("ops.toml", lambda text: text.replace("replicas = 3", "replicas = 2"))
    configuration = "nginx/conf.d/demo.conf"
    stack.edit(configuration, lambda text: text.replace("keepalive_min_timeout 3s;\n", ""))
    stack.edit(configuration, lambda text: text.replace("listen 80;", "listen 80;\n    keepalive_timeout 0;"))
    stack.edit("nginx/upstreams/web.conf", lambda text: "upstream web {\n    server web:8000;\n}\n")
    stack.run("deploy", "--version", "1.0.0")
    old = hosts_at(address("web1"))
    traffic = Traffic([(address("web1"), 80)], rate=60).start()
    stack.run("deploy", "--version", "1.1.0")
    report = traffic.stop()
    assert report.failed == 0, told(report)
    assert set(report.by_version) == {"1.0.0", "1.1.0"}
    new = hosts_at(address("web1"))
    assert len(old) == len(new) == 2
    assert not old & new

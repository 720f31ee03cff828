"""The stack under compose/gatekeeper, as its callers meet it and as it stands hardened on a server."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import shutil
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fleets import Seen, address, containers, emptied, on, until
from stacks import ROOT, SERVERS, Stack, on_this_set

from ops import sandbox as boxes

PROJECT = "gatekeeper-production"
SECRETS = {
    "mongo_root_password": "root's-long-$word",
    "db_password": "correct-horse $battery",
    "webhook_secret": "shared-with-the-sender",
    "api_key": "a-bearer-of-this",
}
HARDENED = ("nginx", "api", "agents", "mongo")


@dataclass(frozen=True)
class Answer:
    """An answer: its status, which version gave it on which container, and its text."""

    status: int
    version: str
    host: str
    text: str

    @property
    def document(self) -> Any:
        """The answer's JSON."""
        return json.loads(self.text)


def ask(
    path: str, *, method: str = "GET", body: bytes | None = None, key: str = "", **headers: str
) -> Answer:
    """Return what the proxy on the server answers; with a key, the caller is a known one."""
    connection = http.client.HTTPConnection(address("web1"), 80, timeout=20)
    try:
        known = {"Authorization": f"Bearer {key}"} if key else {}
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        connection.request(
            method, path, body, {**known, **named, **({"Content-Type": "application/json"} if body else {})}
        )
        found = connection.getresponse()
        return Answer(
            found.status,
            found.headers.get("X-Version", ""),
            found.headers.get("X-Host", ""),
            found.read().decode(),
        )
    finally:
        connection.close()


def called(path: str, method: str = "GET", **body: object) -> Answer:
    """Return what a caller with the key is answered."""
    content = json.dumps(body).encode() if body else None
    return ask(path, method=method, body=content, key=SECRETS["api_key"])


def signed(body: bytes, *, at: float | None = None, secret: str = SECRETS["webhook_secret"]) -> Answer:
    """Send an event as its sender does, signed at a time with a secret."""
    stamp = str(int(time.time() if at is None else at))
    found = hmac.new(secret.encode(), stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    return ask(
        "/v1/webhooks/shop",
        method="POST",
        body=body,
        X_Timestamp=stamp,
        X_Signature=f"sha256={found}",
    )


def counters() -> Counter[str]:
    """Return what the replicas have counted, each asked past the proxy, in sum."""
    script = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:8001/metrics').read().decode())"

    def asked(replica: Seen) -> str:
        return on("web1", f'docker exec {replica.id} python -c "{script}"')

    total: Counter[str] = Counter()
    with ThreadPoolExecutor(3) as pool:
        for text in pool.map(asked, containers("web1", PROJECT, "api")):
            lines = (line.rsplit(" ", 1) for line in text.split("\n") if line[:1].isalpha())
            total.update({name: float(value) for name, value in lines})
    return total


def connects(service: str, host: str, port: int) -> bool:
    """Return whether a container of the service, as it stands, opens a connection within two seconds."""
    inside = containers("web1", PROJECT, service)[0].id
    probe = (
        "import socket, sys\n"
        f"try: socket.create_connection(({host!r}, {port}), 2)\n"
        "except OSError: sys.exit(7)\n"
    )
    # In the container's network, with this machine's Python: its image need not have a tool for it.
    pid = on("web1", f"docker inspect -f '{{{{.State.Pid}}}}' {inside}").strip()
    told = on("web1", f"nsenter -t {pid} -n python3 - ; echo $?", stdin=probe.encode())
    assert told.strip() in ("0", "7"), told
    return told.strip() == "0"


def copied(folder: Path, sandbox: boxes.Sandbox, environment: str) -> Stack:
    """Return a copy of the stack with its secrets: files for production, values for the others."""
    hidden = shutil.ignore_patterns(".env", ".ops", "__pycache__")
    shutil.copytree(ROOT / "compose" / "gatekeeper", folder, ignore=hidden)
    (folder / "ops.toml").write_text(on_this_set((folder / "ops.toml").read_text(), sandbox))
    lines = [f"REGISTRY_USERNAME={sandbox.username}", f"REGISTRY_PASSWORD={sandbox.password}"]
    names = {"mongo_root_password": "MONGO_ROOT_PASSWORD", "db_password": "DB_PASSWORD"}
    names |= {"webhook_secret": "WEBHOOK_SECRET", "api_key": "API_KEY"}
    for name, text in SECRETS.items():
        (folder / "secrets" / name).write_text(text)
        (folder / "secrets" / name).chmod(0o644)
        quoted = text.replace("'", "\\'")
        lines += [] if environment == "production" else [f"{names[name]}='{quoted}'"]
    (folder / ".env").write_text("\n".join(lines) + "\n")
    (folder / ".env").chmod(0o600)
    return Stack(folder, environment, {"DOCKER_HOST": f"unix://{sandbox.builder_socket}"})


@pytest.fixture(scope="module")
def stack(sandbox, tmp_path_factory) -> Stack:
    """Production at version 1.0.0 on one server."""
    boxes.up(SERVERS, also=["mongo"], say=lambda text: None)
    made = copied(tmp_path_factory.mktemp("keeper") / "gatekeeper", emptied("web1"), "production")
    made.run("build", "--push", "--version", "1.0.0", "--quiet")
    made.run("deploy", "--version", "1.0.0", "--yes", "--quiet")
    return made


@pytest.mark.parity("S1")
@pytest.mark.parity("S3")
def test_three_replicas_answer_through_the_proxy_with_the_same_data(stack):
    """Requests through the proxy reach three containers, which read each other's questions; /metrics stays inside."""
    answers = [ask("/version") for _ in range(24)]
    assert {one.status for one in answers} == {200}
    assert {one.version for one in answers} == {"1.0.0"}
    assert len({one.host for one in answers}) == 3 == len(containers("web1", PROJECT, "api"))
    (proxy,) = containers("web1", PROJECT, "nginx")
    upstream = on("web1", f"docker exec {proxy.id} cat /etc/nginx/upstreams/api.conf")
    assert "least_conn;" in upstream
    assert upstream.count(":8001 ") == 3
    asked = called("/v1/questions", "POST", text="Is ünïcode kept?").document
    readers = [called(f"/v1/questions/{asked['id']}") for _ in range(12)]
    assert {one.document["text"] for one in readers} == {"Is ünïcode kept?"}
    assert len({one.host for one in readers}) == 3
    assert ask("/health").document == {"status": "ok"}
    assert ask("/ready").document == {"database": "up"}
    assert ask("/metrics").status == 404
    assert ask("/v1/questions", method="POST", body=b'{"text": "x"}').status == 401


@pytest.mark.parity("S1")
def test_a_webhook_is_taken_once_when_signed_and_fresh(stack):
    """A signed event is kept; a wrong signature, an old one and the same one again, also at once, are refused."""
    before = counters()
    body = json.dumps({"order": 7, "at": time.time()}).encode()
    moment = time.time()
    with ThreadPoolExecutor(6) as pool:
        statuses = sorted(one.status for one in pool.map(lambda _: signed(body, at=moment), range(6)))
    assert statuses == [202, 409, 409, 409, 409, 409], "one replica took it, whichever heard of it first"
    assert signed(body, secret="another-secret").status == 401
    assert signed(body + b" ", at=time.time() - 900).status == 401
    assert ask("/v1/webhooks/shop", method="POST", body=body).status == 401
    kept = [event for event in called("/v1/events").document if event["body"] == body.decode()]
    assert [event["source"] for event in kept] == ["shop"]
    after = counters()
    for result, times in {"accepted": 1, "replayed": 5, "refused": 3}.items():
        name = f'webhook_events_total{{result="{result}"}}'
        assert after[name] - before[name] == times, result


@pytest.mark.parity("S1")
def test_the_agents_answer_and_files_come_back(stack):
    """A question is claimed and answered by the agents, who see what webhooks brought; a file is the same bytes again."""
    asked = [called("/v1/questions", "POST", text=text).document["id"] for text in ("Which events?", "Hello")]

    def answers() -> list[Any]:
        return [called(f"/v1/questions/{number}").document for number in asked]

    until("the agents' answers", lambda: {one["state"] for one in answers()} == {"answered"}, seconds=30)
    first, second = (one["answer"] for one in answers())
    assert "events, from" in first
    assert second == "I take that down: Hello"
    assert counters()["agent_queries_total"] >= 2
    content = bytes(range(256)) * 40
    kept = ask("/v1/files/scan.bin", method="PUT", body=content, key=SECRETS["api_key"])
    assert kept.document == {
        "name": "scan.bin",
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    found = on("web1", "cat /opt/gatekeeper/production/shared/uploads/scan.bin | sha256sum")
    assert found.split()[0] == kept.document["sha256"]
    assert ask("/v1/files/..%2fsecret", key=SECRETS["api_key"]).status in (404, 422)


@pytest.mark.parity("B1")
def test_a_backup_brings_questions_and_files_back(stack):
    """What came since is gone after a restore, and what was there is there again; no replica is left behind."""
    kept = called("/v1/questions", "POST", text="Does it come back?").document["id"]
    folder = "/opt/gatekeeper/production/shared/uploads"
    on("web1", f"echo kept > {folder}/kept")
    stack.run("backup.full", "--quiet")
    later = called("/v1/questions", "POST", text="Written since?").document["id"]
    on("web1", f"echo overwritten > {folder}/kept")
    stack.run("restore", "--id", "latest", "--confirm", "production", "--quiet")
    assert {called(f"/v1/questions/{kept}").document["text"] for _ in range(6)} == {"Does it come back?"}
    assert called(f"/v1/questions/{later}").status == 404
    assert on("web1", f"cat {folder}/kept").strip() == "kept"
    assert len(containers("web1", PROJECT, "api")) == 3


@pytest.mark.parity("S2")
def test_the_database_is_out_of_reach_of_the_front_network(stack):
    """The proxy and the agents reach neither the database's name nor its address, the API does; nothing leads out of its network."""
    (database,) = containers("web1", PROJECT, "mongo")
    found = json.loads(on("web1", f"docker inspect {database.id}"))[0]
    networks = found["NetworkSettings"]["Networks"]
    assert list(networks) == [f"{PROJECT}_back"]
    assert not found["HostConfig"]["PortBindings"]
    where = networks[f"{PROJECT}_back"]["IPAddress"]
    assert connects("api", where, 27017)
    assert not connects("nginx", where, 27017)
    assert not connects("agents", where, 27017)
    (proxy,) = containers("web1", PROJECT, "nginx")
    assert on("web1", f"docker exec {proxy.id} getent hosts mongo", status=2) == ""
    assert not connects("mongo", address("db1"), 22), "an internal network leads nowhere"
    assert connects("agents", address("db1"), 22), "the probe itself works"


@pytest.mark.parity("S2")
def test_every_container_is_hardened_and_none_carries_a_secret(stack):
    """Read-only root, no rights to gain or to begin with, not root, limits; no secret in what `docker inspect` shows."""
    for service in HARDENED:
        for one in containers("web1", PROJECT, service):
            told = on("web1", f"docker inspect {one.id}")
            found = json.loads(told)[0]
            host = found["HostConfig"]
            assert host["ReadonlyRootfs"], service
            assert host["SecurityOpt"] == ["no-new-privileges:true"], service
            assert host["CapDrop"] == ["ALL"], service
            assert not host["CapAdd"], service
            assert "/tmp" in host["Tmpfs"], service
            assert min(host["Memory"], host["NanoCpus"], host["PidsLimit"]) > 0, service
            assert found["State"]["Health"]["Status"] == "healthy", service
            assert not [name for name, text in SECRETS.items() if text in told], service
            said = on(
                "web1",
                f"docker exec {one.id} sh -c 'id -u; touch /etc/x /opt/x 2>&1; grep -E \"^(NoNewPrivs|CapEff|CapBnd)\" /proc/self/status'",
            )
            user, *lines = said.splitlines()
            assert user != "0", service
            assert sum("Read-only file system" in line for line in lines) == 2, said
            assert "NoNewPrivs:\t1" in lines, service
            assert {line.split()[1] for line in lines if line.startswith("Cap")} == {"0" * 16}, service
    released = on("web1", "cat /opt/gatekeeper/production/releases/*/.env")
    assert not [text for text in SECRETS.values() if text in released]
    assert on("web1", "stat -c %a /opt/gatekeeper/production/files").strip() == "700", (
        "their files are root's"
    )


@pytest.mark.parity("S1")
def test_staging_runs_the_same_images_without_the_hardening(stack):
    """Staging takes its secrets from values, into files of the containers as well, and answers."""
    on("web1", "docker ps -aq | xargs docker rm --force --volumes")  # production has had its tests
    staging = copied(stack.folder.parent / "staging" / "gatekeeper", boxes.status(), "staging")
    staging.run("deploy", "--version", "1.0.0", "--quiet")
    assert ask("/ready").document == {"database": "up"}
    assert called("/v1/questions", "POST", text="Hello").status == 201
    for one in containers("web1", "gatekeeper-staging"):
        told = on("web1", f"docker inspect {one.id}")
        assert not [name for name, text in SECRETS.items() if text in told], one.service

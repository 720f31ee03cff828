"""The stack under compose/pro-team-care, as its users meet it: over TLS, with its limits, through a new version."""

from __future__ import annotations

import gzip
import http.client
import json
import os
import shutil
import socket
import ssl
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from fleets import address, containers, emptied, on
from stacks import ROOT, Stack, on_this_set
from traffic import Routes, Traffic

from ops import sandbox as boxes

NAME, PROJECT = "pro-team-care.sandbox", "pro-team-care-production"
REPLICAS = 2  # of the backend on each web server
SECURITY = {
    "strict-transport-security": "max-age=31536000; includeSubDomains",
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    "referrer-policy": "strict-origin-when-cross-origin",
    "content-security-policy": "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=()",
}


@dataclass(frozen=True)
class Answer:
    """An answer with its headers by lower-case name."""

    status: int
    headers: dict[str, str]
    body: bytes


def trusting(**versions: ssl.TLSVersion) -> ssl.SSLContext:
    """Return a context that trusts the sandbox's authority alone, with protocol versions as given."""
    context = ssl.create_default_context(cafile=str(boxes.status().ca_certificate))
    if versions.get("maximum_version") == ssl.TLSVersion.TLSv1_1:
        context.set_ciphers("ALL:@SECLEVEL=0")  # so that the refusal is the server's, not the client's
    for name, version in versions.items():
        setattr(context, name, version)
    return context


class Through(http.client.HTTPSConnection):
    """A connection to one server's proxy under the stack's own name."""

    def __init__(self, server: str) -> None:
        self._tls = trusting()
        super().__init__(address(server), 443, timeout=20, context=self._tls)

    def connect(self) -> None:
        raw = socket.create_connection((self.host, self.port), self.timeout)
        self.sock = self._tls.wrap_socket(raw, server_hostname=NAME)


def ask(server: str, path: str, *, method: str = "GET", body: object = None, **headers: str) -> Answer:
    """Return what a server answers over TLS, its certificate verified."""
    connection = Through(server)
    try:
        content = None if body is None else json.dumps(body)
        more = {"Content-Type": "application/json"} if body is not None else {}
        connection.request(method, path, content, {"Host": NAME, **more, **headers})
        found = connection.getresponse()
        return Answer(found.status, {key.lower(): text for key, text in found.getheaders()}, found.read())
    finally:
        connection.close()


def copied(folder: Path, sandbox: boxes.Sandbox, environment: str) -> Stack:
    """Return a copy of the stack with a certificate of the sandbox's authority, which its smoke checks verify."""
    hidden = shutil.ignore_patterns(".env", ".ops", "*.crt", "*.key", "__pycache__")
    shutil.copytree(ROOT / "compose" / "pro-team-care", folder, ignore=hidden)
    text = on_this_set((folder / "ops.toml").read_text(), sandbox)
    (folder / "ops.toml").write_text(text.replace('scheme = "https"', 'scheme = "https"\nca = "ca.crt"'))
    shutil.copy(sandbox.ca_certificate, folder / "ca.crt")
    certificate, key = boxes.issue_certificate("server", [NAME])
    (folder / "nginx/certs/server.crt").write_bytes(certificate)
    (folder / "nginx/certs/server.key").write_bytes(key)
    (folder / ".env").write_text(
        "DB_PASSWORD='a-long-$enough-password'\nREDIS_PASSWORD=another-long-password\n"
        f"REGISTRY_USERNAME={sandbox.username}\nREGISTRY_PASSWORD={sandbox.password}\n"
    )
    (folder / ".env").chmod(0o600)
    return Stack(folder, environment, {"DOCKER_HOST": f"unix://{sandbox.builder_socket}"})


@pytest.fixture(scope="module")
def stack(sandbox, tmp_path_factory) -> Stack:
    """Production on two web servers and one for the data, at version 1.0.0; 1.1.0 is built as well."""
    there = emptied("web1", "web2", "db1")
    made = copied(tmp_path_factory.mktemp("care") / "pro-team-care", there, "production")
    for version in ("1.0.0", "1.1.0"):
        made.run("build", "--push", "--version", version, "--quiet")
    made.run("deploy", "--version", "1.0.0", "--yes", "--quiet")
    return made


def sql(text: str) -> str:
    """Return what the stack's database answers."""
    (database,) = containers("db1", PROJECT, "postgres")
    psql = f"docker exec -i {database.id} psql -U pro_team_care -d pro_team_care -AtqX -v ON_ERROR_STOP=1"
    return on("db1", psql, stdin=text.encode()).strip()


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
@pytest.mark.parity("S5")
def test_tls_1_2_and_1_3_are_spoken_and_1_1_is_refused(stack):
    """Both web servers prove their name with TLS 1.2 and 1.3, and refuse 1.1; plain requests are sent to https."""
    for server in ("web1", "web2"):
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = trusting(minimum_version=version, maximum_version=version)
            raw = socket.create_connection((address(server), 443), 20)
            with raw, context.wrap_socket(raw, server_hostname=NAME) as spoken:
                assert spoken.version() == version.name.replace("_", ".")
    old = trusting(minimum_version=ssl.TLSVersion.TLSv1_1, maximum_version=ssl.TLSVersion.TLSv1_1)
    raw = socket.create_connection((address("web1"), 443), 20)
    with raw, pytest.raises(ssl.SSLError) as refused:
        old.wrap_socket(raw, server_hostname=NAME)
    assert refused.value.reason == "TLSV1_ALERT_PROTOCOL_VERSION", "the server itself refuses"
    plain = http.client.HTTPConnection(address("web1"), 80, timeout=20)
    plain.request("GET", "/patients?x=1", headers={"Host": NAME})
    answer = plain.getresponse()
    assert (answer.status, answer.getheader("Location")) == (301, f"https://{NAME}/patients?x=1")
    plain.close()


@pytest.mark.parity("S1")
@pytest.mark.parity("D11")
def test_what_is_written_is_read_back_and_the_schema_was_made_once(stack):
    """A patient admitted through one web server is read through the other; login attempts are counted in one cache."""
    admitted = ask("web1", "/api/v1/patients", method="POST", body={"name": "Ada Ünal"})
    assert admitted.status == 201
    number = json.loads(admitted.body)["id"]
    assert json.loads(ask("web2", f"/api/v1/patients/{number}").body)["name"] == "Ada Ünal"
    assert sql(f"SELECT name FROM patients WHERE id = {number}") == "Ada Ünal"
    counted = [
        json.loads(
            ask(server, "/api/v1/auth/login", method="POST", body={"username": "a", "password": "b"}).body
        )
        for server in ("web1", "web2")
    ]
    assert [one["attempts"] for one in counted] == [1, 2]
    (cache,) = containers("db1", PROJECT, "redis")
    assert on("db1", f"docker exec {cache.id} redis-cli get login:a").strip() == "2"
    assert sql("SELECT version_num FROM alembic_version") == "0001"
    (log,) = (
        path for path in (stack.folder / ".ops" / "logs").glob("*.log") if "phase migrate" in path.read_text()
    )
    assert log.read_text().count("docker compose run --rm backend alembic upgrade head") == 1
    assert "Pro Team Care" in ask("web1", "/").body.decode()


@pytest.mark.parity("S5")
def test_every_answer_has_the_security_headers_and_long_ones_are_compressed(stack):
    """Pages, API answers and errors bear all security headers; what is long is compressed where the client can read it."""
    answers = {
        "page": (200, ask("web1", "/")),
        "api": (200, ask("web1", "/api/v1/health")),
        "not found": (404, ask("web1", "/api/v1/patients/999999999")),
        "refused": (422, ask("web1", "/api/v1/patients", method="POST", body={"name": ""})),
        "too large": (413, ask("web1", "/api/v1/patients", method="POST", body={"name": "x" * 2_200_000})),
    }
    for name, (status, answer) in answers.items():
        assert answer.status == status, name
        assert {header: answer.headers.get(header) for header in SECURITY} == SECURITY, name
        assert answer.headers["server"] == "nginx", "the version is not told"
    packed = ask("web1", "/api/v1/openapi.json", **{"Accept-Encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    assert "Accept-Encoding" in packed.headers["vary"]
    assert json.loads(gzip.decompress(packed.body))["info"]["title"] == "Pro Team Care"
    assert "content-encoding" not in ask("web1", "/api/v1/openapi.json").headers


def statuses_of_a_burst(server: str, path: str, count: int) -> list[int]:
    """Send requests in one go on a connection of their own; return the statuses of all answers."""
    request = f"GET {path} HTTP/1.1\r\nHost: {NAME}\r\n\r\n".encode()
    raw = socket.create_connection((address(server), 443), 20)
    with trusting().wrap_socket(raw, server_hostname=NAME) as spoken, spoken.makefile("rb") as answers:
        spoken.sendall(request * count)
        found = []
        for _ in range(count):
            found.append(int(answers.readline().split()[1]))
            headers = http.client.parse_headers(answers)
            answers.read(int(headers["Content-Length"]))
        return found


@pytest.mark.parity("S5")
def test_past_the_limits_the_answer_is_429_and_login_is_stricter(stack):
    """Past 30 requests a second and a burst of 60 the API answers 429; a sixth login after the first is one too many."""
    attempt = {"username": "eve", "password": "guess"}
    logins = [ask("web2", "/api/v1/auth/login", method="POST", body=attempt) for _ in range(8)]
    spent = 1  # the test before has tried once, unless its token has come back since
    assert {one.status for one in logins[: 6 - spent]} == {401}
    assert 429 in [one.status for one in logins[6:]]
    limited = next(one for one in logins if one.status == 429)
    assert {header: limited.headers.get(header) for header in SECURITY} == SECURITY
    with ThreadPoolExecutor(10) as pool:
        bursts = list(pool.map(lambda _: statuses_of_a_burst("web2", "/api/v1/version", 40), range(10)))
    found = [status for burst in bursts for status in burst]
    assert set(found) == {200, 429}
    assert found.count(200) >= 60, "the burst is let through"
    assert ask("web1", "/api/v1/version").status == 200, "each proxy counts for itself"


@pytest.mark.holds(1)
@pytest.mark.parity("D7")
@pytest.mark.parity("S5")
def test_a_new_version_rolls_over_tls_without_a_lost_request(stack):
    """While 1.1.0 takes over on both web servers every request over verified TLS is answered; the data's containers stay."""
    data = [containers("db1", PROJECT, name)[0].id for name in ("postgres", "redis")]
    routes = Routes(reads=("/api/v1/patients", "/api/v1/version", "/"), write="/api/v1/patients")
    traffic = Traffic(
        [(address("web1"), 443), (address("web2"), 443)],
        rate=24,  # half of it at each server, below what one address may
        slow_share=0,
        tls=str(boxes.status().ca_certificate),
        host=NAME,
        routes=routes,
    ).start()
    try:
        document = stack.json("deploy", "--version", "1.1.0", "--yes")
    finally:
        report = traffic.stop()
    assert report.failed == 0, report.failures
    assert report.posts > 50
    assert report.by_version["1.0.0"] > 0 < report.by_version["1.1.0"]
    assert document["targets"]["web1"]["result"] == document["targets"]["web2"]["result"] == "changed"
    assert [containers("db1", PROJECT, name)[0].id for name in ("postgres", "redis")] == data
    for server in ("web1", "web2"):
        assert json.loads(ask(server, "/api/v1/version").body)["version"] == "1.1.0"
        assert 'content="1.1.0"' in ask(server, "/").body.decode()
        (proxy,) = containers(server, PROJECT, "nginx")
        upstream = on(server, f"docker exec {proxy.id} cat /etc/nginx/upstreams/backend.conf")
        assert "least_conn;" in upstream
        assert upstream.count(":8000 ") == REPLICAS == len(containers(server, PROJECT, "backend"))
    assert int(sql("SELECT count(*) FROM patients")) >= report.posts
    assert sql("SELECT version_num FROM alembic_version") == "0001"


@pytest.mark.parity("B4")
@pytest.mark.parity("B5")
def test_a_backup_brings_patients_cache_and_files_back(stack):
    """Database, cache and files go back to one backup together; what was written since is gone, and both servers answer."""
    kept = json.loads(ask("web1", "/api/v1/patients", method="POST", body={"name": "Kept"}).body)["id"]
    (cache,) = containers("db1", PROJECT, "redis")
    folder = "/opt/pro-team-care/production/shared/exchange"
    on("db1", f"docker exec {cache.id} redis-cli set kept yes && echo kept > {folder}/list")
    stack.run("backup.full", "--quiet")
    later = json.loads(ask("web2", "/api/v1/patients", method="POST", body={"name": "Since"}).body)["id"]
    on("db1", f"docker exec {cache.id} redis-cli set kept no && echo overwritten > {folder}/list")
    sql(f"UPDATE patients SET name = 'Overwritten' WHERE id = {kept}")
    stack.run("restore", "--id", "latest", "--confirm", "production", "--quiet")
    for server in ("web1", "web2"):
        assert json.loads(ask(server, f"/api/v1/patients/{kept}").body)["name"] == "Kept"
        assert ask(server, f"/api/v1/patients/{later}").status == 404
    (cache,) = containers("db1", PROJECT, "redis")
    assert on("db1", f"docker exec {cache.id} redis-cli get kept; cat {folder}/list").split() == [
        "yes",
        "kept",
    ]


@pytest.mark.parity("S5")
def test_a_smoke_check_over_https_takes_back_a_server_that_cannot_prove_its_name(stack):
    """A smoke check that trusts another authority fails the deploy, which goes back to what served before."""
    trusted = (stack.folder / "ca.crt").read_bytes()
    other, _ = boxes.issue_certificate("another-authority", [])
    (stack.folder / "ca.crt").write_bytes(other)
    try:
        document = stack.json("deploy", "--version", "1.0.0", "--yes", status=3)
    finally:
        (stack.folder / "ca.crt").write_bytes(trusted)
    assert "certificate" in document["error"]["message"].lower()
    assert document["targets"]["web1"]["result"] == "rolled_back"
    assert json.loads(ask("web1", "/api/v1/version").body)["version"] == "1.1.0"


@pytest.mark.parity("S1")
def test_every_environment_renders_and_staging_runs_on_one_server(stack):
    """dev and plain compose render with ports on 127.0.0.1 and a migration; staging deploys the same images on one server."""
    stack.run("stack.remove", "--volumes", "--yes", "--quiet")
    plain = {key: text for key, text in os.environ.items() if key != "DOCKER_HOST"}

    def rendered(*files: str) -> dict[str, dict[str, object]]:
        words = [word for file in files for word in ("--file", file)]
        done = subprocess.run(
            ["docker", "compose", *words, "config", "--format", "json"],
            cwd=stack.folder,
            env=plain,
            capture_output=True,
            text=True,
            check=True,
        )
        found: dict[str, dict[str, object]] = json.loads(done.stdout)["services"]
        return found

    dev = rendered("compose.yaml", "compose.dev.yaml")
    ports = [port for service in dev.values() for port in service.get("ports", [])]
    assert {port["host_ip"] for port in ports} == {"127.0.0.1"}
    assert {int(port["target"]) for port in ports} == {80, 443, 8080, 8000, 5432, 6379}
    assert rendered()["migrate"]["command"] == ["alembic", "upgrade", "head"]

    stack.environment = "staging"
    try:
        stack.run("config.check")
        stack.run("deploy", "--version", "1.1.0", "--quiet")
        assert json.loads(ask("web1", "/api/v1/health").body) == {"database": "up", "cache": "up"}
        assert ask("web1", "/api/v1/patients", method="POST", body={"name": "Bo"}).status == 201
        stack.run("deploy.status")
        stack.run("stack.remove", "--volumes", "--yes", "--quiet")
    finally:
        stack.environment = "production"

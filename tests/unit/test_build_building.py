"""A whole build, with Docker played by the strict fake."""

import json
import re
from pathlib import Path

import pytest

from ops.build import build, plan
from ops.commands import Result
from ops.config import Version, load
from ops.engines.rendering import sentinel
from ops.errors import ConfigError, FailedUnchanged, UsageError
from ops.hosts import Cancellation, Cancelled
from ops.hosts.fake import FakeHost

DIGEST = "sha256:" + "ab" * 32
CONFIG, BUILD = re.compile("config --format json"), re.compile("docker buildx build")
OPS = """
[secrets]
required = ["DB_PASSWORD"]
[build]
registry = "registry.example.org"
[registries."registry.example.org"]
username = "ci"
password = "env:REGISTRY_PASSWORD"
[environments.staging]
"""


@pytest.fixture
def settings(tmp_path, monkeypatch):
    for name in ("OPS_STACK", "DB_PASSWORD", "DOCKER_CONFIG", "BUILDX_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("REGISTRY_PASSWORD", "hunter2222")
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = tmp_path / "shop"
    (folder / "web").mkdir(parents=True)
    (folder / "web" / "Dockerfile").write_text("FROM scratch\n")
    (folder / "compose.yaml").write_text("services: {web: {build: ./web}}\n")
    (folder / "ops.toml").write_text(OPS)
    return load("staging", start=folder)


def model(settings, *names, **keys):
    section = {"context": str(settings.folder / "web"), "dockerfile": "Dockerfile", **keys}
    services = {name: {"build": section} for name in names or ("web",)}
    return json.dumps({"services": {**services, "db": {"image": "postgres:16"}}})


def writing_metadata(command):
    path = re.search(r"--metadata-file (\S+)", command.script)
    Path(path[1]).write_text(json.dumps({"containerimage.digest": DIGEST}))
    return Result(0, stderr="#5 [2/3] RUN make\n#5 0.1 DB is hunter2222\n")


def test_a_push_gives_back_reference_digest_and_outcome(settings):
    host = FakeHost("here").expect(CONFIG, stdout=model(settings)).expect(BUILD, answer=writing_metadata)
    with host:
        built = build(settings, host, Version("1.4.2", "c0ffee"), push=True)
    image = built.images["web"]
    assert (image.reference, image.digest) == ("registry.example.org/shop/web:1.4.2", DIGEST)
    outcome = built.outcome
    assert (outcome.version, outcome.revision, outcome.digests) == ("1.4.2", "c0ffee", {"web": DIGEST})
    assert outcome.targets["web"].result == "changed"


def test_no_secret_stands_in_any_command_and_the_log_is_masked(settings):
    host = FakeHost("here").expect(CONFIG, stdout=model(settings)).expect(BUILD, answer=writing_metadata)
    said = []
    with host:
        built = build(settings, host, Version("1"), push=True, say=said.append)
    assert "hunter2222" not in "".join(host.scripts) + "".join(said)
    log = Path(built.outcome.log or "").read_text()
    assert "DB is ***" in log
    assert "web: [2/3] RUN make" in said


def test_the_login_is_there_for_the_push_and_gone_after(settings):
    folders = []

    def look(command):
        folder = Path(re.search(r"DOCKER_CONFIG=(\S+)", command.script)[1])
        folders.append(folder)
        assert "registry.example.org" in json.loads((folder / "config.json").read_text())["auths"]
        return writing_metadata(command)

    host = FakeHost("here").expect(CONFIG, stdout=model(settings)).expect(BUILD, answer=look)
    build(settings, host, Version("1"), push=True)
    assert not folders[0].exists()


def test_without_a_push_no_login_is_asked_for_and_the_image_stays_here(settings, monkeypatch):
    monkeypatch.delenv("REGISTRY_PASSWORD")
    local = load("staging", start=settings.folder)
    host = FakeHost("here").expect(CONFIG, stdout=model(settings)).expect(BUILD, answer=writing_metadata)
    with host:
        built = build(local, host, Version("1"))
    assert " --load " in host.scripts[-1]
    assert "DOCKER_CONFIG=" not in host.scripts[-1]
    assert built.images["web"].digest is None


def test_compose_gets_stand_ins_for_secrets_with_or_without_a_value(settings):
    seen = []

    def look(command):
        seen.append(Path(re.search(r"--env-file (\S+)", command.script)[1]).read_text())
        return Result(0, model(settings))

    plan(settings, FakeHost("here").expect(CONFIG, answer=look), Version("1"))
    assert f'DB_PASSWORD="{sentinel("DB_PASSWORD")}"' in seen[0]
    assert "hunter2222" not in seen[0]


def test_a_plan_builds_nothing(settings):
    host = FakeHost("here").expect(CONFIG, stdout=model(settings))
    with host:
        (planned,) = plan(settings, host, Version("1"), push=True)
    assert planned.way == "registry"
    assert planned.commands[0].startswith("docker buildx build --tag registry.example.org/shop/web:1 ")
    assert not (settings.folder / ".ops").exists()


def test_a_failed_build_is_told_with_its_end_and_the_log(settings):
    said = '------\n > [2/2] RUN make:\ncc: no such file\n------\nERROR: failed to solve: process "make" did not complete successfully: exit code: 2\n'
    host = FakeHost("here").expect(CONFIG, stdout=model(settings)).expect(BUILD, stderr=said, status=1)
    with host, pytest.raises(FailedUnchanged, match="cc: no such file") as caught:
        build(settings, host, Version("1"))
    outcome = caught.value.outcome
    assert outcome is not None
    assert outcome.targets["web"].result == "failed"
    assert "cc: no such file" in Path(outcome.log or "").read_text()


def test_only_the_services_asked_for_are_built(settings):
    host = FakeHost("here").expect(CONFIG, stdout=model(settings, "web", "api")).expect(BUILD)
    with host:
        built = build(settings, host, Version("1"), services=("api",))
    assert list(built.images) == ["api"]


def test_a_stack_that_builds_nothing_is_no_failure(settings):
    host = FakeHost("here").expect(CONFIG, stdout=json.dumps({"services": {"db": {"image": "postgres:16"}}}))
    with host:
        assert build(settings, host, Version("1")).images == {}


@pytest.mark.parametrize(("status", "what"), [(71, "Docker"), (72, "docker compose"), (73, "docker buildx")])
def test_what_is_missing_on_this_machine_is_named(settings, status, what):
    host = FakeHost("here").expect(CONFIG, status=status)
    with pytest.raises(FailedUnchanged, match=what):
        build(settings, host, Version("1"))


def test_what_compose_says_of_the_files_is_passed_on(settings):
    host = FakeHost("here").expect(CONFIG, status=15, stderr="services.web.port must be a string")
    with pytest.raises(ConfigError, match=r"services\.web\.port must be a string"):
        build(settings, host, Version("1"))


def test_an_image_for_several_platforms_is_refused_where_it_would_stay_here(settings):
    both = model(settings, platforms=["linux/amd64", "linux/arm64"])
    with pytest.raises(UsageError, match="can only be pushed"):
        plan(settings, FakeHost("here").expect(CONFIG, stdout=both), Version("1"))


def test_a_cancelled_build_leaves_no_login(settings):
    cancellation, folders = Cancellation(), []

    def cancelled(command):
        folders.append(Path(re.search(r"DOCKER_CONFIG=(\S+)", command.script)[1]))
        cancellation.cancel()
        raise Cancelled

    host = FakeHost("here").expect(CONFIG, stdout=model(settings)).expect(BUILD, answer=cancelled)
    with pytest.raises(Cancelled):
        build(settings, host, Version("1"), push=True, cancellation=cancellation)
    assert not folders[0].exists()

"""Tags become digests once for the fleet; what cannot be pulled is told in words that help."""

import json

import pytest
from examples import facts
from shells import ShellHost, run

from ops.config import load
from ops.deploy.images import Wish, pull, pull_error, pull_pins, resolve
from ops.deploy.survey import Survey
from ops.engines.facts import Image
from ops.errors import FailedUnchanged, OpsError, Problem

DOCKER = """#!/bin/sh
echo "$*" >> "{folder}/calls"
[ -z "$DOCKER_CONFIG" ] || { echo "$DOCKER_CONFIG" > "{folder}/where"; cat "$DOCKER_CONFIG/config.json" > "{folder}/config";
    stat -c %a "$DOCKER_CONFIG" "$DOCKER_CONFIG/config.json" > "{folder}/modes"; }
case "$*" in
    "pull -q "*missing*) echo 'Using default tag' >&2; echo 'manifest unknown' >&2; exit 1 ;;
    "pull -q "*) echo pulled ;;
    "image inspect "*) for name; do :; done; printf '{"id":"sha256:ii","digests":["%s@sha256:dd"]}\\n' "${name%%[:@]*}" ;;
esac
"""


@pytest.fixture
def server(tmp_path, shell, monkeypatch):
    (tmp_path / "docker").write_text(DOCKER.replace("{folder}", str(tmp_path)))
    (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return ShellHost("web1", shell)


@pytest.fixture
def settings(tmp_path):
    (tmp_path / "compose.yaml").write_text("services: {}\n")
    (tmp_path / "ops.toml").write_text(
        "stack = 'shop'\n[environments.production]\nservers.web1 = {}\nservers.web2 = {}\nstate_host = 'web1'\n"
    )
    return load("production", start=tmp_path)


def surveys(**servers):
    return {name: Survey(facts(images=images), None) for name, images in servers.items()}


def calls(tmp_path):
    path = tmp_path / "calls"
    return (
        [line for line in path.read_text().splitlines() if line.startswith("pull")] if path.exists() else []
    )


def test_each_reference_gets_an_answer_or_a_reason(server, shell):
    lines = run(pull(["api:1", "missing:2", "db:16"], None, 60.0), shell).stdout.splitlines()
    assert lines[0] == 'api:1\t{"id":"sha256:ii","digests":["api@sha256:dd"]}'
    assert lines[1] == "missing:2\t!manifest unknown"
    assert lines[2].startswith("db:16\t{")


def test_credentials_stand_in_a_folder_of_their_own_for_the_pull_alone(server, shell, tmp_path):
    auths = json.dumps({"auths": {"r.test": {"auth": "c2VjcmV0"}}})
    command = pull(["api:1"], auths, 60.0)
    assert run(command, shell).ok
    assert (tmp_path / "config").read_text() == auths
    assert (tmp_path / "modes").read_text().split() == ["700", "600"]
    from pathlib import Path

    assert not Path((tmp_path / "where").read_text().strip()).exists()
    assert "c2VjcmV0" not in command.script + command.shown


def test_a_tag_becomes_the_digest_of_its_own_repository(server, settings):
    pins = resolve([Wish("api:1", ("web1",), True)], {}, surveys(web1=()), {"web1": server}, settings)
    assert pins == {"api:1": "api@sha256:dd"}


def test_a_tag_that_two_servers_need_is_asked_for_on_the_first_alone(server, settings):
    hosts = {"web1": server, "web2": ShellHost("web2")}
    resolve([Wish("api:1", ("web1", "web2"), True)], {}, surveys(web1=(), web2=()), hosts, settings)
    assert hosts["web2"].commands == []


def test_what_needs_no_question_is_not_asked(server, settings, tmp_path):
    one, known = Wish("db@sha256:aa", ("web1",), False), {"db@sha256:aa": "db@sha256:aa"}
    assert resolve([one], known, surveys(web1=()), {"web1": server}, settings) == known
    assert calls(tmp_path) == []


def test_every_image_that_no_registry_has_is_told(server, settings):
    wishes = [Wish(f"missing:{n}", ("web1",), True) for n in (1, 2)]
    with pytest.raises(Problem) as failure:
        resolve(wishes, {}, surveys(web1=()), {"web1": server}, settings)
    assert "missing:1" in str(failure.value)
    assert "missing:2" in str(failure.value)
    assert failure.value.exit_code == 1


def test_an_image_built_on_the_server_is_enough_where_no_registry_has_it(server, settings):
    built = Image("missing", "2", "<none>", "sha256:built")
    pins = resolve(
        [Wish("missing:2", ("web1",), True)], {}, surveys(web1=(built,)), {"web1": server}, settings
    )
    assert pins == {"missing:2": "sha256:built"}


def test_an_image_of_a_registry_that_no_longer_has_it_is_not(server, settings):
    pulled = Image("missing", "2", "sha256:dd", "sha256:ii")
    with pytest.raises(OpsError, match="missing:2"):
        resolve([Wish("missing:2", ("web1",), True)], {}, surveys(web1=(pulled,)), {"web1": server}, settings)


def test_servers_pull_what_they_lack_and_no_more(server, settings, tmp_path):
    here = Image("db", "16", "sha256:dd", "sha256:ii")
    wanted = {"web1": {"api:1": "api@sha256:dd", "db:16": "db@sha256:dd"}}
    pull_pins(wanted, surveys(web1=(here,)), {"web1": server}, settings)
    assert calls(tmp_path) == ["pull -q api@sha256:dd"]


def test_an_image_that_is_on_another_server_only_is_told(server, settings):
    with pytest.raises(FailedUnchanged, match="in no registry") as failure:
        pull_pins({"web1": {"api:1": "sha256:" + "a" * 64}}, surveys(web1=()), {"web1": server}, settings)
    assert "inv build --push" in failure.value.next_step


@pytest.mark.parametrize(
    ("text", "said", "step"),
    [
        (
            "manifest for r.test/api:9 not found: manifest unknown",
            "there is no image r.test/api:9",
            "check --version",
        ),
        ("unauthorized: authentication required", "r.test refuses r.test/api:9", '[registries."r.test"]'),
        ("pull access denied for r.test/api", "r.test refuses r.test/api:9", "or that the image exists"),
        (
            "dial tcp 10.0.0.9:443: connect: connection refused",
            "cannot pull r.test/api:9",
            "does r.test answer from web1?",
        ),
        (
            "failed to register layer: write /usr/lib/big.so: no space left on device",
            "disk full: the filesystem of /var/lib/docker has no room for r.test/api:9",
            "make room on web1: docker system df; docker image prune",
        ),
    ],
)
def test_a_pull_that_failed_is_told_by_its_cause(text, said, step):
    known = facts(free={"/opt/shop/production": 10**10, "/var/lib/docker": 10**9})
    error = pull_error("r.test/api:9", text, "web1", known)
    assert said in str(error)
    assert step in error.next_step
    assert error.exit_code == 1

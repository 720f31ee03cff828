"""Which images the sandbox uses, and when it builds them again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ops.errors import UsageError
from ops.sandbox import images
from ops.sandbox.docker import docker
from ops.sandbox.look_alikes import LOOK_ALIKES


@pytest.fixture
def fake_docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Puts a `docker` of the given shell text in front of PATH; its calls stand in the returned file."""

    def make(body: str) -> Path:
        calls = tmp_path / "calls"
        program = tmp_path / "docker"
        program.write_text(f'#!/bin/sh\necho "$@" >>{calls}\n{body}\n')
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
        monkeypatch.delenv("OPS_SANDBOX_IMAGES", raising=False)
        return calls

    return make


def test_upstream_images_are_used_where_the_engine_can_pull_them(fake_docker: Callable[[str], Path]) -> None:
    fake_docker("exit 0")
    assert images.decide(None, lambda line: None) == "upstream"


def test_look_alikes_are_used_and_said_to_be_such_where_nothing_can_be_pulled(
    fake_docker: Callable[[str], Path],
) -> None:
    fake_docker("echo 'no route to host' >&2; exit 1")
    said: list[str] = []
    assert images.decide(None, said.append) == "look-alike"
    assert "look-alikes" in said[-1]


def test_what_was_decided_once_is_not_asked_again(fake_docker: Callable[[str], Path]) -> None:
    calls = fake_docker("exit 0")
    assert images.decide("look-alike", lambda line: None) == "look-alike"
    assert not calls.exists()


def test_the_environment_wins_over_what_was_decided(
    fake_docker: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_docker("exit 1")
    monkeypatch.setenv("OPS_SANDBOX_IMAGES", "upstream")
    assert images.decide("look-alike", lambda line: None) == "upstream"
    monkeypatch.setenv("OPS_SANDBOX_IMAGES", "both")
    with pytest.raises(UsageError):
        images.decide(None, lambda line: None)


def test_an_engine_that_does_not_answer_is_told_with_the_way_to_one(
    fake_docker: Callable[[str], Path],
) -> None:
    fake_docker(
        "echo 'Cannot connect to the Docker daemon at unix:///x. Is the docker daemon running?' >&2; exit 1"
    )
    with pytest.raises(Exception, match="no Docker engine answers") as failed:
        docker("info")
    assert "scripts/setup --engine" in str(getattr(failed.value, "next_step", ""))


def test_no_upstream_name_has_two_look_alikes() -> None:
    names = [f"{each.repository}:{tag}" for each in LOOK_ALIKES for tag in each.tags]
    assert len(set(names)) == len(names)


def test_every_look_alike_has_a_dockerfile_that_starts_from_the_given_base() -> None:
    for folder in {each.folder for each in LOOK_ALIKES} | {"server"}:
        text = (Path(images.__file__).with_name("dockerfiles") / folder / "Dockerfile").read_text()
        assert "ARG BASE" in text
        assert "FROM ${BASE}" in text


def test_the_reference_of_an_image_follows_its_base_and_its_arguments(
    fake_docker: Callable[[str], Path],
) -> None:
    fake_docker("exit 0")

    def built(base: str, arguments: dict[str, str]) -> str:
        return images._build("nginx", base, arguments, {}, lambda line: None)

    assert built("base:1", {"SUITE": "forky"}) == built("base:1", {"SUITE": "forky"})
    assert (
        len(
            {
                built("base:1", {"SUITE": "forky"}),
                built("base:2", {"SUITE": "forky"}),
                built("base:1", {"SUITE": "x"}),
            }
        )
        == 3
    )


def test_an_image_that_is_there_is_not_built(fake_docker: Callable[[str], Path]) -> None:
    calls = fake_docker("exit 0")
    reference = images._build("redis", "base:1", {}, {}, lambda line: None)
    before = calls.read_text()
    assert images._build("redis", "base:1", {}, {reference: "sha256:1"}, lambda line: None) == reference
    assert calls.read_text() == before


def test_an_image_on_demand_is_built_when_asked_for_and_kept_when_not(
    fake_docker: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = fake_docker("exit 0")
    there = {f"opsbook-sandbox/{name}": "sha256:1" for name in ("debian:trixie", "mongo:1", "redis:old")}
    monkeypatch.setattr(images, "_built", lambda: dict(there))
    built: list[str] = []

    def build(folder: str, base: str, arguments: dict[str, str], known: dict[str, str], say: object) -> str:
        built.append(folder)
        reference = f"opsbook-sandbox/{images._key(folder, arguments)}:new"
        there[reference] = "sha256:2"
        return reference

    monkeypatch.setattr(images, "_build", build)
    usual = images.prepare("look-alike", lambda line: None)
    assert "mongo" not in built
    assert "mongo" not in {look_alike.repository for look_alike, _, _ in usual.look_alikes}
    assert "image rm opsbook-sandbox/redis:old" in calls.read_text()
    assert "mongo:1" not in calls.read_text()
    asked = images.prepare("look-alike", lambda line: None, ["mongo"])
    assert "mongo" in built
    assert "mongo" in {look_alike.repository for look_alike, _, _ in asked.look_alikes}
    with pytest.raises(UsageError, match="no image redis is built on demand"):
        images.prepare("look-alike", lambda line: None, ["redis"])

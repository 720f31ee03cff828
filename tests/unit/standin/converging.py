"""What `docker compose` does to the stand-in engine."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from standin.compose import read_release, rendered
from standin.containers import Container
from standin.nginx import Nginx
from standin.pipe import Answer

if TYPE_CHECKING:
    from standin.docker import Docker

__all__ = ["compose"]

OK: Answer = (0, "", "")
LABEL = "com.docker.compose."


def compose(docker: Docker, argv: list[str], cwd: Path) -> Answer:
    """Answer one `docker compose` command line."""
    words = list(argv)
    options: dict[str, list[str]] = {}
    while words and words[0].startswith("-"):
        options.setdefault(words.pop(0), []).append(words.pop(0))
    verb = words.pop(0)
    if verb == "version":
        return 0, "2.26.1\n", ""
    if verb == "config":
        project, env_file = options["--project-name"][0], options["--env-file"][0]
        return 0, json.dumps(rendered(cwd, options["-f"], project, env_file)), ""
    if verb == "down":
        return _down(docker, options["--project-name"][0], volumes="--volumes" in words)
    model = read_release(cwd)
    if verb == "up":
        return _up(docker, model, words, cwd)
    if verb == "run" and "--entrypoint" in words:  # a test of the proxy's configuration
        return OK
    if verb == "run":
        service, *command = words[words.index("--label") + 2 :]
        image = docker.image(model["services"][service]["image"])
        return image.behaviour.migration if image else (1, "", f"no such image for {service}: {command}")
    if verb == "restart":
        for container in docker.containers:
            if container.project == model["name"] and (not words or container.service in words):
                container.starts += 1
        return OK
    return 64, "", f"stand-in docker: not known: compose {verb}"


def _down(docker: Docker, project: str, *, volumes: bool) -> Answer:
    for container in [c for c in docker.containers if c.project == project]:
        docker.containers.remove(container)
    for owned in (docker.networks, *([docker.volumes] if volumes else [])):
        for name in [n for n, labels in owned.items() if labels.get(f"{LABEL}project") == project]:
            del owned[name]
    return OK


def _up(docker: Docker, model: dict[str, Any], words: list[str], folder: Path) -> Answer:
    scale, services, recreate = {}, [], "--no-recreate" not in words
    while words:
        word = words.pop(0)
        if word == "--scale":
            name, _, count = words.pop(0).partition("=")
            scale[name] = int(count)
        elif word == "--pull":
            words.pop(0)
        elif not word.startswith("-"):
            services.append(word)
    for service in services:
        definition = {**model["services"][service], "folder": str(folder)}
        if docker.image(definition["image"]) is None:
            return 1, "", f"Error response from daemon: No such image: {definition['image']}"
        _made(docker, model, definition)
        _converge(docker, model["name"], service, definition, scale.get(service), recreate=recreate)
    return OK


def _made(docker: Docker, model: dict[str, Any], definition: dict[str, Any]) -> None:
    for kind, owned in (("volumes", docker.volumes), ("networks", docker.networks)):
        for key, item in (model.get(kind) or {}).items():
            owned.setdefault(item["name"], {f"{LABEL}project": model["name"], f"{LABEL}{kind[:-1]}": key})


def _converge(
    docker: Docker,
    project: str,
    service: str,
    definition: dict[str, Any],
    count: int | None,
    *,
    recreate: bool,
) -> None:
    wanted = count if count is not None else int((definition.get("deploy") or {}).get("replicas", 1))
    kept = {
        key: value
        for key, value in definition.items()
        if key not in ("deploy", "scale", "depends_on", "folder")
    }
    digest = hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()
    present = [c for c in docker.of(service) if c.project == project]
    for container in present[wanted:]:
        docker.take_off(container, "scaled away")
        docker.containers.remove(container)
    for container in present[:wanted]:
        if recreate and container.hash != digest:
            docker.containers.remove(container)
            _start(docker, project, service, container.number, definition, digest)
        elif not container.running:
            container.starts += 1
            docker.begin(container)
    last = max((c.number for c in present), default=0)
    for number in range(last + 1, last + 1 + wanted - len(present)):
        _start(docker, project, service, number, definition, digest)


def _start(
    docker: Docker, project: str, service: str, number: int, definition: dict[str, Any], digest: str
) -> None:
    image = docker.image(definition["image"])
    assert image is not None
    labels = {
        f"{LABEL}project": project,
        f"{LABEL}service": service,
        f"{LABEL}container-number": str(number),
        f"{LABEL}oneoff": "False",
        f"{LABEL}project.working_dir": definition["folder"],
        **(definition.get("labels") or {}),
    }
    address = docker.next_address()
    name = definition.get("container_name") or f"{project}-{service}-{number}"
    container = Container(
        name, service, number, project, image, definition["image"], labels, digest, address, definition
    )
    if image.repository == "nginx":
        folders = tuple(
            docker.place(v["source"]) for v in definition.get("volumes") or () if v["type"] == "bind"
        )
        container.nginx = Nginx(folders, docker.nginx_version, linger=docker.linger)
    docker.containers.append(container)
    docker.begin(container)

"""The stand-in Docker engine of one server: images, containers, volumes, and the proxy's view of them."""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from standin.compose import read_release, rendered
from standin.nginx import Nginx, Refused
from standin.pipe import Answer, Pipe
from standin.templates import filled

__all__ = ["Behaviour", "Container", "Docker", "Image", "Registry"]

OK: Answer = (0, "", "")
LABEL = "com.docker.compose."


@dataclass
class Behaviour:
    """What a container of an image does: `crash` is the status it ends with, `status` what it answers."""

    crash: int | None = None
    status: int = 200
    health: str = ""
    log: str = ""
    migration: Answer = OK


@dataclass(frozen=True)
class Image:
    """One image as a registry holds it."""

    repository: str
    tag: str
    behaviour: Behaviour

    @property
    def digest(self) -> str:
        """The digest that a registry gives it."""
        return "sha256:" + hashlib.sha256(f"{self.repository}:{self.tag}".encode()).hexdigest()

    @property
    def id(self) -> str:
        """Its id on a server."""
        return "sha256:" + hashlib.sha256(f"id {self.digest}".encode()).hexdigest()


class Registry:
    """The images that servers can pull."""

    def __init__(self) -> None:
        self.images: dict[str, Image] = {}
        self.down = False

    def publish(self, reference: str, **behaviour: Any) -> Image:
        """Add an image `repository:tag`; the keywords are those of Behaviour."""
        repository, _, tag = reference.rpartition(":")
        self.images[reference] = Image(repository, tag, Behaviour(**behaviour))
        return self.images[reference]

    def find(self, reference: str) -> Image | None:
        """Return the image that a tag or a digest names."""
        for image in self.images.values():
            if reference in (f"{image.repository}:{image.tag}", f"{image.repository}@{image.digest}"):
                return image
        return None


@dataclass(eq=False)
class Container:
    """One container; `hash` is Compose's own idea of its definition."""

    name: str
    service: str
    number: int
    project: str
    image: Image
    reference: str
    labels: dict[str, str]
    hash: str
    address: str
    definition: dict[str, Any]
    id: str = field(default_factory=lambda: uuid.uuid4().hex * 2)
    state: str = "running"
    exit_code: int = 0
    restarts: int = 0
    starts: int = 1
    nginx: Nginx | None = None

    @property
    def running(self) -> bool:
        return self.state == "running"

    @property
    def config(self) -> str:
        return self.labels.get("ops.config", "")

    @property
    def ports(self) -> str:
        found = [p for p in self.definition.get("ports") or () if p.get("published")]
        return ", ".join(
            f"{p.get('host_ip', '0.0.0.0')}:{p['published']}->{p['target']}/{p['protocol']}" for p in found
        )


Breaker = Callable[["Docker", str], Answer | None]


class Docker:
    """Answers the `docker` commands of Opsbook. `calls` records them, `harm` what users would have noticed."""

    def __init__(self, folder: Path, registry: Registry, *, subnet: int = 1) -> None:
        self.registry = registry
        self.images: dict[str, Image] = {}
        self.tags: dict[str, str] = {}
        self.containers: list[Container] = []
        self.volumes: dict[str, dict[str, str]] = {}
        self.networks: dict[str, dict[str, str]] = {}
        self.calls: list[str] = []
        self.harm: list[str] = []
        self.least: dict[str, int] = {}
        self.version = "26.1.5"
        self.nginx_version = "1.27.4"
        self.linger = False
        self._breakers: list[tuple[re.Pattern[str], Breaker]] = []
        self._subnet, self._last = subnet, 1
        self._lock = threading.RLock()
        self.pipe = Pipe(folder, self.handle)
        self.place: Callable[[str], Path] = Path

    # What tests do to it.

    def breaks(self, pattern: str, breaker: Breaker | Answer, *, times: int | None = None) -> None:
        """Let a breaker see each command that a pattern finds; what it returns is the answer, None goes on."""
        left = [times]

        def limited(docker: Docker, line: str) -> Answer | None:
            if left[0] is not None:
                if left[0] == 0:
                    return None
                left[0] -= 1
            return breaker(docker, line) if callable(breaker) else breaker

        self._breakers.append((re.compile(pattern), limited))

    def mend(self) -> None:
        """Take all breakers away."""
        self._breakers.clear()

    def of(self, service: str) -> list[Container]:
        """Return a service's containers by number."""
        return sorted((c for c in self.containers if c.service == service), key=lambda c: c.number)

    def shown(self) -> list[str]:
        """Return `service-number image state` of every container, sorted."""
        return sorted(
            f"{c.service}-{c.number} {c.image.repository}:{c.image.tag} {c.state}" for c in self.containers
        )

    def crash(self, container: Container, exit_code: int = 1) -> None:
        """End a container's process."""
        with self._lock:
            container.state, container.exit_code = "exited", exit_code

    def rotation(self, service: str) -> list[Container]:
        """Return the running containers that the proxy sends requests of a service to."""
        found = []
        for proxy in self.containers:
            if proxy.nginx is not None and proxy.running and service in proxy.nginx.loaded:
                servers = proxy.nginx.loaded[service].servers
                found += [
                    c for c in self.of(service) if c.running and {c.name, c.address, c.service} & set(servers)
                ]
        return found

    def answer_of(self, address: str, port: int) -> tuple[int, str] | None:
        """Return (status, body) of a request; None where nobody listens."""
        with self._lock:
            if address == "127.0.0.1":
                return self._through_the_proxy()
            for container in self.containers:
                if container.address == address and container.running:
                    return container.image.behaviour.status, f"version {container.image.tag}"
        return None

    def _through_the_proxy(self) -> tuple[int, str] | None:
        proxies = [c for c in self.containers if c.nginx is not None and c.running]
        if not proxies:
            return None
        assert proxies[0].nginx is not None
        for service in proxies[0].nginx.loaded:
            for container in self.rotation(service):
                return container.image.behaviour.status, f"version {container.image.tag}"
        return 502, "bad gateway"

    # What `docker` does.

    def handle(self, argv: list[str], cwd: Path) -> Answer:
        """Answer one command line."""
        line = " ".join(argv)
        self.calls.append(line)
        for pattern, breaker in self._breakers:
            if pattern.search(line):
                answer = breaker(self, line)
                if answer is not None:
                    return answer
        method = getattr(self, f"_do_{argv[0]}", None)
        if method is None:
            return 64, "", f"stand-in docker: not known: {line}"
        with self._lock:
            answered: Answer = method(argv[1:], cwd)
            self._watch()
        return answered

    def _watch(self) -> None:
        for service in {c.service for c in self.containers if c.nginx is None}:
            count = len(self.rotation(service))
            if service in self.least or count:
                self.least[service] = min(self.least.get(service, count), count)

    def _do_info(self, argv: list[str], cwd: Path) -> Answer:
        document = {"ServerVersion": self.version, "Architecture": "x86_64", "NCPU": 2, "DockerRootDir": "/"}
        return 0, filled(argv[1], document) + "\n", ""

    def _do_ps(self, argv: list[str], cwd: Path) -> Answer:
        found = self.containers
        for at, word in enumerate(argv):
            if word != "--filter":
                continue
            key, _, value = argv[at + 1].partition("=")
            if key == "status":
                found = [c for c in found if c.state == value]
            else:
                label, _, wanted = value.partition("=")
                found = [c for c in found if c.labels.get(label) == wanted]
        if "--format" not in argv:
            return 0, "".join(f"{c.id}\n" for c in found), ""
        template = argv[argv.index("--format") + 1]
        rows = [{"Names": c.name, "Image": c.reference, "Ports": c.ports, "Label": c.labels} for c in found]
        return 0, "".join(filled(template, row) + "\n" for row in rows), ""

    def _do_inspect(self, argv: list[str], cwd: Path) -> Answer:
        template, lines, status = argv[1], [], 0
        for wanted in argv[2:]:
            container = self._found(wanted)
            if container is None:
                status = 1
                continue
            lines.append(filled(template, self._document(container)) + "\n")
        return status, "".join(lines), "" if not status else "Error: No such object"

    def _document(self, c: Container) -> dict[str, Any]:
        state: dict[str, Any] = {"Status": c.state, "ExitCode": c.exit_code, "StartedAt": f"start {c.starts}"}
        state |= {"Restarting": c.state == "restarting", "Pid": os.getpid()}
        if c.image.behaviour.health:
            state["Health"] = {"Status": c.image.behaviour.health}
        return {
            "Id": c.id,
            "Name": f"/{c.name}",
            "Image": c.image.id,
            "Config": {"Image": c.reference, "Labels": c.labels},
            "State": state,
            "RestartCount": c.restarts,
            "NetworkSettings": {"Networks": {"default": {"IPAddress": c.address if c.running else ""}}},
            "Created": "2026-01-01T00:00:00Z",
        }

    def _do_volume(self, argv: list[str], cwd: Path) -> Answer:
        return 0, _listed(self.volumes), ""

    def _do_network(self, argv: list[str], cwd: Path) -> Answer:
        return (0, _listed(self.networks), "") if argv[0] == "ls" else OK

    def _do_pull(self, argv: list[str], cwd: Path) -> Answer:
        reference = argv[-1]
        if self.registry.down:
            return 1, "", "Error response from daemon: dial tcp: connection refused\n"
        image = self.registry.find(reference)
        if image is None:
            return (
                1,
                "",
                f"Error response from daemon: manifest for {reference} not found: manifest unknown\n",
            )
        self.images[image.id] = image
        if "@" not in reference:
            self.tags[reference] = image.id
        return 0, f"{reference}\n", ""

    def _do_image(self, argv: list[str], cwd: Path) -> Answer:
        verb, *rest = argv
        if verb == "ls":
            return self._image_ls(rest)
        if verb == "inspect":
            image = self._image(rest[-1])
            if image is None:
                return 1, "", "Error: No such image"
            tags = [tag for tag, identity in self.tags.items() if identity == image.id]
            document = {
                "Id": image.id,
                "RepoTags": tags,
                "RepoDigests": [f"{image.repository}@{image.digest}"],
            }
            return 0, filled(rest[1], document) + "\n", ""
        status = 0
        for reference in rest:
            if self.tags.pop(reference, None) is None:
                image = self._image(reference)
                if image is None:
                    status = 1
                else:
                    self.images.pop(image.id)
        return status, "", ""

    def _image_ls(self, argv: list[str]) -> Answer:
        if "--filter" in argv:
            prefix = argv[argv.index("--filter") + 1].removeprefix("reference=").removesuffix("*")
            return 0, "".join(f"{tag}\n" for tag in self.tags if tag.startswith(prefix)), ""
        rows = []
        for image in self.images.values():
            named = [tag.rpartition(":") for tag, identity in self.tags.items() if identity == image.id]
            for repository, _, tag in named or [(image.repository, "", "<none>")]:
                digest = image.digest if repository == image.repository else "<none>"
                rows.append({"Repository": repository, "Tag": tag, "Digest": digest, "ID": image.id})
        return 0, "".join(json.dumps(row) + "\n" for row in rows), ""

    def _do_tag(self, argv: list[str], cwd: Path) -> Answer:
        image = self._image(argv[0])
        if image is None:
            return 1, "", f"Error response from daemon: No such image: {argv[0]}"
        self.tags[argv[1]] = image.id
        return OK

    def _do_exec(self, argv: list[str], cwd: Path) -> Answer:
        container = self._found(argv[0])
        if container is None or not container.running or container.nginx is None:
            return 1, "", "Error response from daemon: container is not running"
        words = argv[1:]
        if words == ["nginx", "-v"]:
            return 0, "", f"nginx version: nginx/{container.nginx.version}\n"
        try:
            if words == ["nginx", "-t", "-q"]:
                container.nginx.check(self._names())
            elif words == ["nginx", "-s", "reload"]:
                container.nginx.load(self._names())
            else:
                return 64, "", f"stand-in docker: not known: exec {words}"
        except Refused as refusal:
            return 1, "", f"{refusal}\n"
        return OK

    def _do_top(self, argv: list[str], cwd: Path) -> Answer:
        container = self._found(argv[0])
        if container is None or container.nginx is None:
            return 1, "", "Error"
        pids = [container.nginx.worker, *container.nginx.lingering]
        lines = [
            "PID COMMAND",
            "99 nginx: master process nginx",
            *(f"{p} nginx: worker process" for p in pids),
        ]
        return 0, "\n".join(lines) + "\n", ""

    def _do_stop(self, argv: list[str], cwd: Path) -> Answer:
        for identity in argv[2:]:
            container = self._found(identity)
            if container is None:
                return 1, "", "Error: No such container"
            self._take_off(container, "stopped")
            container.state, container.exit_code = "exited", 143
        return OK

    def _do_rm(self, argv: list[str], cwd: Path) -> Answer:
        for identity in (word for word in argv if not word.startswith("-")):
            container = self._found(identity)
            if container is not None:
                self._take_off(container, "removed")
                self.containers.remove(container)
        return OK

    def _do_logs(self, argv: list[str], cwd: Path) -> Answer:
        container = self._found(argv[-1])
        return (0, container.image.behaviour.log, "") if container else (1, "", "Error: No such container")

    def _do_run(self, argv: list[str], cwd: Path) -> Answer:
        return 0, "", f"nginx version: nginx/{self.nginx_version}\n"

    def _do_compose(self, argv: list[str], cwd: Path) -> Answer:
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
            return self._down(options["--project-name"][0], volumes="--volumes" in words)
        model = read_release(cwd)
        if verb == "up":
            return self._up(model, words)
        if verb == "run":
            service, *command = words[words.index("--label") + 2 :]
            image = self._image(model["services"][service]["image"])
            return image.behaviour.migration if image else (1, "", f"no such image for {service}: {command}")
        if verb == "restart":
            for container in self.containers:
                if container.project == model["name"] and (not words or container.service in words):
                    container.starts += 1
            return OK
        return 64, "", f"stand-in docker: not known: compose {verb}"

    def _down(self, project: str, *, volumes: bool) -> Answer:
        for container in [c for c in self.containers if c.project == project]:
            self.containers.remove(container)
        for owned in (self.networks, *([self.volumes] if volumes else [])):
            for name in [n for n, labels in owned.items() if labels.get(f"{LABEL}project") == project]:
                del owned[name]
        return OK

    def _up(self, model: dict[str, Any], words: list[str]) -> Answer:
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
            definition = model["services"][service]
            if self._image(definition["image"]) is None:
                return 1, "", f"Error response from daemon: No such image: {definition['image']}"
            self._made(model, definition)
            self._converge(model["name"], service, definition, scale.get(service), recreate=recreate)
        return OK

    def _made(self, model: dict[str, Any], definition: dict[str, Any]) -> None:
        for kind, owned in (("volumes", self.volumes), ("networks", self.networks)):
            for key, item in (model.get(kind) or {}).items():
                owned.setdefault(item["name"], {f"{LABEL}project": model["name"], f"{LABEL}{kind[:-1]}": key})

    def _converge(
        self, project: str, service: str, definition: dict[str, Any], count: int | None, *, recreate: bool
    ) -> None:
        wanted = count if count is not None else int((definition.get("deploy") or {}).get("replicas", 1))
        kept = {
            key: value for key, value in definition.items() if key not in ("deploy", "scale", "depends_on")
        }
        digest = hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()
        present = [c for c in self.of(service) if c.project == project]
        for container in present[wanted:]:
            self._take_off(container, "scaled away")
            self.containers.remove(container)
        for container in present[:wanted]:
            if recreate and container.hash != digest:
                self.containers.remove(container)
                self._start(project, service, container.number, definition, digest)
            elif not container.running:
                container.starts += 1
                self._begin(container)
        last = max((c.number for c in present), default=0)
        for number in range(last + 1, last + 1 + wanted - len(present)):
            self._start(project, service, number, definition, digest)

    def _start(
        self, project: str, service: str, number: int, definition: dict[str, Any], digest: str
    ) -> None:
        image = self._image(definition["image"])
        assert image is not None
        self._last += 1
        labels = {
            f"{LABEL}project": project,
            f"{LABEL}service": service,
            f"{LABEL}container-number": str(number),
            f"{LABEL}oneoff": "False",
            **(definition.get("labels") or {}),
        }
        address = f"10.{self._subnet}.0.{self._last}"
        name = definition.get("container_name") or f"{project}-{service}-{number}"
        container = Container(
            name, service, number, project, image, definition["image"], labels, digest, address, definition
        )
        if image.repository == "nginx":
            folders = tuple(
                self.place(v["source"]) for v in definition.get("volumes") or () if v["type"] == "bind"
            )
            container.nginx = Nginx(folders, self.nginx_version, linger=self.linger)
        self.containers.append(container)
        self._begin(container)

    def _begin(self, container: Container) -> None:
        container.state, container.exit_code = "running", 0
        if container.image.behaviour.crash is not None:
            container.state, container.exit_code = "exited", container.image.behaviour.crash
        if container.nginx is not None:
            try:
                container.nginx.load(self._names())
            except Refused:
                container.state, container.exit_code = "exited", 1

    def _take_off(self, container: Container, how: str) -> None:
        if container in self.rotation(container.service):
            self.harm.append(f"{container.name} {how} while the proxy sent requests to it")

    def _names(self) -> set[str]:
        return {name for c in self.containers if c.running for name in (c.name, c.service)}

    def _found(self, identity: str) -> Container | None:
        return next((c for c in self.containers if identity in (c.id, c.name)), None)

    def _image(self, reference: str) -> Image | None:
        for image in self.images.values():
            if (
                reference in (image.id, f"{image.repository}@{image.digest}")
                or self.tags.get(reference) == image.id
            ):
                return image
        return None


def _listed(owned: dict[str, dict[str, str]]) -> str:
    rows = (
        {"Name": name, "Labels": ",".join(f"{k}={v}" for k, v in labels.items())}
        for name, labels in owned.items()
    )
    return "".join(json.dumps(row) + "\n" for row in rows)

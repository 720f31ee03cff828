"""The stand-in Docker engine of one server: images, containers, volumes, and the proxy's view of them."""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from standin.containers import Container
from standin.converging import compose
from standin.images import Image, Registry
from standin.nginx import Refused
from standin.pipe import Answer, Pipe
from standin.templates import filled

__all__ = ["Docker"]

OK: Answer = (0, "", "")


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

    def be_like(self, other: Docker) -> None:
        """Take on the state of another engine; images come from this one's registry."""
        mine = {image.id: image for image in self.registry.images.values()}
        self.images = {identity: mine[identity] for identity in other.images}
        self.tags = dict(other.tags)
        self.volumes, self.networks = dict(other.volumes), dict(other.networks)
        self._last = other._last
        for one in other.containers:
            twin = replace(one, image=mine[one.image.id], labels=dict(one.labels))
            if one.nginx is not None:
                folders = tuple(self.place(v["source"]) for v in one.definition["volumes"])
                twin.nginx = replace(one.nginx, folders=folders)
            self.containers.append(twin)

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
            for container in self.containers:
                if container.nginx is not None and container.publishes(address, port):
                    return self._through_the_proxy()
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
        document["Compose"] = "2.26.1"
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
                found = [
                    c for c in found if label in c.labels and c.labels[label] == (wanted or c.labels[label])
                ]
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
            "Mounts": [
                {
                    "Type": v["type"],
                    "Name": f"{c.project}_{v.get('source')}",
                    "Source": v.get("source"),
                    "RW": not v.get("read_only"),
                }
                for v in c.definition.get("volumes") or ()
            ],
            "HostConfig": {
                "PortBindings": {
                    f"{p['target']}/{p['protocol']}": [{"HostPort": p["published"]}]
                    for p in c.definition.get("ports") or ()
                    if p.get("published")
                }
            },
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
            image = self.image(rest[-1])
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
                image = self.image(reference)
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
            if all(repository != image.repository for repository, _, _ in named):
                named.append((image.repository, "", "<none>"))  # pulled by its digest
            for repository, _, tag in named:
                digest = image.digest if repository == image.repository else "<none>"
                rows.append({"Repository": repository, "Tag": tag, "Digest": digest, "ID": image.id})
        return 0, "".join(json.dumps(row) + "\n" for row in rows), ""

    def _do_tag(self, argv: list[str], cwd: Path) -> Answer:
        image = self.image(argv[0])
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

    def _do_update(self, argv: list[str], cwd: Path) -> Answer:
        return OK

    def _do_stop(self, argv: list[str], cwd: Path) -> Answer:
        for identity in argv[2:] if argv[0] == "-t" else argv:
            container = self._found(identity)
            if container is None:
                return 1, "", "Error: No such container"
            self.take_off(container, "stopped")
            container.state, container.exit_code = "exited", 143
        return OK

    def _do_rm(self, argv: list[str], cwd: Path) -> Answer:
        for identity in (word for word in argv if not word.startswith("-")):
            container = self._found(identity)
            if container is not None:
                self.take_off(container, "removed")
                self.containers.remove(container)
        return OK

    def _do_logs(self, argv: list[str], cwd: Path) -> Answer:
        container = self._found(argv[-1])
        return (0, container.image.behaviour.log, "") if container else (1, "", "Error: No such container")

    def _do_events(self, argv: list[str], cwd: Path) -> Answer:
        return 0, "1\n", ""

    def _do_run(self, argv: list[str], cwd: Path) -> Answer:
        return 0, "", f"nginx version: nginx/{self.nginx_version}\n"

    def _do_compose(self, argv: list[str], cwd: Path) -> Answer:
        return compose(self, argv, cwd)

    def take_off(self, container: Container, how: str) -> None:
        """Note the harm where requests were sent to a container that goes."""
        if container in self.rotation(container.service):
            self.harm.append(f"{container.name} {how} while the proxy sent requests to it")

    def next_address(self) -> str:
        """Return an address that no container had before."""
        self._last += 1
        return f"10.{self._subnet}.0.{self._last}"

    def begin(self, container: Container) -> None:
        """Start a container's process."""
        container.state, container.exit_code = "running", 0
        if container.image.behaviour.crash is not None:
            container.state, container.exit_code = "exited", container.image.behaviour.crash
        if container.nginx is not None:
            try:
                container.nginx.load(self._names())
            except Refused:
                container.state, container.exit_code = "exited", 1

    def _names(self) -> set[str]:
        return {name for c in self.containers if c.running for name in (c.name, c.service)}

    def _found(self, identity: str) -> Container | None:
        return next((c for c in self.containers if identity in (c.id, c.name)), None)

    def image(self, reference: str) -> Image | None:
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

"""The container of the throw-away registry: found, started and removed on this machine's engine."""

from __future__ import annotations

import http.client
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass

from ops.commands import Command, command, quote
from ops.errors import FailedUnchanged
from ops.gates.http import request
from ops.hosts import Cancellation, Host

__all__ = ["IMAGE", "Found", "RegistryContainer", "registry_image"]

IMAGE = "registry:2"
PULL_SECONDS, START_SECONDS = 300.0, 15.0
_STACK, _OWNER = "ops.registry", "ops.owner"
_INSPECT = '{"running":{{json .State.Running}},"labels":{{json .Config.Labels}}}'


def registry_image(environ: Mapping[str, str] = os.environ) -> str:
    """Return the image of the throw-away registry: OPS_REGISTRY_IMAGE, else registry:2."""
    return environ.get("OPS_REGISTRY_IMAGE") or IMAGE


@dataclass(frozen=True)
class Found:
    """A registry's container that is there: for which stack, started by which user id, and whether it runs."""

    stack: str
    owner: str
    running: bool


@dataclass(frozen=True)
class RegistryContainer:
    """The registry of one stack on one port of `host`; images stay in a volume of the stack's own."""

    host: Host
    stack: str
    port: int

    @property
    def name(self) -> str:
        """The container's name: a port has one registry."""
        return f"opsbook-registry-{self.port}"

    @property
    def volume(self) -> str:
        """The volume that keeps the layers for the next time."""
        return f"opsbook-registry-{self.stack}"

    def engine_address(self) -> str:
        """Return where the docker client looks for its engine; empty when it cannot tell."""
        result = self.host.run(
            command("docker", "context", "inspect", "--format", "{{.Endpoints.docker.Host}}")
        )
        return result.stdout.strip() if result.ok else ""

    def find(self) -> Found | None:
        """Return the container that is there, or None; raises FailedUnchanged when no engine answers."""
        result = self.host.run(
            Command(
                f"ids=$(docker ps -aq --no-trunc --filter {quote(f'name=^/{self.name}$')}) || exit 1; "
                f'[ -z "$ids" ] || docker inspect --format {quote(_INSPECT)} $ids',
                title="docker inspect",
            )
        )
        if not result.ok:
            raise FailedUnchanged(
                f"the throw-away registry needs a Docker engine on this machine: {result.last_lines}",
                next_step="start Docker here, or set [build] registry in ops.toml",
            )
        if not result.stdout.strip():
            return None
        facts = json.loads(result.stdout)
        labels = facts["labels"] or {}
        return Found(labels.get(_STACK, ""), labels.get(_OWNER, ""), facts["running"])

    def fetch(self, image: str) -> None:
        """Have the registry's image on the engine; raises FailedUnchanged where it cannot be pulled."""
        result = self.host.run(
            Command(
                f"docker image inspect {quote(image)} >/dev/null 2>&1 || docker pull -q {quote(image)}",
                changes=f"image {image}",
                timeout=PULL_SECONDS,
                title=f"docker pull {image}",
            )
        )
        if not result.ok:
            raise FailedUnchanged(
                f"the image {image} of the throw-away registry cannot be pulled: {result.last_lines}",
                next_step="set OPS_REGISTRY_IMAGE to such an image that this engine has or can pull,\n"
                "or set [build] registry in ops.toml to a registry of your own",
            )

    def start(self, image: str) -> None:
        """Start it; raises FailedUnchanged with the engine's words."""
        result = self.host.run(
            command(
                *("docker", "run", "--detach", "--name", self.name),
                *("--label", f"{_STACK}={self.stack}", "--label", f"{_OWNER}={os.getuid()}"),
                *("--publish", f"127.0.0.1:{self.port}:5000", "--volume", f"{self.volume}:/var/lib/registry"),
                *("--env", "OTEL_TRACES_EXPORTER=none", image),
                changes=f"container {self.name}",
            )
        )
        if not result.ok:
            raise FailedUnchanged(
                f"the throw-away registry does not start: {result.last_lines}", next_step=_ELSEWHERE
            )

    def remove(self) -> None:
        """Stop and remove it; its volume stays."""
        self.host.run(command("docker", "rm", "--force", self.name, changes=f"container {self.name}"))

    def answers(self) -> bool:
        """Return whether a registry answers on the port, as this machine sees it."""
        try:
            return request(self.host, "127.0.0.1", self.port, "/v2/", timeout=2.0).status == 200
        except (OSError, http.client.HTTPException):
            return False

    def port_is_taken(self) -> bool:
        """Return whether anything accepts connections on the port of this machine."""
        try:
            self.host.connect("127.0.0.1", self.port, timeout=2.0).close()
        except OSError:
            return False
        return True

    def wait(self, cancellation: Cancellation) -> None:
        """Wait until it answers; raises FailedUnchanged when it does not, or runs on another machine."""
        deadline = time.monotonic() + START_SECONDS
        while not self.answers():
            cancellation.wait(0.1)
            if time.monotonic() < deadline:
                continue
            found = self.find()
            if found is None or not found.running:
                last = self.host.run(command("docker", "logs", "--tail", "5", self.name)).last_lines
                raise FailedUnchanged(
                    f"the throw-away registry ended at once: {last}", next_step=_OWN_REGISTRY
                )
            raise elsewhere(self.port)


_OWN_REGISTRY = "set [build] registry in ops.toml to a registry of your own"
_ELSEWHERE = "docker ps shows what is there; or " + _OWN_REGISTRY


def elsewhere(port: int) -> FailedUnchanged:
    """Return the error for an engine whose 127.0.0.1 is not this machine's."""
    return FailedUnchanged(
        f"the Docker engine in use is on another machine (DOCKER_HOST or the docker context): its 127.0.0.1:{port} is "
        "not this machine's, so a throw-away registry there would serve nobody",
        next_step="use this machine's own engine (unset DOCKER_HOST), or set [build] registry in ops.toml",
    )

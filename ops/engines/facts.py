"""What is on a server now: the questions that are asked, and their answers read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ops.commands import Command, quote
from ops.engines.layout import Layout

__all__ = [
    "Bystander",
    "Container",
    "HostFacts",
    "Image",
    "containers_query",
    "host_queries",
    "parse_containers",
    "read_facts",
]

_CONTAINER = (
    '{"id":{{json .Id}},"name":{{json .Name}},"image":{{json .Image}},"reference":{{json .Config.Image}},'
    '"state":{{json .State}},"restarts":{{json .RestartCount}},"labels":{{json .Config.Labels}},'
    '"networks":{{json .NetworkSettings.Networks}},"created":{{json .Created}},'
    '"mounts":{{json .Mounts}},"ports":{{json .HostConfig.PortBindings}}}'
)


@dataclass(frozen=True)
class Container:
    """One container of the stack's compose project.

    `networks` are pairs of a network's name and the address there; `holds` is what no other container may use beside it.
    """

    id: str
    name: str
    service: str
    number: int
    state: str
    exit_code: int
    restarts: int
    health: str
    config: str
    image: str
    reference: str
    addresses: tuple[str, ...]
    started_at: str
    working_dir: str = ""
    config_files: str = ""
    networks: tuple[tuple[str, str], ...] = ()
    holds: frozenset[str] = frozenset()

    @property
    def running(self) -> bool:
        """True while its process runs and Docker is not about to restart it."""
        return self.state == "running"


@dataclass(frozen=True)
class Bystander:
    """A container of another project, as far as it can stand in the way."""

    name: str
    project: str
    service: str
    image: str
    ports: str
    stack: str
    environment: str


@dataclass(frozen=True)
class Image:
    """A local image: its references (tags and digests) and its id."""

    repository: str
    tag: str
    digest: str
    id: str


@dataclass(frozen=True)
class HostFacts:
    """One server at one moment. Sizes are bytes, `clock` is Unix seconds by the server's own clock."""

    docker: str
    compose: str
    architecture: str
    cpus: int
    clock: float
    free: Mapping[str, int]
    containers: tuple[Container, ...]
    bystanders: tuple[Bystander, ...]
    volumes: Mapping[str, Mapping[str, str]]
    networks: Mapping[str, Mapping[str, str]]
    images: tuple[Image, ...]
    current: str | None
    releases: Mapping[str, str] = field(default_factory=dict)
    fence_token: int = 0
    fence_run: str = ""
    holder: str | None = None
    heartbeat_age: float | None = None
    proxy_content: Mapping[str, str] = field(default_factory=dict)
    files: frozenset[str] = frozenset()
    compose_yaml: str = ""

    def local(self, reference: str) -> Image | None:
        """Return the local image that a reference names (`repo:tag`, `repo@digest` or an id), if it is here."""
        for image in self.images:
            if reference in (
                f"{image.repository}:{image.tag}",
                f"{image.repository}@{image.digest}",
                image.id,
            ):
                return image
        return None


def containers_query(project: str) -> Command:
    """Return the command that tells all about the project's containers, one JSON document a line."""
    label = quote(f"label=com.docker.compose.project={project}")
    once = quote("label=com.docker.compose.oneoff=False")
    # A container may vanish between the listing and the look; that is no failure of the question.
    return Command(
        f"ids=$(docker ps -aq --no-trunc --filter {label} --filter {once}) && "
        f'{{ [ -z "$ids" ] || docker inspect --format {quote(_CONTAINER)} $ids 2>/dev/null || true; }}',
        title=f"docker ps --filter {label} | docker inspect",
    )


def parse_containers(text: str) -> tuple[Container, ...]:
    """Read the answer of `containers_query`, ordered by service and number."""
    found = []
    for data in _documents(text):
        labels, state = data["labels"] or {}, data["state"]
        networks = tuple(
            (name, n["IPAddress"]) for name, n in (data["networks"] or {}).items() if n.get("IPAddress")
        )
        found.append(
            Container(
                id=data["id"],
                name=data["name"].lstrip("/"),
                service=labels.get("com.docker.compose.service", ""),
                number=int(labels.get("com.docker.compose.container-number", "0") or 0),
                state="restarting" if state.get("Restarting") else state["Status"],
                exit_code=state.get("ExitCode", 0),
                restarts=data["restarts"] or 0,
                health=(state.get("Health") or {}).get("Status", ""),
                config=labels.get("ops.config", ""),
                image=data["image"],
                reference=data["reference"],
                addresses=tuple(address for _, address in networks),
                started_at=state.get("StartedAt", ""),
                working_dir=labels.get("com.docker.compose.project.working_dir", ""),
                config_files=labels.get("com.docker.compose.project.config_files", ""),
                networks=networks,
                holds=_held(data),
            )
        )
    return tuple(sorted(found, key=lambda c: (c.service, c.number)))


def _held(data: Mapping[str, Any]) -> frozenset[str]:
    """Return what a container has for itself, in the words of `ServiceSpec.holds`."""
    written = [mount for mount in data.get("mounts") or () if mount.get("RW")]
    volumes = {f"volume {mount['Name']}" for mount in written if mount.get("Type") == "volume"}
    paths = {f"path {mount['Source']}" for mount in written if mount.get("Type") == "bind"}
    ports = {
        f"port {binding['HostPort']}/{port.rpartition('/')[2]}"
        for port, bindings in (data.get("ports") or {}).items()
        for binding in bindings or ()
    }
    return frozenset(volumes | paths | ports)


def host_queries(layout: Layout, project: str) -> tuple[Command, ...]:
    """Return the questions whose answers `read_facts` takes, in its order."""
    return (
        Command(_machine_script(layout), title="docker info; df"),
        containers_query(project),
        Command(
            "docker ps -a --no-trunc --format "
            '\'{"name":{{json .Names}},"image":{{json .Image}},"ports":{{json .Ports}},'
            '"project":{{json (.Label "com.docker.compose.project")}},'
            '"service":{{json (.Label "com.docker.compose.service")}},'
            '"stack":{{json (.Label "ops.stack")}},"environment":{{json (.Label "ops.environment")}}}\'',
            title="docker ps -a",
        ),
        Command("docker volume ls --format '{{json .}}'", title="docker volume ls"),
        Command("docker network ls --format '{{json .}}'", title="docker network ls"),
        Command("docker image ls --digests --no-trunc --format '{{json .}}'", title="docker image ls"),
        Command(_state_script(layout), title=f"cat {layout.root}/current/release.json"),
    )


def _machine_script(layout: Layout) -> str:
    wanted = (
        '{"docker":{{json .ServerVersion}},"architecture":{{json .Architecture}},"cpus":{{json .NCPU}}}\n'
        # Compose's own `version` would start Docker's client, which asks every plugin, and then Compose once more.
        '{{range .ClientInfo.Plugins}}{{if eq .Name "compose"}}{{.Version}}{{end}}{{end}}\n'
        "{{.DockerRootDir}}"
    )
    return (
        f'i=$(docker info --format {quote(wanted)}) || exit 1; line() {{ printf \'%s\\n\' "$i" | sed -n "$1p"; }}; '
        'c=$(line 2); [ -n "$c" ] || c=$(docker compose version --short) || exit 1; '
        "line 1; printf '%s\\n' \"$c\"; date +%s.%N; "
        f'for p in {quote(layout.root)} "$(line 3)"; do '
        'q=$p; while [ ! -e "$q" ]; do q=$(dirname "$q"); done; '
        'printf \'%s\\n\' "$p"; df -Pk "$q" | tail -n 1; done'
    )


def _state_script(layout: Layout) -> str:
    """Each answer is one tab-separated line, its bytes in base64, so that no content can be taken for another."""
    return (
        f"cd {quote(layout.root)} 2>/dev/null || exit 0; "
        'e() { printf \'%s\\t%s\\t\' "$1" "$2"; base64 -w0 < "$3"; echo; }; '
        '[ -L current ] && printf \'current\\t%s\\n\' "$(basename "$(readlink current)")"; '
        'for r in releases/*/release.json; do [ -e "$r" ] && e release "$(basename "$(dirname "$r")")" "$r"; done; '
        "[ -e current/compose.yaml ] && e compose . current/compose.yaml; "
        "[ -e fence ] && printf 'fence\\t%s\\n' \"$(cat fence)\"; "
        "if [ -d locks/change ]; then "
        "  printf 'age\\t%s\\n' \"$(( $(date +%s) - $(stat -c %Y locks/change/heartbeat 2>/dev/null || stat -c %Y locks/change) ))\"; "
        "  [ -e locks/change/holder.json ] && e holder . locks/change/holder.json; "
        "fi; "
        'for f in files/*; do [ -e "$f" ] && printf \'file\\t%s\\n\' "$(basename "$f")"; done; '
        "[ -d proxy ] && { printf 'proxy\\t.\\t'; find proxy -type f -exec sha256sum -z {} + | base64 -w0; echo; }; true"
    )


def read_facts(answers: tuple[str, ...]) -> HostFacts:
    """Given the stdout of each of `host_queries`, return the facts."""
    import base64

    machine, containers, bystanders, volumes, networks, images, state = answers
    docker_line, compose, clock, *rest = machine.splitlines()
    docker = json.loads(docker_line)
    free = {path: int(line.split()[3]) * 1024 for path, line in zip(rest[::2], rest[1::2], strict=True)}
    current, fence, holder, age = None, ("0", ""), None, None
    releases: dict[str, str] = {}
    proxy: dict[str, str] = {}
    files: set[str] = set()
    compose_yaml = ""
    for line in state.splitlines():
        kind, _, value = line.partition("\t")
        first, _, second = value.partition("\t")
        if kind == "current":
            current = first
        elif kind == "release":
            releases[first] = base64.b64decode(second).decode()
        elif kind == "compose":
            compose_yaml = base64.b64decode(second).decode()
        elif kind == "fence":
            token, _, run = value.partition(" ")
            fence = (token, run)
        elif kind == "age":
            age = float(first)
        elif kind == "holder":
            holder = base64.b64decode(second).decode()
        elif kind == "proxy":
            for entry in filter(None, base64.b64decode(second).decode(errors="surrogateescape").split("\0")):
                proxy[entry[66:].removeprefix("proxy/")] = entry[:64]  # the sum, two characters, the path
        elif kind == "file":
            files.add(first)
    return HostFacts(
        docker=docker["docker"] or "",
        compose=compose.strip(),
        architecture=docker["architecture"],
        cpus=int(docker["cpus"] or 1),
        clock=float(clock),
        free=free,
        containers=parse_containers(containers),
        bystanders=tuple(Bystander(**row) for row in _documents(bystanders)),
        volumes=_labelled(volumes),
        networks=_labelled(networks),
        images=tuple(
            Image(row["Repository"], row["Tag"], row["Digest"], row["ID"]) for row in _documents(images)
        ),
        current=current,
        releases=releases,
        fence_token=int(fence[0]) if fence[0].isdigit() else 0,
        fence_run=fence[1],
        holder=holder,
        heartbeat_age=age,
        proxy_content=proxy,
        files=frozenset(files),
        compose_yaml=compose_yaml,
    )


def _documents(text: str) -> Iterator[Any]:
    """Read JSON documents, one a line; a label in one may hold U+0085, which str.splitlines would cut at."""
    return (json.loads(line) for line in text.split("\n") if line)


def _labelled(text: str) -> dict[str, Mapping[str, str]]:
    found: dict[str, Mapping[str, str]] = {}
    for row in _documents(text):
        pairs = (part.partition("=") for part in row.get("Labels", "").split(",") if part)
        found[row["Name"]] = {key: value for key, _, value in pairs}
    return found

"""A stack to deploy on stand-in servers: a proxy, two containers of a rolling service, a database."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from ops.config import Settings, Version, load
from ops.deploy.deploying import DeployOptions, Seams, deploy
from ops.deploy.rollback_plan import RollbackOptions
from ops.deploy.rolling_back import rollback
from ops.hosts import Host
from ops.outcomes import Outcome
from ops.runs.interruption import Interruption
from ops.runs.journal import parse_journal
from ops.runs.phases import Phase
from ops.stack.changing import Change
from standin.images import Registry
from standin.server import BASE, Server, Session, StandInHost

__all__ = ["Listener", "Shop"]

COMPOSE = """
services:
  nginx:
    image: nginx:1.27
    ports: ["80:80"]
    volumes: ["./nginx/conf.d:/etc/nginx/conf.d:ro", "./nginx/upstreams:/etc/nginx/upstreams:ro"]
    depends_on: [web]
  web:
    image: shop/web
    environment: {DB_PASSWORD: "${DB_PASSWORD}", DB_HOST: "${OPS_HOST_POSTGRES:-postgres}"}
    depends_on: [postgres]
  postgres:
    image: postgres:16
    environment: {POSTGRES_PASSWORD: "${DB_PASSWORD}"}
    volumes: ["data:/var/lib/postgresql/data", "./init.sql:/docker-entrypoint-initdb.d/init.sql:ro"]
volumes:
  data:
"""

OPS = f"""
base = "{BASE}"
state_host = "web1"
version = "1"
keep_releases = 3

[secrets]
required = ["DB_PASSWORD"]

[proxy]
service = "nginx"
upstreams = "nginx/upstreams"
settle = 0.0

[services.nginx]
roles = ["web"]
health = {{ kind = "tcp", port = 80, interval = 0.01, timeout = 5.0 }}

[services.web]
roles = ["web"]
image = "shop/web:{{version}}"
strategy = "rolling"
replicas = 2
port = 8000
drain = 0.3
health = {{ path = "/health", interval = 0.01, timeout = 1.0 }}

[services.postgres]
roles = ["db"]
health = {{ kind = "tcp", port = 5432, interval = 0.01, timeout = 5.0 }}

[environments.production.servers.web1]
address = "web1.test"
private_address = "10.9.0.1"
roles = ["web", "db"]

[environments.production.servers.web2]
address = "web2.test"
private_address = "10.9.0.2"
roles = ["web"]

[environments.staging.servers.web1]
address = "web1.test"
roles = ["web", "db"]
"""


class Listener:
    """A reporter that keeps what it was told and calls `at[phase]` when a phase begins."""

    def __init__(self, at: Mapping[Phase, Callable[[], object]] | None = None) -> None:
        self.at = dict(at or {})
        self.phases: list[Phase] = []
        self.said: list[str] = []
        self.steps: list[tuple[str, str]] = []

    def phase(self, phase: Phase) -> None:
        self.phases.append(phase)
        if phase in self.at:
            self.at[phase]()

    def step(self, host: str, title: str) -> None:
        self.steps.append((host, title))

    def moved(self, host: str, size: int) -> None:
        return

    def finished(self, host: str, result: str) -> None:
        return

    def say(self, text: str) -> None:
        self.said.append(text)

    def close(self) -> None:
        return


class Shop:
    """The stack's folder, its two servers, and the ways to deploy it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "shop"
        for name, text in {
            "compose.yaml": COMPOSE,
            "ops.toml": OPS,
            ".env": 'DB_PASSWORD="correct horse"\n',
            "init.sql": "select 1;\n",
            "nginx/conf.d/site.conf": "server { listen 80; }\n",
            "nginx/upstreams/.gitkeep": "",
        }.items():
            self.write(name, text)
        (self.folder / ".env").chmod(0o600)
        self.registry = Registry()
        for reference in ("nginx:1.27", "postgres:16", "shop/web:1", "shop/web:2", "shop/web:3"):
            self.registry.publish(reference)
        self.servers = {
            name: Server(name, folder, self.registry, number)
            for number, name in enumerate(("web1", "web2"), 1)
        }
        self.web1, self.web2 = self.servers["web1"], self.servers["web2"]

    def close(self) -> None:
        """End the stand-in engines."""
        for server in self.servers.values():
            server.docker.pipe.close()

    def copy_to(self, folder: Path) -> Shop:
        """Return the same stack with the same state on servers of its own."""
        twin = Shop(folder)
        for name, server in self.servers.items():
            shutil.copytree(server.root, twin.servers[name].root, symlinks=True, dirs_exist_ok=True)
            twin.servers[name].docker.be_like(server.docker)
        return twin

    def write(self, name: str, text: str) -> None:
        """Write a file of the stack folder."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def edit(self, name: str, old: str, new: str) -> None:
        """Replace text in a file of the stack folder."""
        text = (self.folder / name).read_text()
        assert old in text
        self.write(name, text.replace(old, new))

    def settings(self, environment: str = "production") -> Settings:
        """Load ops.toml anew."""
        return load(environment, start=self.folder)

    def hosts(
        self, session: Session, interruption: Interruption, environment: str = "production"
    ) -> dict[str, Host]:
        """Return hosts for the servers of an environment."""
        names = self.settings(environment).config.servers
        return {name: StandInHost(self.servers[name], session, interruption.cancellation) for name in names}

    def deploy(
        self,
        version: str,
        *,
        environment: str = "production",
        session: Session | None = None,
        interruption: Interruption | None = None,
        listener: Listener | None = None,
        seams: Seams | None = None,
        **options: object,
    ) -> Outcome:
        """Deploy a version as an operator of their own."""
        session, interruption = session or Session(), interruption or Interruption()
        return deploy(
            self.settings(environment),
            self.hosts(session, interruption, environment),
            Version(version),
            DeployOptions(**options),  # type: ignore[arg-type]
            listener or Listener(),
            interruption,
            seams,
        )

    def rollback(
        self,
        *,
        environment: str = "production",
        session: Session | None = None,
        interruption: Interruption | None = None,
        listener: Listener | None = None,
        **options: object,
    ) -> Outcome:
        """Go back, as an operator of their own."""
        session, interruption = session or Session(), interruption or Interruption()
        return rollback(
            self.settings(environment),
            self.hosts(session, interruption, environment),
            RollbackOptions(**options),  # type: ignore[arg-type]
            listener or Listener(),
            interruption,
        )

    def current(self, server: str, environment: str = "production") -> str | None:
        """Return the release that `current` names on a server."""
        link = self.path(server, "current", environment)
        return link.readlink().name if link.is_symlink() else None

    def releases(self, server: str, environment: str = "production") -> list[str]:
        """Return the releases that stand on a server."""
        folder = self.path(server, "releases", environment)
        return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []

    def journal(self, environment: str = "production") -> list[tuple[str, str]]:
        """Return (action, event) of each line of the journal."""
        text = self.path("web1", "journal.jsonl", environment).read_text()
        return [(entry.action, entry.event) for entry in parse_journal(text)]

    def locked(self, environment: str = "production") -> bool:
        """Return whether the lock is there."""
        return self.path("web1", "locks/change", environment).exists()

    def change(
        self,
        verb: Callable[..., Outcome],
        *arguments: object,
        environment: str = "production",
        session: Session | None = None,
        interruption: Interruption | None = None,
        **options: object,
    ) -> Outcome:
        """Do one of `ops.stack.changing`, as an operator of their own."""
        session, interruption = session or Session(), interruption or Interruption()
        hosts = self.hosts(session, interruption, environment)
        change = Change(self.settings(environment), hosts, "web1", Listener(), interruption)
        return verb(change, *arguments, **options)

    def path(self, server: str, name: str = "", environment: str = "production") -> Path:
        """Return a path below a server's folder of the stack."""
        return self.servers[server].path(f"{BASE}/shop/{environment}/{name}".rstrip("/"))

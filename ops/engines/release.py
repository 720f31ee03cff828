"""What a release is on one server: the record that stands beside its compose file, and decides every switch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ops.engines.facts import Container
from ops.errors import ConfigError

__all__ = [
    "HealthSpec",
    "ProxySpec",
    "Release",
    "ServiceSpec",
    "config_hash",
    "config_variable",
    "ended_well",
    "fits",
]


@dataclass(frozen=True)
class HealthSpec:
    """A health gate with nothing left to guess; times in seconds."""

    kind: str
    path: str = ""
    port: int | None = None
    passes: int = 2
    interval: float = 0.3
    timeout: float = 60.0
    soak: float = 0.0


@dataclass(frozen=True)
class ServiceSpec:
    """One service of a release on one server.

    `config` is the hash that its containers bear; `base` the same without secret values, `secrets` the names whose
    values enter it. `image` is the reference as written, `pin` what runs. `grace` and `drain` are seconds. `holds` are
    the volumes and paths that it writes to and the host ports that it publishes.
    """

    name: str
    config: str
    base: str
    secrets: tuple[str, ...]
    image: str
    pin: str
    replicas: int
    strategy: str
    health: HealthSpec
    port: int | None
    drain: float
    grace: float
    balance: str
    depends_on: tuple[str, ...]
    versioned: bool
    holds: tuple[str, ...] = ()

    @property
    def once(self) -> bool:
        """True for a service that runs once and ends."""
        return self.health.kind == "completed"


@dataclass(frozen=True)
class ProxySpec:
    """The proxy of a server: its service, the folder of generated upstreams below proxy/, and the settling time."""

    service: str
    upstreams: str
    settle: float
    image: str = ""


@dataclass(frozen=True)
class Release:
    """What one server runs after a deploy.

    `created` is RFC 3339 UTC. `files` are the digests under files/ that it needs; `proxy_folders` maps the proxy's
    folders to such digests, `proxy_files` their files to SHA-256. `scale` is what `stack.scale` set since. `adopted`
    are the containers that a first release took the place of, started by plain Compose.
    """

    id: str
    version: str
    revision: str | None
    created: str
    run_id: str
    stack: str
    environment: str
    project: str
    services: Mapping[str, ServiceSpec]
    proxy: ProxySpec | None = None
    proxy_folders: Mapping[str, str] = field(default_factory=dict)
    proxy_files: Mapping[str, str] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    migrated: bool = False
    previous: str | None = None
    scale: Mapping[str, int] = field(default_factory=dict)
    adopted: tuple[str, ...] = ()

    def to_json(self) -> str:
        """Return the text of release.json."""
        return json.dumps(asdict(self), indent=1, sort_keys=True) + "\n"

    @staticmethod
    def from_json(text: str) -> Release:
        """Read release.json; raises ConfigError for one that this version cannot read."""
        try:
            data: dict[str, Any] = json.loads(text)
            services = {
                name: ServiceSpec(
                    **{
                        **spec,
                        "health": HealthSpec(**spec["health"]),
                        "secrets": tuple(spec["secrets"]),
                        "depends_on": tuple(spec["depends_on"]),
                        "holds": tuple(spec.get("holds", ())),
                    }
                )
                for name, spec in data.pop("services").items()
            }
            proxy = data.pop("proxy")
            files, adopted = tuple(data.pop("files")), tuple(data.pop("adopted", ()))
            return Release(
                services=services,
                proxy=ProxySpec(**proxy) if proxy else None,
                files=files,
                adopted=adopted,
                **data,
            )
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"a release.json on the server cannot be read ({error})",
                next_step="was it written by another version of Opsbook? use that one, or move the file away",
            ) from error

    def scaled(self) -> Release:
        """Return the release with the replicas that `stack.scale` set."""
        services = {
            name: replace(spec, replicas=self.scale.get(name, spec.replicas))
            for name, spec in self.services.items()
        }
        return replace(self, services=services)

    def with_secrets(self, values: Mapping[str, str]) -> Release:
        """Return the release with the hashes that today's secret values give."""
        services = {
            name: replace(spec, config=config_hash(spec.base, spec.secrets, values))
            for name, spec in self.services.items()
        }
        return replace(self, services=services)


def config_hash(base: str, secrets: tuple[str, ...], values: Mapping[str, str]) -> str:
    """Given a service's hash without secrets and the secret values in it, return the hash its containers bear."""
    digest = hashlib.sha256(base.encode())
    for name in sorted(secrets):
        digest.update(f"\0{name}\0{values.get(name, '')}".encode())
    return digest.hexdigest()[:16]


def config_variable(service: str) -> str:
    """Return the variable of the release's .env that carries a service's hash to its label.

    The hash stands in .env and not in compose.yaml, because a rollback keeps the one and writes the other anew.
    """
    return "OPS_CONFIG_" + "".join(
        c.upper() if c.islower() or c.isdigit() else f"_{ord(c):02X}" for c in service
    )


def fits(spec: ServiceSpec, container: Container) -> bool:
    """Return whether a container is as its service defines it: it runs, or where it has an end, it ended well."""
    return container.config == spec.config and (container.running or ended_well(spec, container))


def ended_well(spec: ServiceSpec, container: Container) -> bool:
    """Return whether a container of a service that runs once has come to its end, and with exit code 0."""
    return spec.once and container.state == "exited" and container.exit_code == 0

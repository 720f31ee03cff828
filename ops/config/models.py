"""The shape of ops.toml: frozen, nothing unknown let in. docs/config.md is made from these fields."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator, model_validator

from ops.config.backups import Backup, Datastores, Restore
from ops.config.fields import Model, Name, Port, Variable
from ops.config.fitting import misfits
from ops.config.services import Migrate, Proxy, Service, Smoke

__all__ = [
    "Build",
    "Hook",
    "Lock",
    "Notify",
    "Persist",
    "Registry",
    "Secrets",
    "Server",
    "StackConfig",
]


class Server(Model):
    """One machine that runs a part of the stack."""

    address: str = Field(
        default="",
        description="Host name or address that SSH connects to; `local` is this machine without SSH; empty means the server's own name, to be found in the ssh_config.",
    )
    private_address: str = Field(
        default="",
        description="Address on the network that the servers share; other servers reach published ports there.",
    )
    user: str = Field(default="", description="SSH user; empty leaves it to the ssh_config.")
    port: Port | None = Field(
        default=None, description="SSH port; none leaves it to the ssh_config, else 22."
    )
    key: str = Field(
        default="",
        description="Path of the private key, relative to ops.toml, or `env:NAME` for a key that stands in an environment variable (CI).",
    )
    jump: str = Field(
        default="",
        description="Jump host `[user@]host[:port]`; several are joined by commas, the first is dialled first.",
    )
    roles: tuple[Name, ...] = Field(
        default=(),
        description="What runs here; a service runs on the servers that share a role with it. None means all services.",
    )
    sudo: bool = Field(
        default=False,
        description="Run everything on this server through `sudo -n` (a user without rights to Docker).",
    )


class Hook(Model):
    """A command of the user's own at a fixed place of a run."""

    on: Literal["before", "after", "failure"] = Field(
        description="`failure` runs when the run fails, before it is rolled back."
    )
    phase: Literal["check", "lock", "fetch", "upload", "backup", "migrate", "switch", "smoke", "commit"] = (
        Field(
            default="switch",
            description="The phase that it stands before or after; without meaning for `failure`. A rollback has no backup and no migrate; "
            "`stack.*` have check, lock and switch.",
        )
    )
    run: str = Field(description="The command, a line of POSIX shell.")
    where: Literal["operator", "state_host", "servers"] = Field(
        default="operator",
        description="The operator's machine, in the folder of ops.toml; the state host or each server, in the release folder, once the lock is taken.",
    )
    environment: dict[Variable, str] = Field(
        default_factory=dict,
        description="Variables beside OPS_STACK, OPS_ENVIRONMENT, OPS_VERSION, OPS_RELEASE, OPS_RUN_ID, OPS_PHASE; `env:NAME` passes on a value, "
        "masked like a secret where nothing but hooks uses that name.",
    )
    timeout: float = Field(default=300.0, gt=0, description="Seconds it may take; then it is ended.")
    on_error: Literal["fail", "warn"] = Field(
        default="fail", description="Whether its failure fails the run."
    )


class Build(Model):
    """Where images that this stack builds go."""

    registry: str = Field(
        default="",
        description="Registry and path before `<stack>/<service>`; empty: a throw-away registry on the operator's machine, reached by the servers through SSH.",
    )
    forward_port: Port = Field(
        default=5077,
        description="Port of the throw-away registry on both sides; it is part of the image reference.",
    )
    platforms: tuple[str, ...] = Field(
        default=(), description="Platforms for buildx; none means the builder's own."
    )
    args: dict[str, str] = Field(
        default_factory=dict, description="Build arguments beside VERSION and REVISION."
    )


class Registry(Model):
    """Credentials of one private registry, for builds and deploys; they reach a server on stdin, for a pull alone."""

    username: str = Field(description="User name; `env:NAME` takes it from the environment.")
    password: str = Field(
        default="", description="`env:NAME` only: the password stands in the environment or in .env."
    )
    password_command: tuple[str, ...] = Field(
        default=(), description="Command on the operator's machine that prints the password."
    )

    @model_validator(mode="after")
    def _one_source(self) -> Registry:
        if bool(self.password) == bool(self.password_command):
            raise ValueError('give either password = "env:NAME" or password_command')
        if self.password and not re.fullmatch(r"env:[A-Za-z_][A-Za-z0-9_]*", self.password):
            raise ValueError('password must be "env:NAME": a password does not belong into ops.toml')
        return self


class Secrets(Model):
    """Which values are secret."""

    required: tuple[Variable, ...] = Field(
        default=(), description="Names that must have a value; they are masked wherever they would be seen."
    )


class Persist(Model):
    """What a relative bind mount is, where the folder does not tell."""

    data: tuple[str, ...] = Field(
        default=(),
        description="Paths in the stack folder that are data: they live in shared/ on the server and outlive releases.",
    )
    content: tuple[str, ...] = Field(
        default=(), description="Paths that are content: shipped with each release."
    )


class Lock(Model):
    """When a run counts as dead."""

    heartbeat: float = Field(default=5.0, gt=0, description="Seconds between signs of life.")
    stale_after: float = Field(
        default=30.0,
        gt=0,
        description="Seconds without one after which another run may take over, by the server's clock.",
    )

    @model_validator(mode="after")
    def _beats_before_stale(self) -> Lock:
        if self.stale_after < 2 * self.heartbeat:
            raise ValueError("stale_after must be at least twice the heartbeat")
        return self


class Notify(Model):
    """Who is told how a run ended."""

    kind: Literal["log"] = Field(description="`log` appends one line to a file on the operator's machine.")
    path: str = Field(default=".ops/notify.log", description="The file, relative to ops.toml.")
    on: tuple[Literal["success", "failure"], ...] = Field(
        default=("success", "failure"), description="Which ends are told."
    )


class StackConfig(Model):
    """ops.toml after the overrides of one environment."""

    stack: Name | None = Field(
        default=None, description="The stack's name; none means the name of its folder."
    )
    files: tuple[str, ...] = Field(
        default=(),
        description="Compose files in order; none means compose.yaml (or compose.yml, docker-compose.yaml, docker-compose.yml) and, where it exists, compose.<environment>.yaml beside it. compose.override.yaml takes no part: it is for a developer's machine.",
    )
    profiles: tuple[str, ...] = Field(default=(), description="Compose profiles that are on.")
    engine: Literal["compose"] = Field(default="compose", description="What runs the stack.")
    project: Name | None = Field(
        default=None, description="Compose project name; none means `<stack>-<environment>`."
    )
    version: str = Field(default="git", description='Default of --version: "git", a literal, or "env:NAME".')
    state_host: Name | None = Field(
        default=None, description="Server that keeps lock and journal; required with more than one server."
    )
    batch: int | str = Field(
        default=1, description='Servers switched at once: a number or a share such as "25%".'
    )
    on_host_lost: Literal["rollback", "continue"] = Field(
        default="rollback", description="What a run does when a server is lost during the switch."
    )
    keep_releases: int = Field(
        default=5, ge=2, description="Releases kept on each server, the serving one among them."
    )
    confirm: Literal["no", "yes", "name"] = Field(
        default="no",
        description="What a person is asked before a change: nothing, yes or no, or the environment's name.",
    )
    base: str = Field(
        default="/opt",
        description="Folder on the servers that holds `<stack>/<environment>/`; an absolute path.",
    )
    ssh_config: str = Field(
        default="", description="ssh_config file, relative to ops.toml; empty means the user's own."
    )
    known_hosts: str = Field(
        default="", description="known_hosts file, relative to ops.toml; empty means the user's own."
    )
    backup_before_deploy: bool = Field(
        default=False,
        description="Take a full backup of all datastores before the migration; the deploy stops when it fails.",
    )
    timeout: float = Field(
        default=300.0, gt=0, description="Seconds that a pull or `compose up` may take on one server."
    )
    silence: float = Field(
        default=20.0,
        gt=0,
        description="Seconds after which a server that does not answer at all counts as lost.",
    )
    secrets: Secrets = Field(default_factory=Secrets)
    persist: Persist = Field(default_factory=Persist)
    lock: Lock = Field(default_factory=Lock)
    servers: dict[Name, Server] = Field(default_factory=dict)
    services: dict[Name, Service] = Field(default_factory=dict)
    proxy: Proxy | None = None
    migrate: Migrate | None = None
    smoke: tuple[Smoke, ...] = ()
    hooks: tuple[Hook, ...] = ()
    build: Build = Field(default_factory=Build)
    registries: dict[str, Registry] = Field(
        default_factory=dict, description="By registry name, as it stands in image references."
    )
    notify: tuple[Notify, ...] = ()
    backup: Backup = Field(default_factory=Backup)
    restore: Restore = Field(default_factory=Restore)
    datastores: Datastores = Field(default_factory=Datastores)

    @field_validator("base")
    @classmethod
    def _base_is_absolute(cls, value: str) -> str:
        if not re.fullmatch(r"/[^\x00-\x1f\x7f]*", value):
            raise ValueError('must be an absolute path, such as "/opt"')
        return value

    @field_validator("batch", mode="before")
    @classmethod
    def _batch_is_a_count_or_a_share(cls, value: object) -> object:
        if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
            return value
        if isinstance(value, str) and re.fullmatch(r"([1-9][0-9]?|100)%", value):
            return value
        raise ValueError('must be a number of servers, at least 1, or a share from "1%" to "100%"')

    @model_validator(mode="after")
    def _parts_fit_together(self) -> StackConfig:
        if found := misfits(self):
            raise ValueError("; ".join(found))
        return self

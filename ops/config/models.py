"""The shape of ops.toml: frozen, nothing unknown let in. docs/config.md is made from these fields."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from ops.config.fitting import misfits

__all__ = [
    "Build",
    "Health",
    "Hook",
    "Lock",
    "Migrate",
    "Notify",
    "Persist",
    "Proxy",
    "Registry",
    "Secrets",
    "Server",
    "Service",
    "Smoke",
    "StackConfig",
]

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=63)]
Variable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Port = Annotated[int, Field(ge=1, le=65535)]


def _request_path(text: str) -> str:
    if text and not re.fullmatch(r"/[!-~]*", text):
        raise ValueError("must begin with / and hold plain ASCII without spaces (write others as %XX)")
    return text


def _host_name(text: str) -> str:
    label = r"[A-Za-z0-9_-]{1,63}"
    if text and not re.fullmatch(rf"{label}(\.{label})*\.?", text) and not _is_address(text):
        raise ValueError("must be a host name in ASCII (punycode for others) or an address, without a port")
    return text


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


RequestPath = Annotated[str, AfterValidator(_request_path)]
HostName = Annotated[str, AfterValidator(_host_name)]


class Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


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


class Health(Model):
    """How a fresh container is known to be good."""

    kind: Literal["auto", "http", "tcp", "docker", "running", "completed"] = Field(
        default="auto",
        description="`auto`: http where a path is given, tcp where a port is, completed where another service waits for its end "
        "(`service_completed_successfully`), else docker where the image or the compose file has a healthcheck, else running. "
        "`completed`: it is good once it ended with exit code 0.",
    )
    path: RequestPath = Field(default="", description="Path for http; any status from 200 to 399 passes.")
    port: Port | None = Field(
        default=None,
        description="Container port that is probed; none means the service's `port`. `http` and `tcp` need one of them.",
    )
    passes: int = Field(default=2, ge=1, description="Passes in a row.")
    interval: float = Field(default=0.3, gt=0, description="Seconds between probes.")
    timeout: float = Field(
        default=60.0, gt=0, description="Seconds that a container may take to become healthy."
    )
    soak: float = Field(
        default=0.0,
        ge=0,
        description="Seconds that it is watched after that; a restart or a failed probe sends the release back. "
        "Behind a proxy twice: before any request goes there, and at work with the old in reserve.",
    )


class Service(Model):
    """One service of the compose files, as far as a deploy has to know it."""

    roles: tuple[Name, ...] = Field(
        default=(), description="Roles of the servers that run it; none means every server."
    )
    replicas: int | None = Field(
        default=None, ge=0, description="Containers on each of its servers; wins over `deploy.replicas`."
    )
    strategy: Literal["recreate", "rolling"] = Field(
        default="recreate", description="How a changed service is switched."
    )
    port: Port | None = Field(default=None, description="Container port that the proxy sends requests to.")
    image: str = Field(default="", description="Image reference; `{version}` in it is the version deployed.")
    drain: float = Field(
        default=30.0,
        ge=0,
        description="Seconds that requests in flight may take when old containers leave the proxy.",
    )
    balance: Literal["least_conn", "round_robin", "ip_hash"] = Field(
        default="least_conn", description="How the proxy spreads requests over the containers."
    )
    health: Health = Field(default_factory=Health, description="The health gate.")


class Proxy(Model):
    """The nginx service in front of the rolling services."""

    service: Name = Field(description="Its name in the compose files.")
    upstreams: str = Field(
        description="Folder in the stack folder, mounted into the proxy as a directory, where one `<service>.conf` for each rolling service stands."
    )
    settle: float = Field(
        default=1.5,
        ge=0,
        description="Seconds that nginx is given to resolve new names after a reload; it offers no way to ask.",
    )


class Migrate(Model):
    """A command that runs once for the fleet, in a container of the new version, before any switch."""

    service: Name = Field(description="The service whose image runs it.")
    command: tuple[str, ...] = Field(min_length=1, description="The command, word by word.")
    timeout: float = Field(default=600.0, gt=0, description="Seconds it may take.")


class Smoke(Model):
    """A request through the proxy after the switch; a failed one rolls the release back."""

    path: RequestPath = Field(default="/", min_length=1, description="Path that is requested.")
    port: Port = Field(default=80, description="Published port on the server.")
    scheme: Literal["http", "https"] = Field(
        default="http", description="`https` checks the certificate only where `ca` is given."
    )
    host: HostName = Field(
        default="", description="Host header and TLS name; empty means the server's address."
    )
    ca: str = Field(
        default="", description="PEM file, relative to ops.toml, that the certificate must come from."
    )
    status: int = Field(default=200, ge=100, le=599, description="Status that is expected.")
    contains: str = Field(default="", description="Text that the body must contain.")
    max_seconds: float = Field(default=5.0, gt=0, description="Seconds that the answer may take.")
    roles: tuple[Name, ...] = Field(
        default=(),
        description="Roles of the servers that are asked, those without roles among them; none means the servers that run the proxy, without a proxy all.",
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
    """Credentials of one private registry; they reach a server on stdin, for a pull alone."""

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
        description="Compose files in order; none means compose.yaml (or compose.yml, docker-compose.yaml, docker-compose.yml) and, where it exists, compose.<environment>.yaml beside it.",
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
        description="Take a backup before the migration; the deploy stops when it fails. There is no backup feature yet, so it always stops.",
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

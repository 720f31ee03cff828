"""The tables of ops.toml on services: how they are switched, when they are good, what stands before and behind them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ops.config.fields import HostName, Model, Name, Port, RequestPath

__all__ = ["Health", "Migrate", "Proxy", "Service", "Smoke"]


class Health(Model):
    """How a fresh container is known to be good."""

    kind: Literal["auto", "http", "tcp", "docker", "running", "completed"] = Field(
        default="auto",
        description="`auto`: http where a path is given, tcp where a port is, completed where another service waits for its end "
        "(`service_completed_successfully`), else docker where the image or the compose file has a healthcheck, else running. "
        "`completed`: it is good once it ended with exit code 0; a deploy runs it where its definition or its version changed, nothing else does.",
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

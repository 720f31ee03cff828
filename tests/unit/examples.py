"""Services, releases and containers as tests need them: everything has a default, a test says what matters."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ops.engines.facts import Container, HostFacts
from ops.engines.layout import Layout
from ops.engines.release import HealthSpec, ProxySpec, Release, ServiceSpec

__all__ = ["LAYOUT", "PROXY", "container", "facts", "release", "spec"]

LAYOUT = Layout("/opt", "shop", "production")
PROXY = ProxySpec("nginx", "nginx/upstreams", 1.5, "nginx@sha256:cc")


def spec(name: str = "api", **fields: Any) -> ServiceSpec:
    """Return a service whose containers bear the config `new`."""
    base = ServiceSpec(
        name=name,
        config="new",
        base="base",
        secrets=(),
        image=f"{name}:2",
        pin=f"{name}@sha256:22",
        replicas=1,
        strategy="recreate",
        health=HealthSpec("http", "/up", 8000, interval=0.01, timeout=1.0),
        port=8000,
        drain=30.0,
        grace=10.0,
        balance="least_conn",
        depends_on=(),
        versioned=True,
    )
    return replace(base, **fields)


def container(service: str = "api", number: int = 1, config: str = "new", **fields: Any) -> Container:
    """Return a running container."""
    base = Container(
        id=f"{service}-{number}-id",
        name=f"shop-{service}-{number}",
        service=service,
        number=number,
        state="running",
        exit_code=0,
        restarts=0,
        health="",
        config=config,
        image="sha256:1",
        reference=f"{service}:1",
        addresses=(f"10.0.0.{number}",),
        started_at="",
    )
    return replace(base, **fields)


def release(*services: ServiceSpec, **fields: Any) -> Release:
    """Return a release of some services."""
    base = Release(
        id="20260101T000000Z-2-ab12",
        version="2",
        revision=None,
        created="2026-01-01T00:00:00Z",
        run_id="20260101T000000Z-cd34",
        stack="shop",
        environment="production",
        project="shop",
        services={service.name: service for service in services},
    )
    return replace(base, **fields)


def facts(**fields: Any) -> HostFacts:
    """Return a healthy server with nothing on it."""
    base = HostFacts(
        docker="26.1.5",
        compose="2.26.1",
        architecture="x86_64",
        cpus=2,
        clock=0.0,
        free={"/opt": 10**10},
        containers=(),
        bystanders=(),
        volumes={},
        networks={},
        images=(),
        current=None,
    )
    return replace(base, **fields)

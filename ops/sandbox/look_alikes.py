"""Which upstream images have a look-alike, under which tags, and what is really inside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ops.sandbox.base_image import SUITE

__all__ = ["LOOK_ALIKES", "LookAlike"]


@dataclass(frozen=True)
class LookAlike:
    """An image built from packages that stands in for `repository` under each of `tags`; `holds` says what is
    inside.

    One that few stacks need, or that takes minutes to build, is made only when it is asked for.
    """

    repository: str
    tags: tuple[str, ...]
    folder: str
    holds: str
    arguments: Mapping[str, str] = field(default_factory=dict)
    on_demand: bool = False


LOOK_ALIKES = (
    LookAlike("debian", ("trixie-slim",), "base", "Debian 13"),
    LookAlike("postgres", ("16", "17", "16-alpine", "17-alpine"), "postgres", "PostgreSQL 17 under all tags"),
    LookAlike("redis", ("7", "7-alpine"), "redis", "Redis 8.0"),
    LookAlike(
        "nginx", ("1.27", "1.27-alpine", "alpine"), "nginx", "nginx 1.27.4 or later", {"SUITE": "forky"}
    ),
    LookAlike("nginx", ("1.26", "1.26-alpine"), "nginx", "nginx 1.26.3", {"SUITE": SUITE}),
    LookAlike("python", ("3.13", "3.13-slim"), "python", "Python 3.13"),
    LookAlike("registry", ("2",), "registry", "Docker Registry 2.8"),
    LookAlike(
        "mongo",
        ("7", "7.0"),
        "mongo",
        "the real mongodump, mongorestore and mongosh beside a server that speaks MongoDB's protocol",
        on_demand=True,
    ),
    LookAlike(
        "qdrant/qdrant",
        ("v1.15.4", "latest"),
        "qdrant",
        "a stand-in that keeps points and snapshots behind Qdrant's HTTP API, and searches nothing",
        on_demand=True,
    ),
)

"""What came of a run, as a value: the fields of the JSON document, and what the library's calls give back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["Outcome", "Target"]


@dataclass(frozen=True)
class Target:
    """What became of one host, service or datastore; `seconds` is the time spent on it."""

    kind: Literal["host", "service", "datastore"]
    result: Literal["changed", "unchanged", "failed", "rolled_back", "unreachable"]
    previous: str | None = None
    release: str | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Outcome:
    """A run from start to end; `seconds` is its wall time, `started_at` is RFC 3339 in UTC."""

    action: str
    stack: str
    environment: str
    run_id: str | None = None
    release: str | None = None
    version: str | None = None
    revision: str | None = None
    digests: Mapping[str, str] = field(default_factory=dict)
    started_at: str | None = None
    seconds: float | None = None
    targets: Mapping[str, Target] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    log: str | None = None

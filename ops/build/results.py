"""What came of a build."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ops.outcomes import Outcome

__all__ = ["Built", "BuiltImage"]


@dataclass(frozen=True)
class BuiltImage:
    """One image; `digest` is that of its manifest in the registry, None when it was not pushed.

    `seconds` is the time that building and pushing it took.
    """

    service: str
    reference: str
    digest: str | None
    seconds: float


@dataclass(frozen=True)
class Built:
    """All images of one build by service, and its outcome: version, revision, digests, warnings, seconds, log."""

    images: Mapping[str, BuiltImage]
    outcome: Outcome

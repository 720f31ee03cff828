"""What every strategy needs to know of the server and the release that it switches to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ops.engines.layout import Layout
from ops.engines.release import ProxySpec

__all__ = ["Switch"]


@dataclass(frozen=True)
class Switch:
    """The release to switch to, on one server; `timeout` bounds one `compose up`, in seconds.

    `jobs` says which services that run once are run: those whose definition `changed` (a deploy), those that are
    `missing` (what was taken down comes up again), or `none`: a way back never runs an old migration on a new schema.
    `proxy_renewed`: the proxy gets a new container in this switch, behind the services that it speaks of.
    """

    layout: Layout
    project: str
    release: str
    proxy: ProxySpec | None
    timeout: float
    jobs: Literal["changed", "missing", "none"] = "changed"
    proxy_renewed: bool = False

"""What every strategy needs to know of the server and the release that it switches to."""

from __future__ import annotations

from dataclasses import dataclass

from ops.engines.layout import Layout
from ops.engines.release import ProxySpec

__all__ = ["Switch"]


@dataclass(frozen=True)
class Switch:
    """The release to switch to, on one server; `timeout` bounds one `compose up`, in seconds.

    `jobs` says whether services that run once are run. Only a deploy does: elsewhere it might be an old migration on a
    new schema.
    `proxy_renewed`: the proxy gets a new container in this switch, behind the services that it speaks of.
    """

    layout: Layout
    project: str
    release: str
    proxy: ProxySpec | None
    timeout: float
    jobs: bool = True
    proxy_renewed: bool = False

"""One container of a stand-in engine."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Any

from standin.images import Image
from standin.nginx import Nginx

__all__ = ["Container"]


@dataclass(eq=False)
class Container:
    """One container; `hash` is Compose's own idea of its definition."""

    name: str
    service: str
    number: int
    project: str
    image: Image
    reference: str
    labels: dict[str, str]
    hash: str
    address: str
    definition: dict[str, Any]
    id: str = field(default_factory=lambda: uuid.uuid4().hex * 2)
    state: str = "running"
    exit_code: int = 0
    restarts: int = 0
    starts: int = 1
    nginx: Nginx | None = None

    @property
    def running(self) -> bool:
        return self.state == "running"

    @property
    def config(self) -> str:
        return self.labels.get("ops.config", "")

    def publishes(self, address: str, port: int) -> bool:
        """Return whether a port of the server at an address leads to it."""
        ports = [p for p in self.definition.get("ports") or () if str(p.get("published")) == str(port)]
        return self.running and any(p.get("host_ip", address) == address for p in ports)

    @property
    def ports(self) -> str:
        found = [p for p in self.definition.get("ports") or () if p.get("published")]
        return ", ".join(
            f"{p.get('host_ip', '0.0.0.0')}:{p['published']}->{p['target']}/{p['protocol']}" for p in found
        )

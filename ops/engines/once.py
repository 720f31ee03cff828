"""Why a service cannot have two containers on one server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["why_once"]


def why_once(definition: Mapping[str, Any]) -> str:
    """Given a service as Compose renders it, return what keeps it from running twice; empty when nothing does."""
    if definition.get("container_name"):
        return f"container_name {definition['container_name']!r} can exist once only"
    if definition.get("network_mode") == "host":
        return "on the host's network two containers cannot listen on one port"
    for port in definition.get("ports") or ():
        published = str(port.get("published") or "")
        if published and "-" not in published:
            return f"it publishes the fixed host port {published}"
    if volume := _exclusive_volume(definition):
        return f"two containers would write to the volume {volume}"
    return ""


def _exclusive_volume(definition: Mapping[str, Any]) -> str:
    for volume in definition.get("volumes") or ():
        if volume.get("type") == "volume" and volume.get("source") and not volume.get("read_only"):
            return str(volume["source"])
    return ""

"""Ports of a server that containers are published at, as `docker ps` tells them."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["Published", "published_ports"]

_PUBLISHED = re.compile(r"(.+):(\d+)(?:-(\d+))?->.*/(\w+)$")


@dataclass(frozen=True)
class Published:
    """A port, or several in a row, at one of the server's addresses."""

    address: str
    numbers: range
    protocol: str


def published_ports(text: str) -> tuple[Published, ...]:
    """Given the column Ports of one container or a line for each, return what is published; the rest is left out."""
    found = []
    for part in re.split(r", |\n", text):
        if match := _PUBLISHED.match(part):
            first, last = int(match[2]), int(match[3] or match[2])
            found.append(Published(match[1].strip("[]"), range(first, last + 1), match[4]))
    return tuple(found)

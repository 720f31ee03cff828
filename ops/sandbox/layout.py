"""Where everything of the sandbox is: its folder on this machine, its names in Docker, its addresses on the
network.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from ops.errors import UsageError

__all__ = ["LABEL", "Layout", "layout"]

LABEL = "opsbook.sandbox"
NAME = "opsbook-sandbox"
DEFAULT_SUBNET = "172.30.77.0/24"

FIXED = {"registry": 5, "builder": 6, "mirror": 7, "web1": 11, "web2": 12, "db1": 21}
NUMBERED_FROM, NUMBERED = 30, 60  # app1 is .31, app60 is .90
OTHERS = range(101, 200)
# A unix socket's path fits in 108 bytes with its closing zero; the client appends nothing to it.
LONGEST_SOCKET_PATH = 100


@dataclass(frozen=True)
class Layout:
    """The places of one sandbox: `directory` holds its files, `subnet` its addresses."""

    directory: Path
    subnet: ipaddress.IPv4Network

    @property
    def network(self) -> str:
        """Return the name of the bridge network, which is the prefix of every container's name too."""
        return NAME

    def container(self, name: str) -> str:
        """Given a server's name, return the name of its container."""
        return f"{NAME}-{name}"

    def address(self, name: str, taken: Collection[str] = ()) -> str:
        """Given a name, return its address: fixed for the known ones and app1 to app60, else the first not
        in `taken`.
        """
        base = self.subnet.network_address
        if name in FIXED:
            return str(base + FIXED[name])
        if (match := re.fullmatch(r"app([1-9][0-9]?)", name)) and int(match[1]) <= NUMBERED:
            return str(base + NUMBERED_FROM + int(match[1]))
        for number in OTHERS:
            if str(base + number) not in taken:
                return str(base + number)
        raise UsageError(f"the sandbox has no address left for {name}", next_step="inv sandbox.down")

    @property
    def hosts(self) -> dict[str, str]:
        """Return the addresses that every server can look up, by full name (`web1.sandbox`)."""
        names = [*FIXED, *(f"app{number}" for number in range(1, 10))]
        return {f"{name}.sandbox": self.address(name) for name in names}

    @property
    def builder_socket(self) -> Path:
        """Return the path of the builder's Docker API socket, short enough for a socket wherever the
        checkout is.
        """
        path = self.directory / "builder" / "docker.sock"
        if len(os.fsencode(path)) <= LONGEST_SOCKET_PATH:
            return path
        return Path(f"/tmp/opsbook-{os.getuid()}/builder/docker.sock")


def layout() -> Layout:
    """Return the layout from OPS_SANDBOX_DIR and OPS_SANDBOX_SUBNET, or `.sandbox` in the checkout (else the
    current folder).

    Raises UsageError when the subnet cannot hold the sandbox's addresses.
    """
    given = os.environ.get("OPS_SANDBOX_DIR")
    checkout = Path(__file__).resolve().parents[2]
    home = checkout if (checkout / "pyproject.toml").is_file() else Path.cwd()
    directory = Path(given).expanduser().absolute() if given else home / ".sandbox"
    text = os.environ.get("OPS_SANDBOX_SUBNET", DEFAULT_SUBNET)
    try:
        subnet = ipaddress.IPv4Network(text)
    except ValueError as error:
        raise UsageError(
            f"OPS_SANDBOX_SUBNET is not an IPv4 network: {error}", next_step="write it as in 172.30.77.0/24"
        ) from None
    if subnet.prefixlen > 24:
        raise UsageError(
            f"OPS_SANDBOX_SUBNET {text} is too small: the sandbox uses addresses up to .199",
            next_step="give it a /24",
        )
    return Layout(directory, subnet)

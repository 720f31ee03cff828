"""The bridge network that the sandbox's servers share, at the same addresses each time."""

from __future__ import annotations

from ops.errors import UsageError
from ops.sandbox.docker import DockerFailed, docker
from ops.sandbox.layout import LABEL, Layout

__all__ = ["create", "remove"]


def create(layout: Layout) -> None:
    """Given the layout, make sure that its network exists with its subnet.

    Raises UsageError when it exists with another subnet, or when another network has these addresses.
    """
    shown = docker("network", "ls", "--filter", f"name=^{layout.network}$", "--format", "{{.ID}}").strip()
    if shown:
        subnet = docker(
            "network", "inspect", shown, "--format", "{{range .IPAM.Config}}{{.Subnet}}{{end}}"
        ).strip()
        if subnet != str(layout.subnet):
            raise UsageError(
                f"the sandbox's network exists with {subnet}, and {layout.subnet} is asked for",
                next_step="inv sandbox.down, then inv sandbox.up",
            )
        return
    try:
        # Names on this bridge show on the machine too, where people look at its interfaces.
        interface = ("--opt", "com.docker.network.bridge.name=br-opsbook")
        address = ("--driver", "bridge", "--subnet", str(layout.subnet))
        docker("network", "create", *address, *interface, "--label", f"{LABEL}=1", layout.network)
    except DockerFailed as error:
        if "already exists" in str(error) and "network with name" in str(error):
            return  # another run of this was quicker
        if "overlaps" in str(error):
            raise UsageError(
                f"another network of this machine already has addresses of {layout.subnet}",
                next_step="OPS_SANDBOX_SUBNET=172.30.78.0/24 inv sandbox.up, with a /24 that is free here",
            ) from None
        raise


def remove(layout: Layout) -> None:
    """Given the layout, remove its network where it exists."""
    if docker("network", "ls", "--filter", f"name=^{layout.network}$", "--format", "{{.ID}}").strip():
        docker("network", "rm", layout.network)

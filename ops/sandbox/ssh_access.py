"""The operator's way in: the key, the servers' host keys, and an ssh configuration that uses both."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from ops.errors import OpsError

__all__ = ["public_key", "write_configuration", "write_known_hosts"]

CONFIGURATION = """\
Host {name}.sandbox
  HostName {address}
  User root
  Port 22
  IdentityFile "{directory}/ssh_key"
  IdentitiesOnly yes
  UserKnownHostsFile "{directory}/known_hosts"
  StrictHostKeyChecking yes
"""


def public_key(directory: Path) -> str:
    """Given the sandbox's folder, return the public key that its servers accept; the pair is made on the
    first call.

    Raises OpsError when there is no ssh-keygen.
    """
    private, public = directory / "ssh_key", directory / "ssh_key.pub"
    if not (private.is_file() and public.is_file()):
        private.unlink(missing_ok=True)
        argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "opsbook-sandbox", "-f", str(private)]
        try:
            subprocess.run(argv, check=True, capture_output=True, timeout=30)
        except (FileNotFoundError, subprocess.CalledProcessError) as error:
            raise OpsError(f"no ssh key could be made: {error}", next_step="install openssh-client") from None
    return public.read_text().strip()


def write_known_hosts(directory: Path, addresses: Mapping[str, str], keys: Mapping[str, str]) -> None:
    """Given addresses and fresh host keys by server name, write `known_hosts`; a server without a fresh key
    keeps its line.
    """
    file = directory / "known_hosts"
    lines = {}
    for line in file.read_text().splitlines() if file.is_file() else []:
        names, _, key = line.partition(" ")
        lines[names] = key
    for name, key in keys.items():
        lines[f"{name}.sandbox,{addresses[name]}"] = key
    wanted = {f"{name}.sandbox,{address}" for name, address in addresses.items()}
    _replace(file, "".join(f"{names} {key}\n" for names, key in sorted(lines.items()) if names in wanted))


def write_configuration(directory: Path, addresses: Mapping[str, str]) -> None:
    """Given addresses by server name, write `ssh_config` with one Host entry each, all paths absolute."""
    entries = [
        CONFIGURATION.format(name=name, address=address, directory=directory)
        for name, address in sorted(addresses.items())
    ]
    _replace(directory / "ssh_config", "\n".join(entries))


def _replace(path: Path, text: str) -> None:
    # In one step: colleagues' connections read these while another run of `up` writes them.
    if path.is_file() and path.read_text() == text:
        return
    new = path.with_name(f".{path.name}.{os.getpid()}")
    new.write_text(text)
    new.replace(path)

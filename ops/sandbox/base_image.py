"""A Debian base image made with mmdebstrap, for machines that reach packages but no image registry."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

from ops.errors import FailedUnchanged, OpsError
from ops.sandbox.docker import docker
from ops.sandbox.layout import LABEL

__all__ = ["bootstrap", "package_source"]

SUITE = "trixie"


def bootstrap(reference: str) -> None:
    """Given an image reference, make a minimal Debian image of that name.

    Raises OpsError when mmdebstrap is not installed, FailedUnchanged when it cannot reach a mirror.
    """
    if shutil.which("mmdebstrap") is None:
        raise OpsError(
            "no image can be pulled, and mmdebstrap, which makes one instead, is not installed",
            next_step="make Docker Hub reachable, or apt-get install mmdebstrap debian-archive-keyring",
        )
    with tempfile.TemporaryDirectory(prefix="opsbook-base-") as folder:
        archive = Path(folder) / "base.tar"
        argv = [
            "mmdebstrap",
            "--quiet",
            "--variant=minbase",
            "--include=ca-certificates",
            SUITE,
            str(archive),
        ]
        if source := package_source(Path("/etc/apt")):
            argv.append(source)
        done = subprocess.run(argv, capture_output=True, text=True, timeout=600, check=False)
        if done.returncode:
            raise FailedUnchanged(
                "mmdebstrap could not make the base image: "
                + "\n".join(done.stderr.strip().splitlines()[-5:]),
                next_step="make a Debian package mirror reachable, then inv sandbox.up",
            )
        changes = ("--change", f"LABEL {LABEL}=1", "--change", 'CMD ["bash"]')
        docker("import", *changes, archive, reference, seconds=300)


def package_source(apt: Path) -> str | None:
    """Given apt's configuration folder, return the URI of the Debian mirror that the machine itself uses.

    None where it uses none (an Ubuntu machine, say); mmdebstrap then takes Debian's own.
    """
    for file in sorted(apt.glob("sources.list.d/*.sources")):
        for stanza in re.split(r"\n\s*\n", file.read_text()):
            fields = dict(re.findall(r"^(\w[\w-]*):[ \t]*(.*)$", stanza, re.MULTILINE))
            if "deb" in fields.get("Types", "").split() and _is_debian(fields.get("Suites", "").split()):
                return str(fields["URIs"].split()[0])
    for file in [apt / "sources.list", *sorted(apt.glob("sources.list.d/*.list"))]:
        lines = file.read_text().splitlines() if file.is_file() else []
        for line in lines:
            match = re.match(r"deb\s+(?:\[[^]]*\]\s+)?(\S+)\s+(\S+)\s+.*\bmain\b", line)
            if match and _is_debian([match[2]]):
                return match[1]
    return None


def _is_debian(suites: Iterable[str]) -> bool:
    return bool({"bookworm", SUITE, "stable", "oldstable"}.intersection(suites))

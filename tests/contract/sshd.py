"""A throw-away sshd on 127.0.0.1, with keys and configuration of its own, and waiting for what processes do."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ops.hosts.route import Endpoint, Settings, route

BINARY = Path("/usr/sbin/sshd")
PRIVILEGES = Path("/run/sshd")


def missing() -> str:
    """Return why no sshd can be started here, or nothing."""
    if not BINARY.is_file() or shutil.which("ssh-keygen") is None:
        return "no /usr/sbin/sshd with ssh-keygen on this machine"
    if not PRIVILEGES.is_dir() and os.geteuid() != 0:
        return f"{PRIVILEGES} is missing and only root can make it"
    return ""


class Sshd:
    """One sshd: `folder` holds its keys, the client's key and known_hosts."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.port = _free_port()
        folder.mkdir(parents=True, exist_ok=True)
        if not PRIVILEGES.is_dir():
            PRIVILEGES.mkdir(mode=0o755)
        for kind in ("ed25519", "ecdsa"):
            keygen("-t", kind, "-f", str(folder / f"host_{kind}"))
        keygen("-t", "ed25519", "-f", str(folder / "id"))
        (folder / "authorized_keys").write_text((folder / "id.pub").read_text())
        self.trust("ed25519")
        lines = [
            f"Port {self.port}",
            "ListenAddress 127.0.0.1",
            *(f"HostKey {folder}/host_{kind}" for kind in ("ed25519", "ecdsa")),
            f"AuthorizedKeysFile {folder}/authorized_keys",
            f"PidFile {folder}/pid",
            "StrictModes no",
            "UsePAM no",
            "PasswordAuthentication no",
            "PermitRootLogin prohibit-password",
            "MaxStartups 100",
            f"SetEnv HOME={folder}",  # what the rc file of this machine does must not matter
            *options,
        ]
        (folder / "sshd_config").write_text("\n".join(lines) + "\n")
        self._process = subprocess.Popen(
            [str(BINARY), "-D", "-f", str(folder / "sshd_config"), "-E", str(folder / "log")],
            start_new_session=True,
        )
        self._wait()

    @property
    def known_hosts(self) -> Path:
        """The file that says which host key is right."""
        return self.folder / "known_hosts"

    def trust(self, kind: str, *, name: str = "") -> None:
        """Write known_hosts anew with the host key of that kind."""
        words = (self.folder / f"host_{kind}.pub").read_text().split()[:2]
        self.known_hosts.write_text(f"{name or f'[127.0.0.1]:{self.port}'} {' '.join(words)}\n")

    def endpoints(self, *, key: str = "", jump: str = "", config: str = "") -> tuple[Endpoint, ...]:
        """Return the way there; `config` is more ssh_config for it."""
        file = self.folder / "ssh_config"
        file.write_text(f"{config}\nHost *\n  IdentitiesOnly yes\n  IdentityFile {self.folder}/id\n")
        return route(
            "127.0.0.1",
            user=getpass.getuser(),
            port=self.port,
            key=key or str(self.folder / "id"),
            jump=jump,
            settings=Settings(ssh_config=file, known_hosts=self.known_hosts),
        )

    def log(self) -> str:
        """Return what sshd has logged."""
        return (self.folder / "log").read_text()

    def sessions(self) -> list[int]:
        """Return the processes of sshd, the listening one first."""
        found = subprocess.run(
            ["pgrep", "-s", str(self._process.pid)], capture_output=True, text=True, check=False
        )
        pids = [self._process.pid]
        for parent in pids:
            # One may end at any time, also between two looks at it.
            with suppress(FileNotFoundError, ProcessLookupError):
                children = Path(f"/proc/{parent}/task/{parent}/children").read_text()
                pids.extend(map(int, children.split()))
        return list(dict.fromkeys([*pids, *map(int, found.stdout.split())]))

    def signal(self, number: int) -> None:
        """Send a signal to sshd and everything below it."""
        for pid in self.sessions():
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue

    def stop(self) -> None:
        """End it and its sessions."""
        self.signal(signal.SIGKILL)
        self._process.wait(60)

    def _wait(self) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=5).close()
                return
            except OSError:
                if self._process.poll() is not None:
                    break
                time.sleep(0.02)
        raise AssertionError(f"sshd did not start: {self.log()}")


def runs(pattern: str) -> bool:
    """Return whether a process has a command line of that pattern."""
    return not subprocess.run(["pgrep", "-f", pattern], capture_output=True, check=False).returncode


def until(true: Callable[[], object], *, seconds: float = 60) -> bool:
    """Wait for something to become true; the time is for a busy machine, so its end is a failure."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def keygen(*arguments: str, passphrase: str = "") -> None:
    """Make a key pair."""
    subprocess.run(["ssh-keygen", "-q", "-N", passphrase, *arguments], check=True, stdin=subprocess.DEVNULL)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port

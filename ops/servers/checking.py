"""Whether servers can run a stack: one question to each, everything that is missing told with what helps."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass

from ops.commands import Command, quote
from ops.config import Settings
from ops.errors import OpsError, Unreachable
from ops.hosts import CommandFailed, Host
from ops.hosts.fleet import each

__all__ = ["Checked", "check"]

TOOLS = ("flock", "tar", "sha256sum", "base64", "find", "xargs", "awk", "mktemp", "stat")
LEAST_FREE = 1024 * 1024 * 1024  # bytes; a first deploy pulls whole images


@dataclass(frozen=True)
class Checked:
    """One server. `free` is bytes at the stack's folder, `free_images` where Docker keeps images.

    `clock_off` is seconds ahead of this machine (behind: negative); `sudo` says whether sudo works without a password.
    """

    server: str
    reachable: bool
    user: str = ""
    system: str = ""
    architecture: str = ""
    docker: str = ""
    compose: str = ""
    buildx: str = ""
    sudo: bool = False
    free: int = 0
    free_images: int = 0
    clock_off: float = 0.0
    problems: tuple[str, ...] = ()
    next_steps: tuple[str, ...] = ()

    @property
    def good(self) -> bool:
        """True when nothing stands in the way of a deploy."""
        return self.reachable and not self.problems


def check(settings: Settings, hosts: Mapping[str, Host]) -> tuple[Checked, ...]:
    """Ask every server in one round trip each, and return what was found; nothing is changed."""
    root = f"{settings.config.base.rstrip('/')}/{settings.stack}"

    def ask(host: Host) -> Checked:
        forwards = _forwards(host)  # it connects, too, so that the clock is read without that delay
        before = time.time()
        result = host.run(Command(_script(root), title="look at the server", timeout=60))
        if not result.ok:
            raise CommandFailed("the look at the server", result, target=host.name)
        clock = (before + time.time()) / 2
        return _read(settings, host.name, result.stdout, clock, forwards)

    answers = each(hosts, ask)
    found = []
    for name, answer in answers.items():
        if isinstance(answer, OpsError):
            steps = (answer.next_step,) if answer.next_step else ()
            found.append(Checked(name, False, problems=(answer.message,), next_steps=steps))
        else:
            found.append(answer)
    return tuple(found)


def _script(root: str) -> str:
    tools = " ".join(TOOLS)
    return (
        'say() { printf \'%s\\t%s\\n\' "$1" "$2"; }; '
        'say user "$(id -un)"; say system "$(. /etc/os-release 2>/dev/null; echo "$PRETTY_NAME")"; say machine "$(uname -m)"; '
        'say clock "$(date +%s.%N)"; '
        f"for t in {tools}; do command -v $t >/dev/null 2>&1 || say missing $t; done; "
        "head --version 2>/dev/null | grep -q GNU || say missing 'GNU head (coreutils)'; "
        "if command -v docker >/dev/null 2>&1; then "
        'if v=$(docker version --format \'{{.Server.Version}}\' 2>&1); then say docker "$v"; else say refused "$(printf %s "$v" | tail -n 1)"; fi; '
        'say compose "$(docker compose version --short 2>/dev/null)"; say buildx "$(docker buildx version 2>/dev/null | awk \'{print $2}\')"; fi; '
        "r=$(docker info --format '{{.DockerRootDir}}' 2>/dev/null); [ -z \"$r\" ] || "
        'say images "$(df -Pk "$r" 2>/dev/null | tail -n 1 | awk \'{print $4}\')"; '
        f'q={quote(root)}; while [ ! -e "$q" ]; do q=$(dirname "$q"); done; say free "$(df -Pk "$q" | tail -n 1 | awk \'{{print $4}}\')"; '
        '[ -w "$q" ] || say readonly "$q"; '
        "sudo -n true 2>/dev/null && say sudo yes; true"
    )


def _forwards(host: Host) -> bool:
    """Whether sshd lets streams through; a refused connection on the far side is a yes."""
    try:
        host.connect("127.0.0.1", 9, timeout=5).close()
    except OSError:
        return True
    except Unreachable:
        raise
    except OpsError:
        return False
    return True


def _read(settings: Settings, name: str, text: str, clock: float, forwards: bool) -> Checked:
    said: dict[str, str] = {}
    missing: list[str] = []
    for line in text.splitlines():
        key, _, value = line.partition("\t")
        if key == "missing":
            missing.append(value)
        else:
            said[key] = value
    problems: list[tuple[str, str]] = []
    prepare = f"inv servers.prepare {settings.options} --server {name}"
    if missing:
        problems.append((f"not there: {', '.join(missing)}", prepare))
    if "refused" in said:
        sudo = f"set servers.{name}.sudo = true in ops.toml, or " if "sudo" in said else ""
        problems.append(
            (f"{said.get('user', 'the user')} may not use Docker: {said['refused']}", f"{sudo}{prepare}")
        )
    elif "docker" not in said:
        problems.append(("Docker is not installed", prepare))
    elif _older(said["docker"], (20, 10)):
        problems.append((f"Docker {said['docker']} is older than 20.10", prepare))
    if said.get("docker") and (not said.get("compose") or _older(said["compose"], (2, 20))):
        problems.append(
            (f"Docker Compose {said.get('compose') or 'is not there'}; 2.20 or later is needed", prepare)
        )
    if "readonly" in said:
        problems.append((f"{said.get('user')} may not write to {said['readonly']}", prepare))
    free = int(said.get("free") or 0) * 1024
    images = (
        int(said["images"]) * 1024 if said.get("images") else free
    )  # Docker's folder may be closed to the user
    for where, space in (("for the stack", free), ("for images", images)):
        if space < LEAST_FREE:
            problems.append(
                (f"only {space // 2**20} MiB free {where}", f"make room on {name}: docker system df")
            )
    off = float(said.get("clock") or clock) - clock
    if abs(off) > 30:
        problems.append(
            (f"its clock is {off:+.0f} s off", "let it follow a time server (systemd-timesyncd, chrony)")
        )
    if not forwards:
        problems.append(
            (
                "sshd forbids forwarding, health cannot be probed",
                "AllowTcpForwarding yes (or local) in its sshd_config",
            )
        )
    return Checked(
        server=name,
        reachable=True,
        user=said.get("user", ""),
        system=said.get("system", ""),
        architecture=said.get("machine", ""),
        docker=said.get("docker", ""),
        compose=said.get("compose", ""),
        buildx=said.get("buildx", ""),
        sudo="sudo" in said,
        free=free,
        free_images=images,
        clock_off=round(off, 2),
        problems=tuple(problem for problem, _ in problems),
        next_steps=tuple(dict.fromkeys(step for _, step in problems)),
    )


def _older(version: str, least: tuple[int, int]) -> bool:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < least

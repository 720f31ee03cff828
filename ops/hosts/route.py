"""Where an SSH connection leads and through which jump hosts, as ops.toml and ssh_config say."""

from __future__ import annotations

import getpass
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ops.errors import ConfigError, Unreachable

__all__ = ["Endpoint", "Settings", "route"]

_DEFAULT_KEYS = ("~/.ssh/id_ed25519", "~/.ssh/id_ecdsa", "~/.ssh/id_rsa")
_SYSTEM_CONFIG = Path("/etc/ssh/ssh_config")
_DEEPEST = 8


@dataclass(frozen=True)
class Settings:
    """What holds for every hop: the ssh_config file (None: the user's own) and the known_hosts file (None: theirs)."""

    ssh_config: Path | None = None
    known_hosts: Path | None = None


@dataclass(frozen=True)
class Endpoint:
    """One SSH server, resolved. `key_text` is a private key itself; `agent` a socket path, empty for none."""

    hostname: str
    port: int
    user: str
    identity_files: tuple[Path, ...]
    key_text: str = field(default="", repr=False)
    explicit_key: bool = False
    agent: str = ""
    known_hosts: tuple[Path, ...] = ()
    key_alias: str = ""
    proxy_command: str = ""

    @property
    def shown(self) -> str:
        """`user@host:port`, for people."""
        return f"{self.user}@{self.hostname}:{self.port}"

    @property
    def known_as(self) -> str:
        """The name that stands in known_hosts."""
        if self.key_alias:
            return self.key_alias
        return self.hostname if self.port == 22 else f"[{self.hostname}]:{self.port}"


def route(
    address: str,
    *,
    user: str = "",
    port: int | None = None,
    key: str = "",
    jump: str = "",
    folder: Path = Path(),
    settings: Settings = Settings(),
    environ: Mapping[str, str] | None = None,
) -> tuple[Endpoint, ...]:
    """Given an address and what ops.toml says of it, return the endpoints to dial, the server itself last.

    `key` is a path relative to `folder` or `env:NAME`. Raises ConfigError for a key or jump that cannot be meant,
    Unreachable when ssh_config cannot be read.
    """
    environ = os.environ if environ is None else environ
    found = _resolve(address, user, port, settings)
    target = _endpoint(found, user, port, settings, environ)
    if key.startswith("env:"):
        text = environ.get(key[4:], "")
        if not text:
            raise ConfigError(
                f"the key is {key}, but that variable is not set", next_step=f"export {key[4:]}"
            )
        target = _with_key(target, text=text)
    elif key:
        path = (folder / Path(key).expanduser()).absolute()
        if not path.is_file():
            raise ConfigError(f"there is no key file {path}")
        target = _with_key(target, path=path)
    if jump:
        hops, from_config = jump.split(","), False
    else:
        listed = _first(found, "proxyjump")
        hops, from_config = ([] if listed in ("", "none") else listed.split(",")), True
    return (*_jumps(hops, settings, environ, target, from_config), target)


def _jumps(
    hops: Sequence[str],
    settings: Settings,
    environ: Mapping[str, str],
    behind: Endpoint,
    from_config: bool,
    depth: int = 0,
) -> tuple[Endpoint, ...]:
    if depth > _DEEPEST:
        raise ConfigError(f"the jump hosts of {behind.shown} lead in a circle")
    endpoints: list[Endpoint] = []
    for hop in hops:
        user, name, port = _parts(hop)
        found = _resolve(name, user, port, settings)
        endpoint = _endpoint(found, user, port, settings, environ)
        if from_config and (endpoint.hostname, endpoint.port) == (behind.hostname, behind.port):
            return ()  # `Host *` with a ProxyJump also matches the jump host itself
        listed = _first(found, "proxyjump")
        if not endpoints and listed not in ("", "none"):
            endpoints.extend(_jumps(listed.split(","), settings, environ, endpoint, True, depth + 1))
        endpoints.append(endpoint)
    return tuple(endpoints)


def _parts(hop: str) -> tuple[str, str, int | None]:
    match = re.fullmatch(
        r"(?:ssh://)?(?:([^@]+)@)?(\[[^\]]+\]|[^:]+|[^:]*:[^:]*:.*?)(?::([0-9]+))?/?", hop.strip()
    )
    if not match:
        raise ConfigError(f"this is no jump host: {hop!r}", next_step="write [user@]host[:port]")
    return match[1] or "", match[2].strip("[]"), int(match[3]) if match[3] else None


def _with_key(endpoint: Endpoint, *, text: str = "", path: Path | None = None) -> Endpoint:
    values = {**vars(endpoint), "key_text": text, "explicit_key": True}
    return Endpoint(**{**values, "identity_files": (path,) if path else ()})


def _endpoint(
    found: Mapping[str, Sequence[str]],
    user: str,
    port: int | None,
    settings: Settings,
    environ: Mapping[str, str],
) -> Endpoint:
    if settings.known_hosts is not None:
        known: tuple[Path, ...] = (settings.known_hosts,)
    else:
        # `ssh -G` takes the quotes away; these paths begin with / or ~, so a blank before one parts them.
        listed = [
            name.strip('"')
            for key in ("userknownhostsfile", "globalknownhostsfile")
            for line in found.get(key, ())
            for name in re.split(r'\s+(?="?[/~])', line)
        ]
        known = tuple(Path(name).expanduser() for name in listed if name and name != "none")
        known = known or (Path("~/.ssh/known_hosts").expanduser(), Path("/etc/ssh/ssh_known_hosts"))
    only = _first(found, "identitiesonly") == "yes"
    agent = _first(found, "identityagent") or "SSH_AUTH_SOCK"
    agent = environ.get("SSH_AUTH_SOCK", "") if agent == "SSH_AUTH_SOCK" else "" if agent == "none" else agent
    return Endpoint(
        hostname=_first(found, "hostname"),
        port=port or int(_first(found, "port") or 22),
        user=user or _first(found, "user") or getpass.getuser(),
        identity_files=tuple(Path(name).expanduser() for name in found.get("identityfile", _DEFAULT_KEYS)),
        explicit_key=only,
        agent=str(Path(os.path.expandvars(agent)).expanduser()) if agent else "",
        known_hosts=known,
        key_alias=_first(found, "hostkeyalias"),
        proxy_command="" if _first(found, "proxycommand") == "none" else _first(found, "proxycommand"),
    )


def _resolve(name: str, user: str, port: int | None, settings: Settings) -> Mapping[str, Sequence[str]]:
    own = Path("~/.ssh/config").expanduser()
    if settings.ssh_config is not None and not settings.ssh_config.is_file():
        raise ConfigError(f"there is no ssh_config file {settings.ssh_config}")
    if settings.ssh_config is None and not own.is_file() and not _SYSTEM_CONFIG.is_file():
        return {"hostname": (name,)}
    ssh = shutil.which("ssh")
    if ssh is None:
        return _resolve_without_client(name, settings.ssh_config or own)
    options = [*(("-F", str(settings.ssh_config)) if settings.ssh_config else ())]
    options += [*(("-l", user) if user else ()), *(("-p", str(port)) if port else ())]
    done = subprocess.run(
        (ssh, "-G", *options, "--", name), capture_output=True, text=True, check=False, timeout=30
    )
    if done.returncode:
        raise Unreachable(f"ssh_config cannot be read for {name}: {done.stderr.strip()}")
    found: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        key, _, value = line.partition(" ")
        found.setdefault(key.lower(), []).append(value)
    return found


def _resolve_without_client(name: str, file: Path) -> Mapping[str, Sequence[str]]:
    import paramiko  # only where there is no ssh client; it ignores Include

    config = paramiko.SSHConfig()
    if file.is_file():
        with file.open() as lines:
            config.parse(lines)
    found = config.lookup(name)
    return {key: value if isinstance(value, list) else (value,) for key, value in found.items()}


def _first(found: Mapping[str, Sequence[str]], key: str) -> str:
    values = found.get(key, ())
    return values[0] if values else ""

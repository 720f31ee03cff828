"""The nginx inside a stand-in proxy container: what it has loaded, what it refuses, whose requests it still serves."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Nginx", "Refused", "Upstream"]

_UPSTREAM = re.compile(r"upstream (\S+) \{(.*?)\n\}", re.DOTALL)
_SERVER = re.compile(r"^\s*server (\S+?)(?::(\d+))?((?: \S+)*);$", re.MULTILINE)


class Refused(Exception):
    """`nginx -t` says no."""


@dataclass(frozen=True)
class Upstream:
    """Names or addresses that get requests, and those in reserve."""

    servers: tuple[str, ...]
    backups: tuple[str, ...]
    resolve: bool


@dataclass
class Nginx:
    """`folders` are what is mounted; `lingering` workers of an earlier configuration serve their last requests."""

    folders: tuple[Path, ...]
    version: str
    loaded: dict[str, Upstream] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    worker: int = 100
    lingering: list[int] = field(default_factory=list)
    linger: bool = False
    reloads: int = 0

    def read(self) -> dict[str, str]:
        """Return the configuration files as they stand."""
        files = (path for folder in self.folders for path in sorted(folder.rglob("*.conf")))
        return {str(path): path.read_text() for path in files if not path.name.startswith(".")}

    def check(self, resolvable: set[str]) -> dict[str, Upstream]:
        """Return the upstreams of what stands there; raises Refused as `nginx -t` would."""
        found = {}
        for path, text in self.read().items():
            if "refuse me" in text:
                raise Refused(f'nginx: [emerg] unknown directive "refuse" in {path}:1')
            for name, body in _UPSTREAM.findall(text):
                entries = _SERVER.findall(body)
                if not entries:
                    raise Refused(f'nginx: [emerg] no servers are inside upstream "{name}" in {path}')
                resolve = "resolver" in body
                for host, _, _options in entries:
                    if not resolve and not host[0].isdigit() and host not in resolvable:
                        raise Refused(f'nginx: [emerg] host not found in upstream "{host}" in {path}')
                live = [(host, options) for host, _, options in entries if "down" not in options.split()]
                found[name] = Upstream(
                    tuple(host for host, options in live if "backup" not in options.split()),
                    tuple(host for host, options in live if "backup" in options.split()),
                    resolve,
                )
        return found

    def load(self, resolvable: set[str]) -> None:
        """Take the configuration that stands there; the worker until now ends, at once unless it lingers."""
        self.loaded = self.check(resolvable)
        self.texts = self.read()
        self.reloads += 1
        if self.linger:
            self.lingering.append(self.worker)
        self.worker += 1

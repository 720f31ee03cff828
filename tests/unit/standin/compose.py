"""As much of Compose as a deploy needs: files resolved to one model, and a release's compose.yaml read back."""

from __future__ import annotations

import copy
import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ops.config.interpolation import substitute

__all__ = ["read_release", "rendered"]

_LINE = re.compile(r'^([A-Za-z_][A-Za-z0-9_.-]*)="(.*)"$')
_UNESCAPE = re.compile(r"\\(.)|\$\$", re.DOTALL)


def rendered(folder: Path, files: list[str], project: str, env_file: str) -> dict[str, Any]:
    """Return what `docker compose config --format json` makes of compose files."""
    values = read_dotenv((folder / env_file).read_text())
    merged: dict[str, Any] = {}
    for name in files:
        merged = _merged(merged, _interpolated(yaml.safe_load((folder / name).read_text()), values))
    model: dict[str, Any] = {"name": project, "services": {}}
    for name, service in sorted(merged["services"].items()):
        model["services"][name] = _service(service, folder)
    model["networks"] = {"default": {"name": f"{project}_default"}}
    for network, definition in (merged.get("networks") or {}).items():
        model["networks"][network] = {"name": f"{project}_{network}", **(definition or {})}
    if merged.get("volumes"):
        model["volumes"] = {
            name: {"name": f"{project}_{name}", **(definition or {})}
            for name, definition in merged["volumes"].items()
        }
    for kind in ("configs", "secrets"):
        if merged.get(kind):
            model[kind] = {
                name: {**definition, "file": os.path.normpath(folder / definition["file"])}
                for name, definition in merged[kind].items()
            }
    return _escaped(model)


def read_release(folder: Path) -> dict[str, Any]:
    """Return a release's compose.yaml with the values of the .env beside it."""
    values = read_dotenv((folder / ".env").read_text())
    return _interpolated(yaml.safe_load((folder / "compose.yaml").read_text()), values)


def read_dotenv(text: str) -> dict[str, str]:
    """Read the form that `ops.config.dotenv.compose_form` writes."""
    found = {}
    for line in text.splitlines():
        match = _LINE.match(line)
        assert match, f"not as compose_form writes it: {line!r}"
        found[match[1]] = _UNESCAPE.sub(
            lambda m: {"n": "\n", "r": "\r"}.get(m[1], m[1]) if m[1] else "$", match[2]
        )
    return found


def _service(written: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    service = copy.deepcopy(dict(written))
    if isinstance(service.get("build"), str):
        service["build"] = {
            "context": os.path.normpath(folder / service["build"]),
            "dockerfile": "Dockerfile",
        }
    if isinstance(service.get("environment"), list):
        service["environment"] = dict(entry.split("=", 1) for entry in service["environment"])
    if "environment" in service:
        service["environment"] = {k: None if v is None else str(v) for k, v in service["environment"].items()}
    service["command"] = _words(service.get("command"))
    service["entrypoint"] = _words(service.get("entrypoint"))
    if isinstance(service.get("depends_on"), list):
        service["depends_on"] = {
            name: {"condition": "service_started", "required": True} for name in service["depends_on"]
        }
    if "ports" in service:
        service["ports"] = [_port(port) if isinstance(port, str | int) else port for port in service["ports"]]
    if "volumes" in service:
        service["volumes"] = [_volume(v, folder) if isinstance(v, str) else v for v in service["volumes"]]
    for kind in ("configs", "secrets"):
        if kind in service:
            service[kind] = [{"source": e} if isinstance(e, str) else e for e in service[kind]]
    if service.get("network_mode") is None:
        service.setdefault("networks", {"default": None})
    return service


def _words(value: object) -> object:
    return shlex.split(value) if isinstance(value, str) else value


def _port(written: str | int) -> dict[str, Any]:
    rest, _, protocol = str(written).partition("/")
    *front, target = rest.split(":")
    port: dict[str, Any] = {"mode": "ingress", "target": int(target), "protocol": protocol or "tcp"}
    if front:
        port["published"] = front[-1]
    if len(front) > 1:
        port["host_ip"] = ":".join(front[:-1])
    return port


def _volume(written: str, folder: Path) -> dict[str, Any]:
    source, target, *options = written.split(":")
    if source.startswith((".", "/")):
        volume: dict[str, Any] = {
            "type": "bind",
            "source": os.path.normpath(folder / source),
            "target": target,
            "bind": {"create_host_path": True},
        }
    else:
        volume = {"type": "volume", "source": source, "target": target, "volume": {}}
    if "ro" in options:
        volume["read_only"] = True
    return volume


def _merged(base: Any, over: Any) -> Any:
    if isinstance(base, dict) and isinstance(over, dict):
        return base | {key: _merged(base.get(key), value) for key, value in over.items()}
    if isinstance(base, list) and isinstance(over, list):
        return base + over
    return base if over is None else over


def _interpolated(value: Any, values: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return substitute(value, values.get)
    if isinstance(value, dict):
        return {key: _interpolated(item, values) for key, item in value.items()}
    if isinstance(value, list):
        return [_interpolated(item, values) for item in value]
    return value


def _escaped(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("$", "$$")
    if isinstance(value, dict):
        return {key: _escaped(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_escaped(item) for item in value]
    return value

"""From resolved compose files to what one server shall run: services by role, images pinned, paths settled."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from posixpath import relpath
from typing import Any

from ops.config.models import StackConfig
from ops.config.names import service_names
from ops.config.services import Service
from ops.config.settings import Settings
from ops.engines.content import Content
from ops.engines.definitions import definition_hash, drop_unused, secret_variables, used_definitions
from ops.engines.layout import Layout
from ops.engines.leaks import leaks
from ops.engines.mounts import StackFolder, settle_file, settle_mounts
from ops.engines.release import ProxySpec, ServiceSpec, config_hash, config_variable
from ops.engines.rendering import put_back, sentinel_names, temporary_root
from ops.engines.services import (
    awaited_ends,
    grace,
    health_gate,
    holds,
    image_reference,
    replicas,
    services_of,
)
from ops.errors import ConfigError, OpsError

__all__ = ["Desired", "desired"]


@dataclass(frozen=True)
class Desired:
    """What one server shall run. `model` is its compose file as data, secrets as `${NAME}`; `problems` what forbids it."""

    model: Mapping[str, Any]
    services: Mapping[str, ServiceSpec]
    contents: tuple[tuple[str, Content], ...] = ()
    proxy: ProxySpec | None = None
    problems: tuple[OpsError, ...] = ()
    warnings: tuple[str, ...] = ()
    secrets: tuple[str, ...] = field(default=())


def desired(
    settings: Settings,
    server: str,
    rendered: tuple[str, Mapping[str, Any]],
    layout: Layout,
    *,
    version: str,
    pins: Mapping[str, str],
    secret_values: Mapping[str, str],
) -> Desired:
    """Given the compose files as rendered for a server, return what it shall run.

    `pins` maps image references to what stands in the release (a digest reference or an image id); a reference
    without a pin stays as it is, for a plan. Pure but for reading content from the stack folder.
    """
    folder, source = rendered
    config = settings.config
    model: dict[str, Any] = copy.deepcopy(dict(source))
    everywhere: dict[str, Any] = model["services"]
    here = services_of(config, server, everywhere)
    proxy = _proxy(config, here)
    problems: list[OpsError] = _unknown(settings, everywhere)
    warnings: list[str] = []
    contents: dict[str, Content] = {}
    specs: dict[str, ServiceSpec] = {}
    stack = StackFolder(folder, settings, layout, proxy)
    definitions = {kind: model.get(kind) or {} for kind in ("configs", "secrets")}
    for kind, named in definitions.items():
        for name, definition in named.items():
            if "file" in definition:
                settled = settle_file(f"{kind[:-1]} {name}", definition, stack)
                contents |= settled.contents
                problems += settled.problems
            elif kind == "configs" and "environment" in definition:
                # The release's .env holds secrets alone; what is none stands in the file itself.
                definition["content"] = settings.values.text(definition.pop("environment")) or ""
    once = awaited_ends(everywhere)
    model["services"] = {name: everywhere[name] for name in here}
    for name, service in model["services"].items():
        options = config.services.get(name) or Service()
        depends = tuple(service.get("depends_on") or ())
        image, versioned = image_reference(settings, name, service, version)
        if not image:
            problems.append(ConfigError(f"service {name} has neither image nor build"))
        _strip(service)
        service["image"] = pins.get(image, image)
        settled = settle_mounts(name, service, stack)
        contents |= settled.contents
        problems += settled.problems
        if len(config.servers) > 1 and not (proxy and proxy.service == name):
            problems += _bind_private(service, config, server, name)
        warnings += leaks(name, service, settings)
        count = replicas(service, options)
        service.setdefault("deploy", {})["replicas"] = count
        service.pop("scale", None)
        used = used_definitions(service, definitions)
        variables = secret_variables(used)
        problems += _without_value(name, variables, secret_values)
        secrets = tuple(sorted({*sentinel_names(json.dumps([service, used])), *variables}))
        labels = dict(service.get("labels") or {})
        labels |= {"ops.stack": settings.stack, "ops.environment": settings.environment, "ops.service": name}
        service["labels"] = labels
        base = definition_hash(service, used)
        specs[name] = ServiceSpec(
            name=name,
            config=config_hash(base, secrets, secret_values),
            base=base,
            secrets=secrets,
            image=image,
            pin=service["image"],
            replicas=count,
            strategy=options.strategy,
            health=health_gate(options, once=name in once),
            port=options.port,
            drain=options.drain,
            grace=grace(service),
            balance=options.balance,
            depends_on=depends,
            versioned=versioned,
            holds=holds(service, model.get("volumes") or {}, layout),
        )
    drop_unused(model)
    secrets = tuple(
        sorted({*sentinel_names(json.dumps(model)), *(s for spec in specs.values() for s in spec.secrets)})
    )
    model = put_back(model)
    for name in specs:
        model["services"][name]["labels"]["ops.config"] = f"${{{config_variable(name)}}}"
    problems += _stray_paths(model, folder)
    return Desired(model, specs, tuple(contents.items()), proxy, tuple(problems), tuple(warnings), secrets)


def _proxy(config: StackConfig, here: tuple[str, ...]) -> ProxySpec | None:
    if config.proxy is None or config.proxy.service not in here:
        return None
    upstreams = config.proxy.upstreams.strip("/").removeprefix("./")
    return ProxySpec(config.proxy.service, upstreams, config.proxy.settle)


def _unknown(settings: Settings, services: Mapping[str, Any]) -> list[OpsError]:
    """Return what is wrong with the services that ops.toml speaks of and the compose files do not have."""
    config = settings.config
    found: list[OpsError] = []
    if config.proxy is not None and config.proxy.service not in services:
        found.append(ConfigError(f"[proxy] service = {config.proxy.service!r} is not in the compose files"))
    unknown = [name for name in config.services if name not in services]
    if unknown:  # a service whose profile is off, or of another environment, is known all the same
        written = service_names(settings.folder)
        unknown = [name for name in unknown if name not in written]
    if unknown:
        found.append(
            ConfigError(
                f"ops.toml speaks of service {unknown[0]!r}, the compose files know: {', '.join(services)}"
            )
        )
    return found


def _strip(service: dict[str, Any]) -> None:
    """Remove what a release's compose file does not say of a service."""
    # It stands in the record alone: Compose refuses services that run elsewhere, and as `up --no-deps` hashes a service
    # without it, a plain `docker compose up -d` in the release would recreate what has it.
    service.pop("depends_on", None)
    service.pop("build", None)
    service.pop("develop", None)  # for `docker compose watch`, with paths of the machine that it runs on
    service.pop("pull_policy", None)
    for key in ("command", "entrypoint"):
        if service.get(key, "") is None:  # Compose writes what is not set as null
            del service[key]


def _bind_private(service: dict[str, Any], config: StackConfig, server: str, name: str) -> list[ConfigError]:
    """Docker's published ports go around ufw, so what only servers need is bound to the servers' own network."""
    for port in service.get("ports") or ():
        if port.get("published") and not port.get("host_ip"):
            private = config.servers[server].private_address
            if not private:
                return [
                    ConfigError(
                        f"service {name} publishes port {port['published']} to other servers, and server {server} has no private_address",
                        next_step=f"set servers.{server}.private_address, or write the port with an address",
                    )
                ]
            port["host_ip"] = private
    return []


def _without_value(name: str, variables: set[str], values: Mapping[str, str]) -> list[ConfigError]:
    return [
        ConfigError(
            f"service {name} needs the secret {variable}, which has no value", next_step=f"set {variable}"
        )
        for variable in sorted(variables)
        if not values.get(variable)
    ]


def _stray_paths(model: Mapping[str, Any], folder: str) -> list[ConfigError]:
    text = json.dumps(model)
    root = temporary_root(folder)
    if root not in text:
        return []
    at = text.index(root)
    path = text[at:].split('"')[0]
    where = "to the stack folder where no path is expected"
    if not path.startswith(folder):
        where = "out of the stack folder"
    shown = path[:200].replace(folder, ".") if path.startswith(folder) else relpath(path, folder)
    return [ConfigError(f"a path in the compose files leads {where}: {shown}")]

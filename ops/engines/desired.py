"""From resolved compose files to what one server shall run: services by role, images pinned, paths settled."""

from __future__ import annotations

import copy
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ops.config.models import Service, StackConfig
from ops.config.names import service_names
from ops.config.settings import Settings
from ops.engines.layout import Layout
from ops.engines.mounts import Content, classify, pack
from ops.engines.release import HealthSpec, ProxySpec, ServiceSpec, config_hash, config_variable
from ops.engines.rendering import sentinel
from ops.errors import ConfigError, OpsError

__all__ = ["Desired", "desired", "image_reference", "services_of"]

_SENTINEL = re.compile(sentinel("([A-Za-z_][A-Za-z0-9_]*)"))


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


def services_of(config: StackConfig, server: str, services: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the services that run on a server: those without roles, and those that share one."""
    roles = set(config.servers[server].roles)
    found = []
    for name in services:
        wanted = set(config.services[name].roles) if name in config.services else set()
        if not wanted or not roles or wanted & roles:
            found.append(name)
    return tuple(found)


def image_reference(
    settings: Settings, name: str, service: Mapping[str, Any], version: str
) -> tuple[str, bool]:
    """Return a service's image reference and whether it follows the version.

    ops.toml's `image` wins; else a service with `build:` is named `<registry>/<stack>/<service>:<version>`; else
    the compose file's own reference stands.
    """
    config = settings.config
    written = config.services[name].image if name in config.services else ""
    if written:
        return written.replace("{version}", version), "{version}" in written
    if service.get("build") is not None:
        registry = config.build.registry or f"127.0.0.1:{config.build.forward_port}"
        return f"{registry.rstrip('/')}/{settings.stack}/{name}:{version}", True
    return service.get("image") or "", False


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
    problems: list[OpsError] = []
    warnings: list[str] = []
    contents: dict[str, Content] = {}
    specs: dict[str, ServiceSpec] = {}
    everywhere: dict[str, Any] = model["services"]
    here = services_of(config, server, everywhere)
    proxy = _proxy(config, here, problems, everywhere)
    unknown = [name for name in config.services if name not in everywhere]
    if unknown:  # a service whose profile is off, or of another environment, is known all the same
        written = service_names(settings.folder)
        unknown = [name for name in unknown if name not in written]
    if unknown:
        problems.append(
            ConfigError(
                f"ops.toml speaks of service {unknown[0]!r}, the compose files know: {', '.join(everywhere)}"
            )
        )
    services = {name: everywhere[name] for name in here}
    shared_definitions = {key: model.get(key) or {} for key in ("configs", "secrets")}
    for kind, definitions in shared_definitions.items():
        for name, definition in definitions.items():
            if "file" in definition:
                _settle_file(definition, folder, settings, layout, f"{kind[:-1]} {name}", contents, problems)
            elif kind == "configs" and "environment" in definition:
                # The release's .env holds secrets alone; what is none stands in the file itself.
                definition["content"] = settings.values.text(definition.pop("environment")) or ""
    for name, service in services.items():
        options = config.services.get(name) or Service()
        depends = tuple(service.get("depends_on") or ())
        # It stands in the record alone: Compose refuses services that run elsewhere, and as `up --no-deps` hashes a service
        # without it, a plain `docker compose up -d` in the release would recreate what has it.
        service.pop("depends_on", None)
        image, versioned = image_reference(settings, name, service, version)
        if not image:
            problems.append(ConfigError(f"service {name} has neither image nor build"))
        service.pop("build", None)
        for key in ("command", "entrypoint"):
            if service.get(key, "") is None:  # Compose writes what is not set as null
                del service[key]
        service["image"] = pins.get(image, image)
        service.pop("pull_policy", None)
        _settle_mounts(name, service, folder, settings, layout, proxy, contents, problems)
        if len(config.servers) > 1 and not (proxy and proxy.service == name):
            _bind_private(service, config, server, name, problems)
        warnings += _leaks(name, service, settings)
        replicas = _replicas(service, options)
        service.setdefault("deploy", {})["replicas"] = replicas
        service.pop("scale", None)
        given = _variables(service, shared_definitions)
        problems += [
            ConfigError(
                f"service {name} needs the secret {variable}, which has no value", next_step=f"set {variable}"
            )
            for variable in sorted(given)
            if not secret_values.get(variable)
        ]
        definitions_here = _used_definitions(service, shared_definitions)
        used = tuple(sorted({*_SENTINEL.findall(json.dumps([service, definitions_here])), *given}))
        labels = dict(service.get("labels") or {})
        labels |= {"ops.stack": settings.stack, "ops.environment": settings.environment, "ops.service": name}
        service["labels"] = labels
        base = _base(service, definitions_here)
        specs[name] = ServiceSpec(
            name=name,
            config=config_hash(base, used, secret_values),
            base=base,
            secrets=used,
            image=image,
            pin=service["image"],
            replicas=replicas,
            strategy=options.strategy,
            health=_health(options),
            port=options.port,
            drain=options.drain,
            grace=_seconds(service.get("stop_grace_period")),
            balance=options.balance,
            depends_on=depends,
            versioned=versioned,
        )
    model["services"] = services
    _drop_unused(model)
    model = _literal(model)
    for name in specs:
        model["services"][name]["labels"]["ops.config"] = f"${{{config_variable(name)}}}"
    text = json.dumps(model)
    names = tuple(sorted({*_SENTINEL.findall(text), *(s for spec in specs.values() for s in spec.secrets)}))
    for name in names:
        text = text.replace(sentinel(name), f"${{{name}}}")
    if folder in text:
        problems.append(
            ConfigError(
                f"a path in the compose files leads to the stack folder where no path is expected: {_first(text, folder)}"
            )
        )
    return Desired(
        json.loads(text), specs, tuple(contents.items()), proxy, tuple(problems), tuple(warnings), names
    )


def _proxy(
    config: StackConfig, here: tuple[str, ...], problems: list[OpsError], services: Mapping[str, Any]
) -> ProxySpec | None:
    if config.proxy is None:
        return None
    if config.proxy.service not in services:
        problems.append(
            ConfigError(f"[proxy] service = {config.proxy.service!r} is not in the compose files")
        )
    if config.proxy.service not in here:
        return None
    return ProxySpec(
        config.proxy.service, config.proxy.upstreams.strip("/").removeprefix("./"), config.proxy.settle
    )


def _settle_mounts(
    name: str,
    service: dict[str, Any],
    folder: str,
    settings: Settings,
    layout: Layout,
    proxy: ProxySpec | None,
    contents: dict[str, Content],
    problems: list[OpsError],
) -> None:
    for volume in service.get("volumes") or ():
        source = volume.get("source", "")
        if volume.get("type") != "bind" or not (source == folder or source.startswith(folder + "/")):
            continue
        relative = source[len(folder) :].strip("/") or "."
        if proxy is not None and (name, relative) == (proxy.service, proxy.upstreams):
            # Its files are generated, so a checkout may well lack the folder.
            volume["source"] = f"{layout.proxy}/{relative}"
            contents[volume["source"]] = pack(settings.folder, relative)
            continue
        try:
            mount = classify(
                settings.folder,
                relative,
                read_only=bool(volume.get("read_only")),
                service=name,
                proxy=proxy is not None and proxy.service == name,
                data=settings.config.persist.data,
                content=settings.config.persist.content,
                layout=layout,
            )
        except ConfigError as error:
            problems.append(error)
            continue
        volume["source"] = mount.path
        if mount.content is not None:
            contents[mount.path] = mount.content
        else:  # nobody else makes a folder there; Compose's long form would refuse its absence
            volume["bind"] = {**(volume.get("bind") or {}), "create_host_path": True}


def _settle_file(
    definition: dict[str, Any],
    folder: str,
    settings: Settings,
    layout: Layout,
    what: str,
    contents: dict[str, Content],
    problems: list[OpsError],
) -> None:
    if not definition["file"].startswith(folder + "/"):
        return
    relative = definition["file"][len(folder) + 1 :]
    if not (settings.folder / relative).is_file():
        problems.append(ConfigError(f"{what}: the file ./{relative} is not there"))
        return
    mount = classify(
        settings.folder,
        relative,
        read_only=True,
        service=what,
        proxy=False,
        data=(),
        content=(relative,),
        layout=layout,
    )
    definition["file"] = mount.path
    if mount.content is not None:
        contents[mount.path] = mount.content


def _bind_private(
    service: dict[str, Any], config: StackConfig, server: str, name: str, problems: list[OpsError]
) -> None:
    """Docker's published ports go around ufw, so what only servers need is bound to the servers' own network."""
    for port in service.get("ports") or ():
        if port.get("published") and not port.get("host_ip"):
            private = config.servers[server].private_address
            if not private:
                problems.append(
                    ConfigError(
                        f"service {name} publishes port {port['published']} to other servers, and server {server} has no private_address",
                        next_step=f"set servers.{server}.private_address, or write the port with an address",
                    )
                )
                return
            port["host_ip"] = private


def _leaks(name: str, service: Mapping[str, Any], settings: Settings) -> list[str]:
    """A secret in a command is an argument of a process, for every user of the server to read."""
    found = []
    health = (service.get("healthcheck") or {}).get("test")
    for where, value in (
        ("command", service.get("command")),
        ("entrypoint", service.get("entrypoint")),
        ("healthcheck", health),
    ):
        for secret in sorted(set(_SENTINEL.findall(json.dumps(value)))):
            found.append(
                f"service {name}: the {where} holds the secret {secret}{_line_of(settings, secret, where)}; every process "
                "listing on the server shows it: give it as an environment variable or a file"
            )
    return found


def _line_of(settings: Settings, secret: str, where: str) -> str:
    pattern = re.compile(r"\$\{?" + re.escape(secret) + r"\b")
    candidates = []
    for path in settings.compose_files:
        lines = path.read_text().split("\n") if path.is_file() else []
        inside = ""
        for number, line in enumerate(lines, 1):
            key = re.match(
                r"\s*(command|entrypoint|healthcheck|environment|env_file|volumes|image|ports)\s*:", line
            )
            inside = key[1] if key else inside
            if pattern.search(line) and inside == where:
                candidates.append(f" ({path.name}:{number})")
    return candidates[0] if candidates else ""


def _replicas(service: Mapping[str, Any], options: Service) -> int:
    if options.replicas is not None:
        return options.replicas
    written = ((service.get("deploy") or {}).get("replicas"), service.get("scale"))
    return next((int(count) for count in written if count is not None), 1)


def _health(options: Service) -> HealthSpec:
    health = options.health
    kind = health.kind
    port = health.port or options.port
    if kind == "auto":
        kind = "http" if health.path else "tcp" if health.port else "docker"
    return HealthSpec(
        kind, health.path or "/", port, health.passes, health.interval, health.timeout, health.soak
    )


def _seconds(duration: object) -> float:
    """Read a duration of the compose format ("1m30s"); Docker's own default for the grace period is 10 s."""
    if not isinstance(duration, str):
        return 10.0
    units = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001, "us": 1e-6, "ns": 1e-9}
    return sum(
        float(number) * units[unit] for number, unit in re.findall(r"([0-9.]+)(ms|us|ns|h|m|s)", duration)
    )


def _used_definitions(
    service: Mapping[str, Any], definitions: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    return {
        kind: {entry["source"]: definitions[kind].get(entry["source"]) for entry in service.get(kind) or ()}
        for kind in ("configs", "secrets")
    }


def _variables(service: Mapping[str, Any], definitions: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """Return the variables that a service's secrets take their values from."""
    used = _used_definitions(service, definitions)["secrets"].values()
    return {definition["environment"] for definition in used if definition and "environment" in definition}


def _literal(value: Any) -> Any:
    """Return data as a compose file holds it: Compose reads `$` in values, not in keys, as the start of a variable."""
    if isinstance(value, dict):
        return {key: _literal(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_literal(inner) for inner in value]
    return value.replace("$", "$$") if isinstance(value, str) else value


def _base(service: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """What may change without a new container is left out, as in Compose's own hash."""
    kept = {key: value for key, value in service.items() if key not in ("depends_on", "profiles")}
    kept["deploy"] = {key: value for key, value in (kept.get("deploy") or {}).items() if key != "replicas"}
    return hashlib.sha256(json.dumps([kept, definitions], sort_keys=True).encode()).hexdigest()


def _drop_unused(model: dict[str, Any]) -> None:
    services = model["services"].values()
    used = {
        "networks": {n for s in services for n in s.get("networks") or ()},
        "volumes": {
            v["source"]
            for s in services
            for v in s.get("volumes") or ()
            if v.get("type") == "volume" and v.get("source")
        },
        "configs": {c["source"] for s in services for c in s.get("configs") or ()},
        "secrets": {c["source"] for s in services for c in s.get("secrets") or ()},
    }
    for kind, names in used.items():
        kept = {name: value for name, value in (model.get(kind) or {}).items() if name in names}
        if kept:
            model[kind] = kept
        else:
            model.pop(kind, None)


def _first(text: str, needle: str) -> str:
    at = text.index(needle)
    return text[at : at + 120].split('"')[0].replace(needle, ".")

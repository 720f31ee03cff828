"""One `build:` section of the compose files, read: what is built of it, under which name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ops.build.exposure import hidden
from ops.build.options import option_words
from ops.commands import Secret
from ops.config import Settings, Version
from ops.engines.services import image_reference
from ops.errors import ConfigError, OpsError

__all__ = ["BuildSecret", "Definition", "bases", "read_section"]

_SERVICE = "service:"


@dataclass(frozen=True)
class BuildSecret:
    """A BuildKit secret: a file of the user's, or the value of a variable."""

    id: str
    file: str = ""
    value: Secret | None = None


@dataclass(frozen=True)
class Definition:
    """One image to build. `dockerfile` is a path as buildx takes it, or empty with its text in `inline`.

    `contexts` are the named ones; `needs` are the references of other services' images, built before this one.
    `options` are words of the command line that the compose file asks for.
    """

    service: str
    reference: str
    context: str
    dockerfile: str = ""
    inline: str = ""
    target: str = ""
    args: tuple[tuple[str, str], ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    platforms: tuple[str, ...] = ()
    contexts: tuple[tuple[str, str], ...] = ()
    needs: tuple[str, ...] = ()
    secrets: tuple[BuildSecret, ...] = ()
    options: tuple[str, ...] = ()


def read_section(
    settings: Settings,
    name: str,
    buildable: Mapping[str, Any],
    model: Mapping[str, Any],
    version: Version,
    created: str,
    faults: list[OpsError],
) -> Definition:
    """Given the services that are built, return what is built for one of them.

    `model` is what Compose resolved, `created` RFC 3339. What forbids the build is added to `faults`.
    """
    service = buildable[name]
    build: Mapping[str, Any] = service["build"]
    reference, _ = image_reference(settings, name, service, version.version)
    contexts: dict[str, str] = dict(build.get("additional_contexts") or {})
    needs = []
    for key, base in bases(build).items():
        if base not in buildable:
            faults.append(
                ConfigError(f"its context {key} is the image of {base}, which builds none", target=name)
            )
            continue
        needs.append(image_reference(settings, base, buildable[base], version.version)[0])
        contexts[key] = f"docker-image://{needs[-1]}"
    context = str(build.get("context") or settings.folder)
    inline = build.get("dockerfile_inline") or ""
    dockerfile = "" if inline else _dockerfile(name, context, build.get("dockerfile") or "Dockerfile", faults)
    return Definition(
        service=name,
        reference=reference,
        context=context,
        dockerfile=dockerfile,
        inline=inline,
        target=build.get("target") or "",
        args=tuple(_arguments(settings, name, build, version, faults).items()),
        labels=tuple(_labels(settings, name, build, version, created).items()),
        platforms=settings.config.build.platforms or tuple(build.get("platforms") or ()),
        contexts=tuple(contexts.items()),
        needs=tuple(dict.fromkeys(needs)),
        secrets=tuple(_secrets(settings, name, build, model, faults)),
        options=option_words(build),
    )


def bases(build: Mapping[str, Any]) -> dict[str, str]:
    """Return the named contexts that are images of other services (`base: service:base`), by their names."""
    named = (build.get("additional_contexts") or {}).items()
    return {key: value.removeprefix(_SERVICE) for key, value in named if value.startswith(_SERVICE)}


def _dockerfile(name: str, context: str, written: str, faults: list[OpsError]) -> str:
    if not Path(context).is_absolute():
        return written  # a repository that BuildKit fetches: the path is one inside it
    path = Path(context, written)
    if not Path(context).is_dir():
        faults.append(ConfigError(f"its build context {context} does not exist", target=name))
    elif not path.is_file():
        faults.append(ConfigError(f"there is no {path}", target=name))
    return str(path)


def _arguments(
    settings: Settings, name: str, build: Mapping[str, Any], version: Version, faults: list[OpsError]
) -> dict[str, str]:
    found = {key: str(value) for key, value in (build.get("args") or {}).items() if value is not None}
    for key, written in settings.config.build.args.items():
        value = settings.values.resolve(written)
        if isinstance(value, Secret):
            faults.append(hidden(f"[build] args.{key} of ops.toml", written.removeprefix("env:"), name))
        else:
            found[key] = value
    found["VERSION"] = version.version
    if version.revision:
        found["REVISION"] = version.revision
    return found


def _labels(
    settings: Settings, name: str, build: Mapping[str, Any], version: Version, created: str
) -> dict[str, str]:
    """The compose file's own, and the keys that the OCI image specification reserves for these facts."""
    found = {key: str(value) for key, value in (build.get("labels") or {}).items()}
    found["org.opencontainers.image.title"] = f"{settings.stack}/{name}"
    found["org.opencontainers.image.version"] = version.version
    if version.revision:
        found["org.opencontainers.image.revision"] = version.revision
    found["org.opencontainers.image.created"] = created
    return found


def _secrets(
    settings: Settings, name: str, build: Mapping[str, Any], model: Mapping[str, Any], faults: list[OpsError]
) -> list[BuildSecret]:
    found = []
    for entry in build.get("secrets") or ():
        source = entry["source"]
        definition = (model.get("secrets") or {}).get(source) or {}
        secret = BuildSecret(entry.get("target") or source)
        if definition.get("file"):
            if not Path(definition["file"]).is_file() or not os.access(definition["file"], os.R_OK):
                faults.append(
                    ConfigError(
                        f"its build secret {source}: no readable file {definition['file']}", target=name
                    )
                )
            found.append(replace(secret, file=definition["file"]))
        elif variable := definition.get("environment"):
            text = settings.values.text(variable)
            if text is None:
                where = f"[secrets] required of ops.toml, and give {variable} a value"
                faults.append(
                    ConfigError(
                        f"its build secret {source}: {variable} has no value",
                        target=name,
                        next_step=f"name it under {where}",
                    )
                )
            found.append(replace(secret, value=Secret(text or "")))
        else:
            faults.append(
                ConfigError(f"its build secret {source} is neither a file nor a variable", target=name)
            )
    return found

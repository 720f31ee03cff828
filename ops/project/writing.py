"""The text of a new ops.toml: each choice with its reason beside it, and what was left out."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ops.project.survey import ServiceSurvey, Survey

__all__ = ["Draft", "env_example", "ops_toml"]

LIVE = ("production", "prod", "live")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


@dataclass(frozen=True)
class Draft:
    """What is written: `project` and the reason for it, `files` only where they bear unusual names."""

    folder: Path
    project: str
    project_reason: str
    files: tuple[str, ...]
    environments: tuple[str, ...]
    server: Mapping[str, object]
    survey: Survey
    secrets: tuple[str, ...]
    remarks: tuple[str, ...] = ()
    overlaid: bool = False  # an environment has a compose file of its own


def ops_toml(draft: Draft) -> str:
    """Return the text of ops.toml."""
    parts = [_head(draft), _servers(draft), _secrets(draft), _persist(draft)]
    parts += [_service(service, draft.overlaid) for service in draft.survey.services]
    parts += [_environment(name, draft) for name in draft.environments]
    return "\n\n".join("\n".join(lines) for part in parts if (lines := list(part))) + "\n"


def env_example(needed: Sequence[str], optional: Sequence[str]) -> str:
    """Return the text of .env.example: names only, never a value; those with a default are commented out."""
    head = "# Copy to .env.<environment>, fill in, chmod 600. A required name left empty counts as missing.\n"
    lines = [f"{name}=\n" for name in needed]
    if optional:
        lines += ["# These have a default in the compose files:\n", *(f"# {name}=\n" for name in optional)]
    return head + "".join(lines)


def _head(draft: Draft) -> Iterator[str]:
    yield "# Written by `opsbook init` from the compose project in this folder; docs/config.md has every key."
    for remark in draft.remarks:
        yield f"# {remark}"
    name = draft.folder.name
    if not _NAME.fullmatch(name):
        plain = re.sub(r"[^a-z0-9_-]+", "-", name.lower()).strip("-_") or "stack"
        yield f"stack = {_text(plain)}  # the folder's name cannot be a stack's name"
    if draft.project and _owner(draft) is None:
        yield f"project = {_text(draft.project)}  # {draft.project_reason}"
    elif not draft.project:
        yield f"# project = …  # {draft.project_reason}"
    if draft.files:
        yield f"files = {_list(draft.files)}  # not the names that are found without asking"
    yield "# Services with `build:` follow the version; a ${VARIABLE} in an image's tag is left as it is."
    yield 'version = "git"'
    if draft.survey.profiles:
        yield f"# profiles = {_list(draft.survey.profiles)}  # all there are; none is on until named here"
    for external in draft.survey.external:
        yield f"# {external} is external: it must exist on the server before the first deploy."
    for port, names in draft.survey.twice_published.items():
        claimants = " and ".join(names)
        yield f"# Port {port} is published by {claimants}: a server has it once, so one of them starts."


def _servers(draft: Draft) -> Iterator[str]:
    yield "[servers.app]"
    for key, value in draft.server.items():
        yield f"{key} = {json.dumps(value, ensure_ascii=False)}"
    if not draft.server:
        yield '# address = "…"  # host name or address; without it, `app` is looked up in the ssh_config'


def _secrets(draft: Draft) -> Iterator[str]:
    if draft.secrets:
        yield "[secrets]"
        yield "# Chosen by their names (PASS, SECRET, TOKEN, KEY, CREDENTIAL): take out or add what is wrong."
        yield f"required = {_list(draft.secrets)}"


def _persist(draft: Draft) -> Iterator[str]:
    unclear: dict[str, list[str]] = {}
    absolute: dict[str, list[str]] = {}
    for service in draft.survey.services:
        for bind in service.binds:
            if bind.source.startswith("/"):
                absolute.setdefault(bind.source, []).append(service.name)
            elif _unclear(draft.folder / bind.source, bind.read_only):
                unclear.setdefault(bind.source, []).append(service.name)
    for source, names in absolute.items():
        yield f"# {source} ({', '.join(names)}) is a path of the server; it stays as it is."
    if unclear:
        yield "[persist]"
        yield "# Mounted for writing, or not here: taken for data, which outlives releases. What belongs"
        yield "# to each release (an init script, a template) goes to `content` instead."
        for source, names in unclear.items():
            yield f"# ./{source}: {', '.join(names)}"
        yield f"data = {_list(sorted(unclear))}"


def _unclear(path: Path, read_only: bool) -> bool:
    return not path.exists() or (path.is_dir() and not read_only)


def _service(service: ServiceSurvey, overlaid: bool) -> Iterator[str]:
    if not _NAME.fullmatch(service.name):
        yield f"# Service {service.name}: left out, a name here has lower-case letters, digits, - and _ only."
        return
    yield f"[services.{service.name}]"
    if service.builds:
        yield "# has `build:`, so it follows --version"
    if service.profiles:
        yield f"# runs with profile {' or '.join(service.profiles)} only"
    port = service.probe.port if service.probe else service.ports[0] if len(service.ports) == 1 else None
    if port:
        yield f"port = {port}"
    elif service.ports:
        yield f"# port = …  # several: {', '.join(map(str, service.ports))}"
    if service.replicas is not None and overlaid:
        # Written out, it would win over what an environment's own compose file says.
        yield f"# replicas: {service.replicas} as the compose files say, where an environment's own does not differ"
    elif service.replicas is not None:
        yield f"replicas = {service.replicas}"
    if service.container_name or service.published:
        fixed = [f"container_name {service.container_name}"] if service.container_name else []
        fixed += [f"published port {each}" for each in service.published]
        yield f"# {', '.join(fixed)}: it cannot run twice, so strategy stays recreate"
    if service.probe:
        probe = f'kind = "http", path = {_text(service.probe.path)}, port = {service.probe.port}'
        yield f"health = {{ {probe} }}  # the URL of its healthcheck, asked from outside"
    elif service.has_healthcheck:
        yield 'health = { kind = "docker" }  # its own healthcheck, which asks for no URL'
    else:
        yield "# health: no healthcheck to take it from; a port or `running` is watched"


def _owner(draft: Draft) -> str | None:
    """Return the environment that the project's name belongs to, where there are several; two may share a server."""
    if len(draft.environments) == 1:
        return None
    return next((name for name in draft.environments if name in LIVE), draft.environments[0])


def _environment(name: str, draft: Draft) -> Iterator[str]:
    yield f"[environments.{name}]"
    if draft.project and name == _owner(draft):
        yield f"project = {_text(draft.project)}  # {draft.project_reason}; move it if it is another environment's"
    if name in LIVE:
        yield 'confirm = "name"  # a change asks for the name of the environment'


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _list(items: Sequence[str]) -> str:
    return f"[{', '.join(map(_text, items))}]"

"""What a compose project is, as far as ops.toml has to say it; read from Compose's own JSON, pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from ops.project.rendering import Rendered, Running

__all__ = ["Bind", "Probe", "ServiceSurvey", "Survey", "project_in_use", "secret_names", "survey"]

_SECRET = re.compile(r"PASS|SECRET|TOKEN|KEY|CREDENTIAL")
_URL = re.compile(r"https?://[^\s'\"|;&]+")
_OWN = ("localhost", "127.0.0.1", "0.0.0.0", "::1")


@dataclass(frozen=True)
class Probe:
    """The URL that a healthcheck asks its own container for."""

    path: str
    port: int


@dataclass(frozen=True)
class Bind:
    """A bind mount of a service; `source` is relative to the stack folder or absolute."""

    source: str
    target: str
    read_only: bool


@dataclass(frozen=True)
class ServiceSurvey:
    """One service as Compose reads it; `ports` are container ports, `published` ports of the server."""

    name: str
    builds: bool
    ports: tuple[int, ...]
    published: tuple[str, ...]
    replicas: int | None
    probe: Probe | None
    has_healthcheck: bool
    container_name: str
    binds: tuple[Bind, ...]
    profiles: tuple[str, ...]


@dataclass(frozen=True)
class Survey:
    """The project as Compose reads it; `external` names volumes and networks that must exist beforehand."""

    services: tuple[ServiceSurvey, ...]
    profiles: tuple[str, ...]
    external: tuple[str, ...]

    @property
    def twice_published(self) -> Mapping[str, tuple[str, ...]]:
        """Ports of the server that several services claim, with their names."""
        claims: dict[str, list[str]] = {}
        for service in self.services:
            for port in dict.fromkeys(service.published):
                claims.setdefault(port, []).append(service.name)
        return {port: tuple(names) for port, names in claims.items() if len(names) > 1}


def survey(rendered: Rendered) -> Survey:
    """Given Compose's reading of a project, return what matters for ops.toml."""
    model = rendered.model
    services = tuple(
        _service(name, body, rendered.directory)
        for name, body in sorted(_table(model.get("services")).items())
    )
    external = [
        f"{kind[:-1]} {_table(body).get('name') or name}"
        for kind in ("networks", "volumes")
        for name, body in _table(model.get(kind)).items()
        if _table(body).get("external")
    ]
    profiles = sorted({profile for service in services for profile in service.profiles})
    return Survey(services, tuple(profiles), tuple(external))


def secret_names(names: Iterable[str]) -> tuple[str, ...]:
    """Given names of variables, return those that sound secret; the name of a file or a path does not."""
    return tuple(
        sorted({n for n in names if _SECRET.search(n.upper()) and not n.upper().endswith(("_FILE", "_PATH"))})
    )


def project_in_use(
    running: Iterable[Running], folder: Path, files: Iterable[Path], named: str
) -> tuple[str, ...]:
    """Return the running projects that are this one: started from these files, or bearing this name.

    On another machine the files stand elsewhere, so the folder's and the file's names are what is compared.
    """
    ours = {(folder.name, path.name) for path in files}
    found = []
    for project in running:
        theirs = {(Path(file).parent.name, Path(file).name) for file in project.files}
        if project.name == named or ours & theirs:
            found.append(project.name)
    return tuple(sorted(found, key=lambda name: name != named))


def _service(name: str, raw: object, directory: str) -> ServiceSurvey:
    body = _table(raw)
    check = _table(body.get("healthcheck"))
    tested = bool(check) and not check.get("disable")
    ports = [_table(entry) for entry in _list(body.get("ports"))]
    inner = [int(str(entry["target"])) for entry in ports if entry.get("target")]
    inner += [
        int(text) for entry in _list(body.get("expose")) if (text := str(entry).partition("/")[0]).isdigit()
    ]
    replicas = _table(body.get("deploy")).get("replicas", body.get("scale"))
    return ServiceSurvey(
        name=name,
        builds="build" in body,
        ports=tuple(dict.fromkeys(inner)),
        published=tuple(str(entry["published"]) for entry in ports if entry.get("published")),
        replicas=replicas if isinstance(replicas, int) else None,
        probe=_probe(check.get("test")) if tested else None,
        has_healthcheck=tested,
        container_name=str(body.get("container_name") or ""),
        binds=tuple(
            Bind(
                _relative(str(mount["source"]), directory), str(mount["target"]), bool(mount.get("read_only"))
            )
            for mount in map(_table, _list(body.get("volumes")))
            if mount.get("type") == "bind"
        ),
        profiles=tuple(map(str, _list(body.get("profiles")))),
    )


def _probe(test: object) -> Probe | None:
    """Given a healthcheck's test, return the URL that curl or wget asks for; None for any other test."""
    words = " ".join(map(str, test)) if isinstance(test, list) else str(test or "")
    match = _URL.search(words)
    if not match or not re.search(r"\b(curl|wget)\b", words):
        return None
    try:
        url = urlsplit(match[0])
        port = url.port or 80
    except ValueError:
        return None
    if url.scheme != "http" or url.hostname not in _OWN or url.query or "$" in url.path:
        return None
    return Probe(url.path or "/", port)


def _relative(source: str, directory: str) -> str:
    inside = source.startswith(f"{directory}/")
    return source.removeprefix(f"{directory}/") if inside else source


def _table(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []

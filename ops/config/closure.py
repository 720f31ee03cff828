"""The files that Compose reads for a stack: its compose files and what these include, extend and name."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ops.config import dotenv
from ops.config.folder import load_yaml
from ops.config.interpolation import substitute
from ops.errors import ConfigError

if TYPE_CHECKING:
    from ops.config.settings import Settings

__all__ = ["Closure", "EnvFile", "read_files"]


@dataclass(frozen=True)
class EnvFile:
    """A dotenv file that a compose file names; `raw` is Compose's `format: raw`, which knows no quotes.

    `of_include` is true for one that gives the values for an included file, not those of a container.
    """

    path: Path
    raw: bool = False
    of_include: bool = False

    def read(self) -> dict[str, str]:
        """Return its names and values. Raises ConfigError with file and line for bad syntax, or an unreadable file."""
        if not self.raw:
            return dotenv.read(self.path)
        try:
            lines = self.path.read_text(encoding="utf-8").split("\n")
        except UnicodeDecodeError as error:
            raise ConfigError(f"{self.path}: not UTF-8 text (byte {error.start})") from error
        except OSError as error:
            raise ConfigError(f"{self.path}: {error.strerror}") from error
        pairs = (line.partition("=") for line in lines if "=" in line and not line.startswith("#"))
        return {name: value for name, _, value in pairs}

    def written(self, values: dict[str, str]) -> bytes:
        """Return a file that Compose reads back as these values."""
        if not self.raw:
            return dotenv.compose_form(values).encode()
        return "".join(f"{name}={value}\n" for name, value in values.items()).encode()


@dataclass(frozen=True)
class Closure:
    """Compose files and env files, each once, in reading order; `faults` says what could not be followed.

    `bases` are the compose files that are only extended from; `absent` the env files that do not exist (yet).
    """

    compose_files: tuple[Path, ...]
    env_files: tuple[EnvFile, ...]
    faults: tuple[str, ...]
    bases: frozenset[Path] = frozenset()
    absent: tuple[Path, ...] = ()


@dataclass
class _Reader:
    settings: Settings
    compose_files: dict[Path, None] = field(default_factory=dict)
    env_files: dict[Path, EnvFile] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    bases: set[Path] = field(default_factory=set)
    absent: list[Path] = field(default_factory=list)

    def follow(self, path: Path, directory: Path) -> None:
        """Read one compose file whose relative paths start at `directory`, and all that it names."""
        if path in self.compose_files:
            return
        self.compose_files[path] = None
        name = self._name(path)
        try:
            data = load_yaml(path.read_bytes(), name)
        except ConfigError as error:
            self.faults.append(str(error))
            return
        except OSError as error:
            self.faults.append(f"compose file {name}: {error.strerror}")
            return
        if not isinstance(data, dict):
            return
        for entry in _listed(data.get("include")):
            self._include(entry, name, directory)
        services = data.get("services")
        for service in services.values() if isinstance(services, dict) else ():
            if isinstance(service, dict):
                self._service(service, name, directory)

    def _service(self, service: dict[object, object], name: str, directory: Path) -> None:
        for entry in _listed(service.get("env_file")):
            settings = entry if isinstance(entry, dict) else {"path": entry}
            required = settings.get("required", True) is not False
            path = self._path(settings.get("path"), "env_file", name, directory, required=required)
            if path:
                self.env_files[path] = EnvFile(path, settings.get("format") == "raw")
        extends = service.get("extends")
        if isinstance(extends, dict) and "file" in extends:
            path = self._path(extends["file"], "extends", name, directory)
            if path:
                if path not in self.compose_files:
                    self.bases.add(path)
                self.follow(path, path.parent)

    def _include(self, entry: object, name: str, directory: Path) -> None:
        settings = entry if isinstance(entry, dict) else {"path": entry}
        paths = [self._path(path, "include", name, directory) for path in _listed(settings.get("path"))]
        found = [path for path in paths if path]
        if not found:
            return
        inner = found[0].parent
        if settings.get("project_directory"):
            inner = self._within(str(settings["project_directory"]), "include", name, directory) or inner
        named = _listed(settings.get("env_file"))
        for file in named:
            path = self._path(file, "include", name, directory)
            if path:
                self.env_files.setdefault(path, EnvFile(path, of_include=True))
        if not named and inner != self.settings.folder and (inner / ".env").is_file():
            self.env_files.setdefault(inner / ".env", EnvFile(inner / ".env", of_include=True))
        for path in found:
            self.follow(path, inner)

    def _path(
        self, written: object, what: str, name: str, directory: Path, *, required: bool = True
    ) -> Path | None:
        """Return the file that is meant; None, with a fault where that is one, when it cannot be shipped."""
        text = substitute(str(written), self.settings.values.text)
        if "://" in text or text.startswith("git@"):
            return None  # Compose fetches a remote include itself
        path = self._within(text, what, name, directory)
        if path is None or path.is_file():
            return path
        if required:
            if what == "env_file":
                self.absent.append(path)
            self.faults.append(f"{name}: {what} names {self._name(path)}, which does not exist")
        return None

    def _within(self, text: str, what: str, name: str, directory: Path) -> Path | None:
        path = Path(os.path.normpath(directory / text))
        if path.is_relative_to(self.settings.folder):
            return path
        self.faults.append(
            f"{name}: {what} refers to {text}, which is outside the stack folder and cannot be shipped"
        )
        return None

    def _name(self, path: Path) -> str:
        folder = self.settings.folder
        return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)


def read_files(settings: Settings) -> Closure:
    """Return all files that Compose reads for the stack; what is wrong with them stands in `faults`."""
    reader = _Reader(settings)
    files = [Path(os.path.normpath(path)) for path in settings.compose_files]
    for path in files:
        if path.is_relative_to(settings.folder):
            reader.follow(path, files[0].parent)
        else:
            reader.faults.append(
                f"ops.toml: files names {path}, which is outside the stack folder and cannot be shipped"
            )
    return Closure(
        compose_files=tuple(reader.compose_files),
        env_files=tuple(reader.env_files.values()),
        bases=frozenset(reader.bases),
        faults=tuple(dict.fromkeys(reader.faults)),
        absent=tuple(dict.fromkeys(reader.absent)),
    )


def _listed(value: object) -> list[object]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]

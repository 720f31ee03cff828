"""What a command knows of its stack and environment once everything has been read."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ops.commands import Redactor, Secret
from ops.errors import ConfigError

if TYPE_CHECKING:
    from ops.config.models import StackConfig
    from ops.config.values import Values

__all__ = ["COMPOSE_NAMES", "Settings"]

COMPOSE_NAMES = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")


@dataclass(frozen=True)
class Settings:
    """One stack in one environment: `folder` holds ops.toml, `config` is what it says after all overrides.

    `project` is the compose project name, `environments` all that ops.toml knows, `warnings` what deserves a
    look although it stops nothing.
    """

    folder: Path
    stack: str
    environment: str
    project: str
    config: StackConfig
    values: Values
    environments: tuple[str, ...] = ()
    warnings: tuple[str, ...] = field(default=())

    @cached_property
    def redactor(self) -> Redactor:
        """The redactor that knows every secret among the values, and the URLs of pings: whoever has one may ping."""
        pings = self.config.backup.ping
        written = [] if pings is None else (pings.url, pings.incremental, pings.verify, pings.drill)
        urls = [Secret(url) for url in written if url and not url.startswith("env:")]
        return Redactor((*self.values.secrets, *urls))

    @property
    def file(self) -> Path:
        """The path of ops.toml."""
        return self.folder / "ops.toml"

    @property
    def options(self) -> str:
        """The options that mean this stack and environment, as a person here would type them."""
        here = Path.cwd()
        words = f"--env {self.environment}"
        if self.folder == here or self.folder in here.parents:
            return words
        if self.folder.parent.name == "compose" and self.folder.parent.parent in (here, *here.parents):
            return f"{words} --stack {self.folder.name}"
        shown = self.folder.relative_to(here) if here in self.folder.parents else self.folder
        return f"{words} --stack {shlex.quote(str(shown))}"

    @property
    def env_files(self) -> tuple[Path, ...]:
        """The dotenv files of this environment that exist, the stronger first."""
        candidates = (self.folder / f".env.{self.environment}", self.folder / ".env")
        return tuple(path for path in candidates if path.is_file())

    @property
    def compose_files(self) -> tuple[Path, ...]:
        """The compose files in the order in which Compose merges them; whether they exist is not checked."""
        if self.config.files:
            return tuple(self.folder / name for name in self.config.files)
        present = [name for name in COMPOSE_NAMES if (self.folder / name).is_file()]
        base = present[0] if present else COMPOSE_NAMES[0]
        stem, _, suffix = base.rpartition(".")
        override = self.folder / f"{stem}.{self.environment}.{suffix}"
        return (self.folder / base, override) if override.is_file() else (self.folder / base,)

    @property
    def compose_arguments(self) -> tuple[str, ...]:
        """The `--file`, `--profile` and `--project-name` arguments, paths relative to the stack folder.

        Raises ConfigError for a file outside it.
        """
        words: list[str] = ["--project-name", self.project]
        for path in self.compose_files:
            if not path.is_relative_to(self.folder):
                raise ConfigError(f"{self.file}: files names {path}, which is outside the stack folder")
            words += ["--file", path.relative_to(self.folder).as_posix()]
        for profile in self.config.profiles:
            words += ["--profile", profile]
        return tuple(words)

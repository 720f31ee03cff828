"""Builds one image and brings it where it goes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ops.build.client import secret_files
from ops.build.commands import build_command, digest_query, push_command, pushed_by_engine, pushed_digest
from ops.build.failures import build_failed, push_failed
from ops.build.output import BuildOutput
from ops.build.planning import Way
from ops.build.results import BuiltImage
from ops.build.sections import Definition
from ops.commands import Command, Redactor
from ops.config import Settings
from ops.hosts import Host
from ops.runs.log import RunLog

__all__ = ["Bench"]


@dataclass(frozen=True)
class Bench:
    """What the builds of one run share; `folder` is private, `environment` are docker's variables."""

    settings: Settings
    host: Host
    environment: Mapping[str, str]
    folder: Path
    log: RunLog
    say: Callable[[str], None]
    redact: Redactor

    def make(self, definition: Definition, way: Way) -> BuiltImage:
        """Build an image and push it where that is the way; raises FailedUnchanged with the end of the log."""
        begun = time.monotonic()
        service, reference = definition.service, definition.reference
        self.say(f"{service}: building {reference}")
        metadata = self.folder / f"{service}.json"
        command = build_command(
            definition,
            push=way == "registry",
            environment=self.environment,
            metadata=str(metadata),
            secrets=secret_files(self.folder, definition),
        )
        status, output = self._follow(command, service)
        if status:
            raise build_failed(self.settings, service, reference, output.verdict, output.tail)
        digest = None
        if way == "registry":
            digest = pushed_digest(metadata.read_text(encoding="utf-8")) if metadata.is_file() else None
        elif way == "throw-away registry":
            digest = self._push(service, reference)
        seconds = round(time.monotonic() - begun, 3)
        self.say(
            f"{service}: {'pushed' if digest else 'built'} in {seconds:.1f} s{f', {digest}' if digest else ''}"
        )
        return BuiltImage(service, reference, digest, seconds)

    def _push(self, service: str, reference: str) -> str | None:
        # The engine pushes, not BuildKit: for the engine 127.0.0.1 is this machine, whatever driver builds.
        status, output = self._follow(push_command(reference, self.environment), service)
        if status:
            raise push_failed(self.settings, service, reference, output.verdict, output.tail)
        result = self.host.run(digest_query(reference))
        return pushed_by_engine(result.stdout, reference) if result.ok else None

    def _follow(self, command: Command, service: str) -> tuple[int, BuildOutput]:
        self.log.write(f"$ {command.shown}", service)
        output = BuildOutput(
            lambda line: self.log.write(line, service),
            lambda step: self.say(f"{service}: {step}"),
            self.redact,
        )
        status = self.host.follow(command, output.feed)
        output.finish()
        return status, output

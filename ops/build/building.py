"""A build from the compose files to images in a registry."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

from ops.build.client import client_environment, private_folder
from ops.build.logins import build_logins
from ops.build.making import Bench
from ops.build.planning import Prepared, prepare
from ops.build.results import Built, BuiltImage
from ops.build.scheduling import in_order
from ops.build.sections import Definition
from ops.build.throwaway import throwaway_registry
from ops.commands import Redactor, Secret
from ops.config import Settings, Version
from ops.errors import OpsError, Problem
from ops.hosts import Cancellation, Host
from ops.outcomes import Outcome, Target
from ops.runs.journal import now
from ops.runs.log import RunLog
from ops.runs.run import new_run_id

__all__ = ["build"]

_LARGEST = 8192  # bytes: a larger secret file is a certificate bundle or a key ring, not a text to mask


def _silent(line: str) -> None:
    pass


def build(
    settings: Settings,
    host: Host,
    version: Version,
    *,
    services: Sequence[str] = (),
    push: bool = False,
    say: Callable[[str], None] = _silent,
    cancellation: Cancellation | None = None,
) -> Built:
    """Build the images of a stack on `host`, this machine; return each with its digest.

    `services` limits it (none: all with `build:`). `push` brings images into the registry of ops.toml; without
    one there they go into a throw-away registry in any case. `say` gets lines for people, from several threads.

    Raises UsageError or ConfigError before anything is built (a secret among build arguments is one);
    FailedUnchanged with the end of the log when a build or push fails, `.outcome` names the log;
    `ops.hosts.Cancelled` once `cancellation` is cancelled.
    """
    begun, started_at, run_id = time.monotonic(), now(), new_run_id()
    cancellation = cancellation or Cancellation()
    host = host.with_cancellation(cancellation)
    with private_folder() as folder:
        prepared = prepare(settings, host, version, services, push, folder)
        pushed = [reference for reference, way in prepared.ways.items() if way == "registry"]
        auths, unlogged = build_logins(settings, prepared.definitions, pushed)
        warnings = prepared.warnings + unlogged
        redact = Redactor((*settings.values.secrets, *_secret_texts(prepared.definitions)))
        with RunLog(settings.folder, run_id, redact) as log:
            environment = client_environment(folder, auths)
            bench = Bench(settings, host, environment, folder, log, lambda line: say(redact(line)), redact)
            for warning in warnings:
                log.write(f"warning: {warning}")
                bench.say(f"warning: {warning}")
            known = Outcome(
                action="build",
                stack=settings.stack,
                environment=settings.environment,
                run_id=run_id,
                version=prepared.version.version,
                revision=prepared.version.revision,
                started_at=started_at,
                warnings=warnings,
                log=str(log.path),
            )
            made: dict[str, BuiltImage] = {}
            failed: dict[str, OpsError] = {}
            try:
                with _registry(settings, host, prepared, cancellation):
                    made, failed = _make_all(prepared, bench, cancellation)
                    _raise(failed)
            except OpsError as error:
                log.write(f"failed: {error}")
                error.outcome = _finished(known, prepared, made, failed, begun)
                raise
    images = {
        service: replace(made[reference], service=service)
        for service, reference in prepared.references.items()
    }
    return Built(images, _finished(known, prepared, made, {}, begun))


def _registry(
    settings: Settings, host: Host, prepared: Prepared, cancellation: Cancellation
) -> AbstractContextManager[None]:
    if "throw-away registry" in prepared.ways.values():
        return throwaway_registry(settings, host, cancellation)
    return nullcontext()


def _make_all(
    prepared: Prepared, bench: Bench, cancellation: Cancellation
) -> tuple[dict[str, BuiltImage], dict[str, OpsError]]:
    definitions = {each.reference: each for each in prepared.definitions}
    return in_order(
        {reference: each.needs for reference, each in definitions.items()},
        lambda reference: bench.make(definitions[reference], prepared.ways[reference]),
        cancellation.cancel,
    )


def _raise(failed: Mapping[str, OpsError]) -> None:
    faults = list(failed.values())
    if faults:
        raise faults[0] if len(faults) == 1 else Problem(faults)


def _finished(
    known: Outcome,
    prepared: Prepared,
    made: Mapping[str, BuiltImage],
    failed: Mapping[str, OpsError],
    begun: float,
) -> Outcome:
    targets = {}
    for service, reference in prepared.references.items():
        if reference in made:
            targets[service] = Target("service", "changed", seconds=made[reference].seconds)
        else:
            targets[service] = Target("service", "failed" if reference in failed else "unchanged")
    digests = {
        service: digest
        for service, reference in prepared.references.items()
        if reference in made and (digest := made[reference].digest)
    }
    return replace(known, digests=digests, targets=targets, seconds=round(time.monotonic() - begun, 3))


def _secret_texts(definitions: Sequence[Definition]) -> list[Secret]:
    """What the BuildKit secrets hold: a build step may print it."""
    found = []
    for secret in (secret for each in definitions for secret in each.secrets):
        if secret.value is not None:
            found.append(secret.value)
        elif Path(secret.file).stat().st_size <= _LARGEST:
            found.append(Secret(Path(secret.file).read_text(encoding="utf-8", errors="replace").strip()))
    return found

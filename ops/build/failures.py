"""What Docker said, told as an error that knows what helps."""

from __future__ import annotations

import re

from ops.config import Settings
from ops.config.logins import registry_of
from ops.errors import FailedUnchanged, OpsError

__all__ = ["build_failed", "push_failed"]

_SOURCE = re.compile(r"failed to resolve source metadata for ([^\s:]+(?::\d+/[^\s:]+)?(?::[^\s:]+)?):")
_NO_LOGIN = (
    "unauthorized",
    "authentication required",
    "no basic auth credentials",
    "authorization failed",
    "access denied",
)
_NO_ANSWER = (
    "no such host",
    "connection refused",
    "i/o timeout",
    "no route to host",
    "server gave http response",
    "x509",
    "tls:",
)
_NO_ENGINE = (
    "cannot connect to the docker daemon",
    "permission denied while trying to connect",
    "error during connect",
)


def build_failed(settings: Settings, service: str, reference: str, verdict: str, tail: str) -> OpsError:
    """Given the last words of a failed build, return the error: the engine, a registry, or the Dockerfile.

    `verdict` is the line that says why, `tail` the last lines of the log.
    """
    low = verdict.lower()
    if any(sign in low for sign in _NO_ENGINE):
        return _no_engine(service, verdict)
    if "did not complete successfully" in low:
        return FailedUnchanged(
            f"the build failed\n{tail}",
            target=service,
            next_step="mend the step that failed, and build again",
        )
    source = _SOURCE.search(verdict)
    image = source[1] if source else reference
    if source or "pushing " in tail or "failed to push" in low:
        return _registry_failed(settings, service, image, verdict) or _plain(service, tail)
    return _plain(service, tail)


def push_failed(settings: Settings, service: str, reference: str, verdict: str, tail: str) -> OpsError:
    """Given the last words of a failed `docker push`, return the error."""
    if any(sign in verdict.lower() for sign in _NO_ENGINE):
        return _no_engine(service, verdict)
    known = _registry_failed(settings, service, reference, verdict)
    return known or FailedUnchanged(f"{reference} could not be pushed\n{tail}", target=service)


def _registry_failed(settings: Settings, service: str, image: str, verdict: str) -> OpsError | None:
    low, registry = verdict.lower(), registry_of(image)
    if any(sign in low for sign in _NO_LOGIN):
        entry = f'[registries."{registry}"]'
        how = (
            f"check {entry} in ops.toml and its password"
            if registry in settings.config.registries
            else f"add {entry} to ops.toml"
        )
        return FailedUnchanged(f"{registry} refuses {image}: {verdict}", target=service, next_step=how)
    if any(sign in low for sign in _NO_ANSWER):
        how = f"does {registry} answer, with a certificate that this machine's Docker engine trusts? then run it again"
        return FailedUnchanged(
            f"{registry} cannot be used for {image}: {verdict}", target=service, next_step=how
        )
    return None


def _no_engine(service: str, verdict: str) -> OpsError:
    return FailedUnchanged(
        f"no Docker engine answers: {verdict}",
        target=service,
        next_step="start Docker on this machine, or set DOCKER_HOST to an engine that builds",
    )


def _plain(service: str, tail: str) -> OpsError:
    return FailedUnchanged(f"the build failed\n{tail}", target=service)

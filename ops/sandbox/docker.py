"""The one place that runs the `docker` command of the machine that carries the sandbox."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

from ops.errors import FailedUnchanged, OpsError

__all__ = ["DockerFailed", "answers", "docker"]

ENGINE_WANTED = (
    "scripts/setup --engine, which uses a Docker engine that answers and installs one where none does"
)


class DockerFailed(FailedUnchanged):
    """A `docker` command ended with an error; the message is what it wrote on stderr."""


def docker(
    *arguments: str | Path,
    seconds: float = 120,
    stdin: bytes = b"",
    environment: Mapping[str, str] | None = None,
) -> str:
    """Given the words after `docker`, return what it wrote on stdout.

    `environment`, where given, replaces the process's own. Raises DockerFailed when it exits with an error
    or takes longer than `seconds`, OpsError when there is no `docker` command.
    """
    argv = ["docker", *map(str, arguments)]
    try:
        done = subprocess.run(
            argv, input=stdin, capture_output=True, timeout=seconds, env=environment, check=False
        )
    except FileNotFoundError:
        raise OpsError("there is no docker command on this machine", next_step=ENGINE_WANTED) from None
    except subprocess.TimeoutExpired:
        raise DockerFailed(
            f"{_name(argv)} did not end within {seconds:.0f} s", next_step="docker info"
        ) from None
    if done.returncode == 0:
        return done.stdout.decode(errors="replace")
    said = done.stderr.decode(errors="replace").strip()
    if "Cannot connect to the Docker daemon" in said or "permission denied while trying to connect" in said:
        raise OpsError(f"no Docker engine answers: {said.splitlines()[-1]}", next_step=ENGINE_WANTED)
    # A build writes its whole progress there; the end says what went wrong.
    raise DockerFailed(f"{_name(argv)} failed: " + "\n".join(said.splitlines()[-15:]))


def answers(*arguments: str | Path, seconds: float = 120) -> bool:
    """Given the words after `docker`, return whether the command succeeds; its output is not kept."""
    try:
        docker(*arguments, seconds=seconds)
    except DockerFailed:
        return False
    return True


def _name(argv: list[str]) -> str:
    # Arguments further on may hold passwords and keys.
    return " ".join(word for word in argv[:3] if not word.startswith("-"))

"""What the docker client reads during a build: a private folder with logins and secrets, gone at its end."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ops.build.sections import BuildSecret, Definition

__all__ = ["client_environment", "private_folder", "secret_files"]


@contextmanager
def private_folder() -> Iterator[Path]:
    """Give an empty folder that this user alone can read (0700), in memory where there is such a place."""
    memory = Path("/dev/shm")
    place = memory if os.access(memory, os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="ops.", dir=place))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def client_environment(
    folder: Path, auths: str | None, environ: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """Return the variables for docker; with `auths` (a config.json's text) they lead to a copy of the user's
    configuration in `folder` that has these logins too.

    Everything beside config.json (contexts, plugins, TLS keys, builders) is the user's own, by links. Nothing of
    the user's is written, or has to be there.
    """
    if auths is None:
        return {}
    own = Path(environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
    copy = folder / "docker"
    copy.mkdir(mode=0o700)
    for entry in own.iterdir() if own.is_dir() else ():
        if entry.name != "config.json":
            (copy / entry.name).symlink_to(entry.absolute())
    _write(
        copy / "config.json",
        json.dumps(_merged(_read(own / "config.json"), json.loads(auths)["auths"])).encode(),
    )
    # buildx keeps its builders beside config.json, and makes that folder where it is not there yet.
    return {
        "DOCKER_CONFIG": str(copy),
        "BUILDX_CONFIG": environ.get("BUILDX_CONFIG") or str(own.absolute() / "buildx"),
    }


def secret_files(folder: Path, definition: Definition) -> dict[str, str]:
    """Return the files of a definition's BuildKit secrets by id; values of variables are written into `folder`."""
    place = Path(tempfile.mkdtemp(prefix="secrets.", dir=folder))
    return {secret.id: _file(place / str(number), secret) for number, secret in enumerate(definition.secrets)}


def _file(path: Path, secret: BuildSecret) -> str:
    if secret.value is None:
        return secret.file
    _write(path, secret.value.reveal().encode())
    return str(path)


def _merged(config: dict[str, Any], auths: Mapping[str, object]) -> dict[str, Any]:
    """The user's configuration with these logins; for their registries no credential helper is asked."""
    merged = {**config, "auths": {**(config.get("auths") or {}), **auths}}
    if config.get("credsStore") or config.get("credHelpers"):
        merged["credHelpers"] = {**(config.get("credHelpers") or {}), **dict.fromkeys(auths, "")}
    return merged


def _read(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # docker itself says what is wrong with it, at any other use
    return config if isinstance(config, dict) else {}


def _write(path: Path, content: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)

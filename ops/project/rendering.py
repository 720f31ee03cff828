"""Has Compose read a project that has no ops.toml yet, on any machine with docker compose.

Only the compose files travel, and the env files with their values blanked. Names that have no harmless value
get a stand-in, so that `${NAME:?}` does not stop the reading; none of these values is written anywhere.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ops.commands import Command, Result, quote
from ops.config.closure import Closure
from ops.config.dotenv import compose_form
from ops.errors import ConfigError, FailedUnchanged

__all__ = ["STAND_IN", "Rendered", "Running", "render_project", "running_projects"]

STAND_IN = "1"  # passes as a port, a count, a tag and a word
_VALUES = ".opsbook-init.env"


@dataclass(frozen=True)
class Rendered:
    """Compose's own reading of the files; `directory` is where the stack folder stood when it read them."""

    model: Mapping[str, object]
    directory: str


@dataclass(frozen=True)
class Running:
    """A compose project that a machine knows, and the files that it was started from."""

    name: str
    files: tuple[str, ...]


def render_project(
    folder: Path,
    files: Sequence[Path],
    closure: Closure,
    values: Mapping[str, str],
    render: Callable[[Command], Result],
) -> Rendered:
    """Given the compose files and what they need, return Compose's reading, all profiles on.

    Raises ConfigError with Compose's words when it refuses the files, FailedUnchanged when it cannot be run.
    """
    content = {path: path.read_bytes() for path in closure.compose_files if path.is_file()}
    for file in closure.env_files:
        content[file.path] = file.written(dict.fromkeys(file.read(), STAND_IN))
    content |= dict.fromkeys(closure.absent, b"")
    content[folder / _VALUES] = compose_form(values).encode()
    words = ["docker", "compose", "--env-file", _VALUES, "--profile", "*"]
    for path in files:
        words += ["--file", path.relative_to(folder).as_posix()]
    line = " ".join(quote(word) for word in (*words, "config", "--format", "json"))
    script = (
        "command -v docker >/dev/null || exit 127\n"
        'd=$(mktemp -d) || exit 1\ntrap \'rm -rf "$d"\' EXIT\ncd "$d" && tar -xf - && pwd -P || exit 1\n'
        f'env -i PATH="$PATH" HOME="$HOME" {line}'
    )
    result = render(Command(script, stdin=_tar(folder, content), title="docker compose config"))
    if result.status == 127:
        raise FailedUnchanged(
            "docker compose is not there", next_step="read the project on a server: --server HOST"
        )
    if not result.ok:
        raise ConfigError(f"docker compose refuses the files: {result.last_lines}")
    directory, _, text = result.stdout.partition("\n")
    try:
        model = json.loads(text)
    except ValueError as error:
        raise FailedUnchanged(f"docker compose config printed no JSON: {text[:200]!r}") from error
    return Rendered(model, directory)


def running_projects(render: Callable[[Command], Result]) -> tuple[Running, ...] | None:
    """Return the compose projects that the machine knows, stopped ones too; None when it cannot be asked."""
    result = render(Command("docker compose ls --all --format json", title="docker compose ls"))
    if not result.ok:
        return None
    try:
        entries = json.loads(result.stdout or "[]")
    except ValueError:
        return None
    return tuple(
        Running(str(entry["Name"]), tuple(filter(None, str(entry.get("ConfigFiles", "")).split(","))))
        for entry in entries
    )


def _tar(folder: Path, content: Mapping[Path, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, data in content.items():
            member = tarfile.TarInfo(path.relative_to(folder).as_posix())
            member.size, member.mode = len(data), 0o600
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()

"""Compose files resolved on a server, with stand-ins where secrets belong, and nothing left behind there."""

from __future__ import annotations

import io
import json
import posixpath
import re
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ops.commands import Command, quote
from ops.commands.quoting import quote_all

__all__ = [
    "COMPOSE",
    "INSIDE",
    "parse_model",
    "parse_rendered",
    "put_back",
    "render_command",
    "sentinel",
    "sentinel_names",
    "tarball",
    "temporary_root",
    "told_paths",
]

# The server's own login environment takes no part: what it exports would win over the release's .env.
COMPOSE = 'env -i HOME="$HOME" PATH="$PATH" ${DOCKER_HOST:+DOCKER_HOST="$DOCKER_HOST"} ${XDG_RUNTIME_DIR:+XDG_RUNTIME_DIR="$XDG_RUNTIME_DIR"} docker compose'

# Where the stack folder stands in the temporary one: so many folders up, and a path from outside the stack is still
# seen as one. Directly in /dev/shm, `../shared` would be /dev/shm/shared, as any path of the server.
INSIDE = "/".join(["up"] * 15 + ["stack"])


def sentinel(name: str) -> str:
    """Return the stand-in for a secret's value: nothing that quoting could change, its end no part of any name."""
    return f"__ops_secret_{name}-end__"


_SENTINEL = re.compile(sentinel("([A-Za-z_][A-Za-z0-9_]*)"))


def sentinel_names(text: str) -> tuple[str, ...]:
    """Return the names of the secrets whose stand-ins occur in a text, sorted, each once."""
    return tuple(sorted(set(_SENTINEL.findall(text))))


def tarball(
    files: Iterable[tuple[str, bytes, int]],
    links: Iterable[tuple[str, str]] = (),
    folders: Iterable[str] = (),
) -> bytes:
    """Return a tar of files (path, content, mode), links (path, what they say) and folders.

    Folders that hold something need not be named, tar makes them.
    """
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path, content, mode in files:
            member = tarfile.TarInfo(path)
            member.size, member.mode = len(content), mode
            archive.addfile(member, io.BytesIO(content))
        for path, said in links:
            member = tarfile.TarInfo(path)
            member.type, member.linkname, member.mode = tarfile.SYMTYPE, said, 0o777
            archive.addfile(member)
        for path in folders:
            member = tarfile.TarInfo(path)
            member.type, member.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(member)
    return buffer.getvalue()


def render_command(
    sources: Sequence[tuple[str, bytes]],
    files: Sequence[str],
    profiles: Sequence[str],
    project: str,
    dotenv: str,
) -> Command:
    """Return the command that prints the compose files resolved, as JSON, behind a line with their folder.

    `sources` are the stack folder's compose and env files by relative path, `files` the compose files in order,
    `dotenv` the values for interpolation (sentinels for secrets). Relative paths start at the first file's folder, by
    Compose's own rule. Everything stands in memory while it runs (/dev/shm, where there is one) and is gone at its end.
    """
    options = [part for name in profiles for part in ("--profile", name)]
    options += [part for name in files for part in ("-f", name)]
    script = (
        "umask 077; t=/dev/shm; [ -w $t ] || t=/tmp; d=$(mktemp -d $t/ops.XXXXXX) || exit 1; "
        "trap 'rm -rf \"$d\"' EXIT; trap 'exit 1' HUP INT TERM; "
        f's="$d"/{INSIDE}; mkdir -p "$s" && cd "$s" && tar -xf - || exit 1; '
        "printf '%s\\n' \"$s\"; "
        f"{COMPOSE} --project-name {quote(project)} --env-file .ops-interpolation "
        f"{quote_all(options)} config --format json"
    )
    packed = [(path, content, 0o600) for path, content in sources]
    packed.append((".ops-interpolation", dotenv.encode(), 0o600))
    return Command(script, stdin=tarball(packed), title=f"docker compose {quote_all(options)} config")


def parse_rendered(text: str) -> tuple[str, Mapping[str, Any]]:
    """Read the answer of `render_command`: the folder that relative paths were resolved from, and the model."""
    folder, _, document = text.partition("\n")
    return folder, parse_model(document)


def temporary_root(folder: str) -> str:
    """Return the temporary folder that the folder of `parse_rendered` stands in."""
    return folder.removesuffix(f"/{INSIDE}")


def told_paths(text: str) -> str:
    """Return what Compose says with paths relative to the stack folder: the temporary one's name tells nothing."""

    def relative(found: re.Match[str]) -> str:
        return posixpath.relpath(found[1] or ".", INSIDE)

    return re.sub(r"""[^\s"'`]*/ops\.\w{6}/([^\s"'`]*)""", relative, text)


def parse_model(document: str) -> dict[str, Any]:
    """Read what `docker compose config --format json` prints; every `$`, in keys too, comes doubled from there."""
    model: dict[str, Any] = json.loads(document.replace("$$", "$"))
    return model


def put_back(model: Mapping[str, Any]) -> dict[str, Any]:
    """Return a model as a compose file holds it: `$` doubled, secrets as `${NAME}` in place of their stand-ins."""
    text = json.dumps({key: _literal(value) for key, value in model.items()})
    restored: dict[str, Any] = json.loads(_SENTINEL.sub(r"${\1}", text))
    return restored


def _literal(value: Any) -> Any:
    """Compose reads `$` in values, not in keys, as the start of a variable."""
    if isinstance(value, dict):
        return {key: _literal(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_literal(inner) for inner in value]
    return value.replace("$", "$$") if isinstance(value, str) else value

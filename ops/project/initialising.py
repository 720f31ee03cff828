"""Makes ops.toml, tasks.py and .env.example beside compose files that exist."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ops.commands import Command, Result
from ops.config import Settings, dotenv
from ops.config.closure import Closure
from ops.config.models import Server
from ops.config.names import interpolated
from ops.config.overrides import validate
from ops.config.settings import COMPOSE_NAMES
from ops.errors import UsageError
from ops.project.ignoring import unignored
from ops.project.locating import compose_files, environments, overlays, provisional
from ops.project.rendering import STAND_IN, render_project, running_projects
from ops.project.survey import project_in_use, secret_names, survey
from ops.project.writing import Draft, env_example, ops_toml

__all__ = ["Initialised", "init"]

_TASKS = '''"""The tasks of Opsbook for this folder: `inv --list`."""

from ops.tasks import namespace

__all__ = ["namespace"]
'''


@dataclass(frozen=True)
class Initialised:
    """What was written, what was kept because it was there, the secrets chosen, and what deserves a look."""

    folder: str
    written: tuple[str, ...]
    kept: tuple[str, ...]
    project: str | None
    services: tuple[str, ...]
    secrets: tuple[str, ...]
    remarks: tuple[str, ...]


def init(
    folder: Path,
    *,
    render: Callable[[Command], Result] | None,
    files: tuple[str, ...] = (),
    server: Server | None = None,
    force: bool = False,
) -> Initialised:
    """Given a folder with compose files and a way to run docker compose, write what Opsbook needs there.

    `render` runs a command on this machine or on `server`. An ops.toml that exists is refused
    and tasks.py and .env.example are kept, unless `force`; .gitignore gets the lines that it lacks. Raises UsageError
    for that, without compose files, without `render` and for a folder that cannot be used; ConfigError when Compose
    refuses the files.
    """
    folder = _usable(folder)
    if (folder / "ops.toml").exists() and not force:
        raise UsageError(f"{folder / 'ops.toml'} exists", next_step="add --force to write it anew")
    paths = compose_files(folder, files)
    if render is None:
        raise UsageError(
            "reading a compose project needs docker compose, and there is none here",
            next_step="install docker with compose on this machine, or read it on a server: --server HOST",
        )
    settings, closure = provisional(folder, paths)
    sounding = secret_names(_names(closure))
    rendered = render_project(folder, paths, closure, _harmless(settings, closure, sounding), render)
    found = survey(rendered)
    project, reason, remarks = _project(
        render, folder, paths, _named(settings, paths, str(rendered.model.get("name", "")))
    )
    draft = Draft(
        folder=folder,
        project=project,
        project_reason=reason,
        files=()
        if paths[0].name in COMPOSE_NAMES and len(paths) == 1 and not files
        else _relative(folder, paths),
        environments=environments(folder, paths),
        server=server.model_dump(exclude_defaults=True) if server else {},
        survey=found,
        secrets=sounding,
        remarks=(*remarks, *_left_out(folder, paths, closure)),
        overlaid=any(path not in paths for path in overlays(folder, paths[0])),
    )
    text = ops_toml(draft)
    validate(_base(text), _tables(text), draft.environments[0], {}, "the ops.toml that init made")
    example = env_example(*_example_names(folder, closure))
    written, kept = _write(folder, {"ops.toml": text, "tasks.py": _TASKS, ".env.example": example}, force)
    ignored = unignored(folder)
    remarks = draft.remarks
    if ignored:
        if (folder / ".gitignore").exists():
            remarks = (*remarks, f".gitignore has new lines at its end: {' '.join(ignored)}")
        written += (".gitignore",)
        _append(folder / ".gitignore", ignored)
    services = tuple(service.name for service in found.services)
    return Initialised(str(folder), written, kept, project or None, services, sounding, remarks)


def _usable(folder: Path) -> Path:
    try:
        found = folder.resolve()
        if not found.is_dir():
            raise UsageError(f"there is no folder {found}", next_step="name the folder of the compose file")
    except (OSError, RuntimeError, ValueError) as error:
        raise UsageError(f"the folder {folder} cannot be used: {error}") from error
    return found


def _interpolated(closure: Closure) -> set[str]:
    return {reference.name for path in closure.compose_files for reference in interpolated(path)}


def _harmless(settings: Settings, closure: Closure, sounding: Sequence[str]) -> dict[str, str]:
    """Return the values of .env that do not sound secret, and a stand-in for what `?` asks for."""
    values = {name: text for name, text in settings.values.revealed.items() if name not in sounding}
    for path in closure.compose_files:
        for reference in interpolated(path):
            if reference.operator in ("?", ":?") and not values.get(reference.name):
                values[reference.name] = STAND_IN
    return values


def _example_names(folder: Path, closure: Closure) -> tuple[list[str], list[str]]:
    """Return the names that .env must give and those that it may, which have a default."""
    given = {name for file in closure.env_files if file.of_include for name in file.read()}
    needed: set[str] = set()
    optional: set[str] = set()
    for path in closure.compose_files:
        for reference in interpolated(path):
            (optional if reference.operator in ("-", ":-", "+", ":+") else needed).add(reference.name)
    for file in closure.env_files:
        if file.path.parent == folder and file.path.name.startswith(".env") and not file.of_include:
            needed |= file.read().keys()
    return sorted(needed - given), sorted(optional - needed - given)


def _names(closure: Closure) -> set[str]:
    return _interpolated(closure) | {name for file in closure.env_files for name in file.read()}


def _project(
    render: Callable[[Command], Result],
    folder: Path,
    paths: tuple[Path, ...],
    named: str,
) -> tuple[str, str, tuple[str, ...]]:
    """Return the project name to keep (or none), why, and what a person should know about it."""
    usual = named or re.sub(r"[^a-z0-9_-]", "", folder.name.lower()).lstrip("-_")
    running = running_projects(render)
    if running is None:
        remark = ("Whether the project runs could not be asked (docker compose ls failed).",)
        return (
            (named, "as the compose file or .env names it", remark) if named else ("", _unseen(usual), remark)
        )
    used = project_in_use(running, folder, paths, usual)
    if not used:
        return (named, "as the compose file or .env names it", ()) if named else ("", _unseen(usual), ())
    remarks = (f"Other projects from the same files: {', '.join(used[1:])}.",) if used[1:] else ()
    return used[0], "the name that it runs under; another name would begin with empty volumes", remarks


def _named(settings: Settings, paths: tuple[Path, ...], rendered: str) -> str:
    """Return the name that Compose uses when a file gives it, not when it comes from the folder alone."""
    by_file = any(re.search(rb"^name:", path.read_bytes(), re.MULTILINE) for path in paths)
    return rendered if by_file or settings.values.get("COMPOSE_PROJECT_NAME") else ""


def _unseen(usual: str) -> str:
    return f'not running where init looked; where plain docker compose runs it, its name is "{usual}"'


def _left_out(folder: Path, paths: tuple[Path, ...], closure: Closure) -> Iterator[str]:
    for path in sorted(folder.glob(f"{paths[0].stem}.override.y*ml")):
        if path not in paths:
            yield f"Left out: {path.name}, which plain docker compose adds; name it in `files` if meant."
    for path in closure.absent:
        name = path.relative_to(folder).as_posix()
        yield f"{name} is named by env_file and is not here yet, so its names are not known."
    for file in closure.env_files:
        if not file.raw and dotenv.read_differently(file.path.read_text(encoding="utf-8-sig")):
            name = file.path.relative_to(folder).as_posix()
            yield f"{name} has values with $: `inv config.check` says which to quote."


def _relative(folder: Path, paths: tuple[Path, ...]) -> tuple[str, ...]:
    return tuple(path.relative_to(folder).as_posix() for path in paths)


def _base(text: str) -> dict[str, object]:
    return {key: value for key, value in tomllib.loads(text).items() if key != "environments"}


def _tables(text: str) -> Mapping[str, dict[str, object]]:
    tables: Mapping[str, dict[str, object]] = tomllib.loads(text)["environments"]
    return tables


def _write(folder: Path, texts: Mapping[str, str], force: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    kept = tuple(name for name in texts if (folder / name).exists() and not force)
    written = tuple(name for name in texts if name not in kept)
    for name in written:
        _put(folder / name, texts[name].encode())
    return written, kept


def _append(file: Path, lines: Sequence[str]) -> None:
    before = file.read_bytes() if file.is_file() else b""
    between = b"\n" if before and not before.endswith(b"\n") else b""
    _put(file, before + between + "".join(f"{line}\n" for line in lines).encode())


def _put(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from error

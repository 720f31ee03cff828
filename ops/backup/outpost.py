"""Tasks that run by themselves on the server that holds the data, and what they need there: Opsbook in the version that
runs here, an ops.toml in which that server is `local`, and the values that it names."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from ops.backup import scheduling
from ops.backup.schedules import SYSTEM, Do, Wish, scheduled
from ops.backup.scheduling import Piece, Schedule
from ops.backup.timers import Job
from ops.commands import Command, quote, quote_all
from ops.config import Settings
from ops.config.names import named_in_config
from ops.config.servers import state_host_of
from ops.config.writing import dotenv_text, toml_lines
from ops.datastores import configured
from ops.errors import ConfigError, FailedUnchanged, Locked, OpsError, UsageError
from ops.hosts import Host
from ops.runs.releases import layout_of

__all__ = ["check_server", "schedule_there"]

# What a backup goes by; services, proxies and hooks are a deploy's.
TABLES = {"base", "lock", "timeout", "backup", "datastores", "notify"}
FRESH = 1  # minutes: a backup whose lock was renewed within them is at work


@dataclass(frozen=True)
class _Outpost:
    """What stands on the server: the folder of all of it, and the text of its files."""

    root: str
    toml: str
    values: dict[str, str]
    environment: str

    @property
    def stack(self) -> str:
        return f"{self.root}/stack"

    @property
    def python(self) -> str:
        return f"{self.root}/venv/bin/python"

    @property
    def env_file(self) -> str:
        return f"{self.stack}/.env.{self.environment}"


def check_server(settings: Settings, server: str) -> None:
    """Raise UsageError where a server cannot back up the stack by itself, ConfigError where ops.toml keeps it from that."""
    holding = sorted({store.server for store in configured(settings, layout_of(settings)).values()})
    if holding != [server]:
        where = ", ".join(holding)
        raise UsageError(
            f"the data is on {where}, and {server} could not back it up by itself: it knows no way to other servers",
            next_step=f"add --on {where}" if len(holding) == 1 else "schedule it on this machine: --on here",
        )
    backup = settings.config.backup
    if backup.s3 is None and not Path(backup.local.path).is_absolute():
        raise ConfigError(
            f"{settings.file}: backups go to a folder of the machine that takes them, on {server} beside the data itself",
            next_step="name a bucket, [backup.s3], or an absolute [backup.local] path that is another machine's disk",
        )
    pause = backup.maintenance if backup.consistent else None
    if pause is not None:
        every = pause.where == "servers"
        paused = set(settings.config.servers) if every else {state_host_of(settings, None)}
        if paused != {server}:
            raise ConfigError(
                f"{settings.file}: writes are paused on {', '.join(sorted(paused))} for a consistent backup, and {server} "
                "knows no way to other servers",
                next_step="schedule it on this machine: --on here",
            )
    if backup.s3 is not None and backup.s3.profile:
        raise ConfigError(
            f"{settings.file}: [backup.s3] profile is one of this machine's AWS configuration, which {server} does not have",
            next_step='name access_key and secret_key as "env:NAME" in its place',
        )


def schedule_there(
    settings: Settings, host: Host, wish: Wish, do: Do, *, really: bool, wheel: str | None = None
) -> Schedule:
    """Show, install or remove a task's schedule on a server, with all it needs there; not `really`: only tell.

    `wheel` is a file of this machine that Opsbook is installed from in place of a package index. Raises what
    `schedule_here` and `check_server` do, and Locked where a backup is at work while all is to go.
    """
    if wish.wanted.startswith("restore"):
        raise UsageError(f"{wish.wanted} runs by a schedule of the operator's machine alone")
    job, outpost = _job(settings, wish), _outpost(settings, host.name)
    if do != "remove":
        check_server(settings, host.name)
    source = _wheel(wheel)
    found = scheduled(
        host,
        host.name,
        job,
        wish,
        do,
        really=really,
        more=_pieces(outpost, source),
        said=_notes(settings, host.name),
        before=lambda: _build(host, outpost, job, source),
    )
    if really and do == "remove":
        _clear(host, settings, outpost)
    return found


def _job(settings: Settings, wish: Wish) -> Job:
    root = _root(settings)
    argv = (f"{root}/venv/bin/python", "-P", "-m", "ops.tasks", wish.wanted, "--env", settings.environment)
    return Job(
        settings.stack,
        settings.environment,
        wish.wanted,
        (*argv, "--stack", f"{root}/stack", "--quiet", *wish.options),
        f"{root}/stack",
        f"{root}/venv/bin:{SYSTEM}",
        f"{root}/stack/.ops/schedule.log",
        wish.when,
    )


def _root(settings: Settings) -> str:
    return f"{layout_of(settings).root}/schedule"


def _outpost(settings: Settings, server: str) -> _Outpost:
    config = settings.config.model_dump(mode="json", include=TABLES, exclude_none=True, exclude_defaults=True)
    names = sorted(set(named_in_config(config)))
    values = {name: text for name in names if (text := settings.values.text(name)) is not None}
    table = {
        "stack": settings.stack,
        "project": settings.project,
        **config,
        "environments": {settings.environment: {"servers": {server: {"address": "local"}}}},
    }
    head = (
        "# Made by inv backup.schedule for the schedule of this server; it is written anew by the next one."
    )
    return _Outpost(
        _root(settings), "\n".join([head, *toml_lines(table)]) + "\n", values, settings.environment
    )


def _pieces(outpost: _Outpost, wheel: Path | None) -> tuple[Piece, ...]:
    what = f"opsbook {version('opsbook')}" + (f" from {wheel.name}" if wheel else " from the package index")
    hidden = "".join(f"{name}=***\n" for name in outpost.values)
    return (
        Piece(f"{outpost.root}/venv/", f"{what}, and what it needs, from the package index", "0700"),
        Piece(f"{outpost.stack}/ops.toml", outpost.toml, "0600"),
        Piece(outpost.env_file, hidden, "0600"),
    )


def _notes(settings: Settings, server: str) -> tuple[str, ...]:
    backup = settings.config.backup
    said = [f"{server} keeps the journal of these backups; no private key of age goes there"]
    if backup.s3 is None:
        said.append(f"backups go to {backup.local.path} on {server}: it should not be the disk of the data")
    elif not backup.s3.access_key:
        said.append(f"no credentials of the bucket go there: {server} must have its own (a role)")
    return tuple(said)


def _wheel(path: str | None) -> Path | None:
    if path is None:
        return None
    found = Path(path)
    if found.suffix != ".whl" or not found.is_file():
        raise UsageError(f"{path} is no wheel", next_step="make one: python3 -m pip wheel --no-deps PROJECT")
    return found


def _build(host: Host, outpost: _Outpost, job: Job, wheel: Path | None) -> None:
    """Put all of it there, and try the very command in a dry run; where something fails, what is there is told."""
    _must(
        host,
        "python3 -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))'",
        "look for Python 3.11 or later with its venv module",
        next_step=f"on {host.name}: apt-get install python3-venv, or what your distribution calls it",
        reads=True,
    )
    try:
        _must(host, f"umask 077; mkdir -p {quote(outpost.stack)}/.ops", "make its folder")
        host.put(outpost.toml.encode(), f"{outpost.stack}/ops.toml", mode=0o600)
        host.put(dotenv_text(outpost.values).encode(), outpost.env_file, mode=0o600)
        _install(host, outpost, wheel)
        line = quote_all((*job.argv[: job.argv.index("--quiet")], *_dry(job)))
        _must(
            host,
            f'cd {quote(job.folder)} && env -i HOME="$HOME" PATH={quote(job.path)} {line} >/dev/null',
            "try the task in a dry run",
            timeout=120,
        )
    except OpsError as error:
        error.left_behind = f"{outpost.root} on {host.name}, half made; --remove takes it away"
        raise


def _dry(job: Job) -> tuple[str, ...]:
    return ("--dry-run",) if job.task in ("backup.full", "backup.incremental") else ("--help",)


def _install(host: Host, outpost: _Outpost, wheel: Path | None) -> None:
    venv = quote(f"{outpost.root}/venv")
    wanted = f"opsbook=={version('opsbook')}"
    asked = f'{quote(outpost.python)} -c \'import importlib.metadata as m; print("opsbook==" + m.version("opsbook"))\''
    there = host.run(Command(f"{asked} 2>/dev/null || true", title="which Opsbook is there"))
    if wheel is None and there.stdout.strip() == wanted:
        return
    source = wanted
    if wheel is not None:
        source = f"{outpost.root}/{wheel.name}"
        host.put(wheel.read_bytes(), source, mode=0o600)
    _must(host, f"umask 077; python3 -m venv --clear {venv}", "make a Python environment", timeout=300)
    pip = f"{quote(outpost.python)} -m pip install --quiet --disable-pip-version-check {quote(source)}"
    _must(
        host,
        f"umask 077; {pip}",
        f"install {source.rpartition('/')[2]}",
        next_step="does the server reach a package index? A version that is on none goes there with --wheel FILE",
        timeout=900,
    )


def _clear(host: Host, settings: Settings, outpost: _Outpost) -> None:
    """What the schedules needed goes with the last of them."""
    left = scheduling.find(host, settings.stack, settings.environment).pieces
    if left:
        return
    root = quote(layout_of(settings).root)
    result = host.run(
        Command(
            f'[ -z "$(find {root}/locks/backup/heartbeat -mmin -{FRESH} 2>/dev/null)" ] || exit 9; '
            f"rm -rf {quote(outpost.root)}",
            changes="what the schedule needed",
            timeout=120,
            title=f"remove {outpost.root}",
        )
    )
    if result.status == 9:
        raise Locked(
            "a backup is at work, maybe this schedule's last",
            target=host.name,
            left_behind=f"{outpost.root}; the schedule itself is removed",
            next_step="run it again when that is done",
        )
    if not result.ok:
        raise FailedUnchanged(f"{outpost.root} could not be removed: {result.last_lines}", target=host.name)


def _must(
    host: Host,
    script: str,
    title: str,
    *,
    next_step: str | None = None,
    timeout: float = 60,
    reads: bool = False,
) -> None:
    changes = None if reads else "what the schedule needs"
    result = host.run(Command(script, changes=changes, timeout=timeout, title=title))
    if not result.ok:
        raise FailedUnchanged(
            f"cannot {title}: {result.last_lines or f'status {result.status}'}",
            target=host.name,
            next_step=next_step,
        )

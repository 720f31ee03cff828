"""A task that runs by itself: shown, installed and removed on one machine, as a systemd timer, else as a line for cron."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ops.backup.timers import (
    TASKS,
    Job,
    block_of,
    cron_block,
    crontab_with,
    mark,
    service_unit,
    timer_unit,
    unit_name,
)
from ops.commands import Command, Result, quote
from ops.errors import FailedUnchanged, NeedsPerson, UsageError
from ops.hosts import Host

__all__ = ["Found", "Piece", "Schedule", "find", "install", "planned", "remove"]

SYSTEMD = "/run/systemd/system"  # is there where systemd is what booted (sd_booted(3))
UNITS = "/etc/systemd/system"
Means = Literal["systemd", "systemd --user", "cron"]


@dataclass(frozen=True)
class Piece:
    """A file, or a part of one, with what stands in it; its mode in octal digits."""

    path: str
    content: str
    mode: str = "0644"


@dataclass(frozen=True)
class Schedule:
    """What a machine has of a schedule: `installed` is there, `planned` is what an installation puts there.

    `place` is `here` or the server, `means` what runs the task, `done` what came of the call. `installed` is how it is
    after it. `notes` are for people.
    """

    place: str
    means: Means
    done: Literal["nothing", "installed", "removed"]
    installed: tuple[Piece, ...]
    planned: tuple[Piece, ...] = ()
    commands: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Found:
    """What a machine has: the means, the user, the folder of units, what of this stack stands there, and the crontab."""

    means: Means
    user: str
    units: str
    lingers: bool
    cron_runs: bool
    pieces: Mapping[str, tuple[Piece, ...]]
    crontab: str

    @property
    def control(self) -> str:
        """The command that speaks to the systemd in question."""
        if self.means == "systemd":
            return "systemctl"
        return 'XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-/run/user/$(id -u)}" systemctl --user'


def find(host: Host, stack: str, environment: str) -> Found:
    """Return what stands on a machine; raises FailedUnchanged where neither systemd nor cron can run anything."""
    facts = _facts(host)
    means: Means = (
        "cron" if facts["systemd"] != "yes" else "systemd" if facts["uid"] == "0" else "systemd --user"
    )
    if means == "cron" and facts["crontab"] != "yes":
        raise FailedUnchanged(
            "there is neither systemd nor a crontab command, so nothing can run by itself",
            target=host.name,
            next_step="install one: apt-get install cron (or cronie, or your distribution's own)",
        )
    crontab = _crontab(host) if facts["crontab"] == "yes" else ""
    wanted = [
        f"{facts['units']}/{unit_name(stack, environment, task)}.{ending}"
        for task in TASKS
        for ending in ("service", "timer")
    ]
    read = [Command(f"cat {quote(path)} 2>/dev/null || true", title=f"read {path}") for path in wanted]
    texts = {path: answer.stdout for path, answer in zip(wanted, host.run_all(read), strict=True)}
    pieces: dict[str, tuple[Piece, ...]] = {}
    for number, task in enumerate(TASKS):
        own = mark(stack, environment, task)
        there = [Piece(path, texts[path]) for path in wanted[2 * number : 2 * number + 2] if texts[path]]
        for piece in there:
            if f"# {own};" not in piece.content:
                raise FailedUnchanged(
                    f"{piece.path} is there, and not of {own}",
                    target=host.name,
                    next_step=f"look at it, and remove it: rm {piece.path}",
                )
        if block := block_of(crontab, own):
            there.append(Piece(f"crontab of {facts['user']}", block, "0600"))
        if there:
            pieces[task] = tuple(there)
    return Found(
        means,
        facts["user"],
        facts["units"],
        facts["linger"] == "yes",
        facts["cron"] == "yes",
        pieces,
        crontab,
    )


def planned(found: Found, job: Job) -> tuple[Piece, ...]:
    """Return what an installation puts there; raises UsageError for what cannot be said there."""
    if found.means == "cron":
        return (Piece(f"crontab of {found.user}", cron_block(job), "0600"),)
    name = f"{found.units}/{unit_name(job.stack, job.environment, job.task)}"
    user = found.user if found.means == "systemd" else None
    return Piece(f"{name}.service", service_unit(job, user)), Piece(f"{name}.timer", timer_unit(job))


def commands(found: Found, job: Job) -> tuple[str, ...]:
    """Return what is run behind that."""
    if found.means == "cron":
        return ("crontab -",)
    timer = f"{unit_name(job.stack, job.environment, job.task)}.timer"
    return (f"{found.control} daemon-reload", f"{found.control} enable --now {timer}")


def notes(found: Found, job: Job) -> tuple[str, ...]:
    """Return what people should know of it."""
    said = []
    if found.means == "systemd --user" and not found.lingers:
        said.append(
            f"timers of {found.user} run while {found.user} is logged in; for always: loginctl enable-linger {found.user}"
        )
    if found.means == "cron":
        said.append(f"what it has to say goes to {job.log}")
        if not found.cron_runs:
            said.append("no cron runs at the moment, so nothing would run by it: start it")
    return tuple(said)


def install(host: Host, found: Found, job: Job) -> None:
    """Put a job there, in the place of the one of the same task; raises UsageError for a calendar that systemd does not
    know, FailedUnchanged, and NeedsPerson where systemd did not take what was written."""
    pieces = planned(found, job)
    whose = mark(job.stack, job.environment, job.task)
    if found.means == "cron":
        folder = job.log.rpartition("/")[0]
        _must(host, Command(f"umask 077; mkdir -p {quote(folder)}", changes="the folder of a log"))
        _write_crontab(host, crontab_with(found.crontab, whose, pieces[0].content))
        _remove_units(host, found, (job.task,))
        return
    calendar = quote(job.when.calendar)
    known = host.run(
        Command(
            f"! command -v systemd-analyze >/dev/null || systemd-analyze calendar {calendar} >/dev/null",
            title="ask systemd about the calendar",
        )
    )
    if not known.ok:
        raise UsageError(f"systemd does not know this calendar: {known.last_lines}", target=host.name)
    for piece in pieces:
        host.put(piece.content.encode(), piece.path, mode=int(piece.mode, 8))
    for line in commands(found, job):
        result = host.run(Command(line, changes="systemd's timers"))
        if not result.ok:
            raise NeedsPerson(
                f"{line.split(';')[0]}: {result.last_lines}",
                target=host.name,
                left_behind=" and ".join(piece.path for piece in pieces),
                next_step="mend that, then run it again; --remove takes them away",
            )
    if block_of(found.crontab, whose):
        _write_crontab(host, crontab_with(found.crontab, whose, ""))


def remove(host: Host, found: Found, tasks: tuple[str, ...], stack: str, environment: str) -> None:
    """Take away what there is of these tasks; nothing is no failure."""
    text = found.crontab
    for task in tasks:
        text = crontab_with(text, mark(stack, environment, task), "")
    if text != found.crontab:
        _write_crontab(host, text)
    _remove_units(host, found, tasks)


def _remove_units(host: Host, found: Found, tasks: tuple[str, ...]) -> None:
    paths = [
        piece.path
        for task in tasks
        for piece in found.pieces.get(task, ())
        if piece.path.startswith(found.units + "/")
    ]
    if not paths:
        return
    names = " ".join(quote(path.rpartition("/")[2]) for path in paths if path.endswith(".timer"))
    stop = f"{found.control} disable --now {names}; " if names and found.means != "cron" else ""
    reload = f" && {found.control} daemon-reload" if found.means != "cron" else ""
    files = " ".join(map(quote, paths))
    _must(host, Command(f"{stop}rm -f {files}{reload}", changes="systemd's timers", title=f"remove {files}"))


def _facts(host: Host) -> dict[str, str]:
    script = (
        f'b() {{ if "$@" >/dev/null 2>&1; then echo yes; else echo no; fi; }}; u=$(id -u); n=$(id -un 2>/dev/null || echo $u); '
        f'echo "systemd=$(b test -d {SYSTEMD})"; echo "crontab=$(b command -v crontab)"; echo "uid=$u"; echo "user=$n"; '
        f'if [ "$u" = 0 ]; then echo units={UNITS}; else echo "units=${{XDG_CONFIG_HOME:-$HOME/.config}}/systemd/user"; fi; '
        'echo "linger=$(b test -e "/var/lib/systemd/linger/$n")"; '
        "echo \"cron=$(b grep -qsxE 'cron|crond|fcron|dcron' /proc/[0-9]*/comm)\""
    )
    result = _must(host, Command(script, title="what runs tasks here"))
    return dict(line.partition("=")[::2] for line in result.stdout.splitlines())


def _crontab(host: Host) -> str:
    """Return the crontab, bytes that are no text as Python holds them, so that they go back as they were.

    One that could not be read must not be taken for none: it would be written anew without its lines.
    """
    told = bytearray()
    script = 'LC_ALL=C crontab -l; s=$?; [ $s = 0 ] || echo "crontab ended with $s" >&2'
    with host.stream_out(Command(script, title="crontab -l"), told.extend) as chunks:
        text = b"".join(chunks).decode(errors="surrogateescape")
    said = told.decode(errors="replace").strip()
    if "crontab ended with" not in said:
        return text
    if re.search(r"no crontab for|can't open|No such file", said):
        return ""
    raise FailedUnchanged(f"the crontab cannot be read: {said.splitlines()[0]}", target=host.name)


def _write_crontab(host: Host, text: str) -> None:
    script = "crontab -" if text else "crontab -r"
    _must(host, Command(script, stdin=text.encode(errors="surrogateescape"), changes="the crontab"))


def _must(host: Host, command: Command) -> Result:
    result = host.run(command)
    if not result.ok:
        raise FailedUnchanged(f"{command.shown}: {result.last_lines}", target=host.name)
    return result

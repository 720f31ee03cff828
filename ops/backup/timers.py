"""A scheduled task as text: the units of a systemd timer, or a block of a crontab."""

from __future__ import annotations

from dataclasses import dataclass

from ops.backup.timing import When
from ops.commands import quote, quote_all
from ops.errors import FailedUnchanged, UsageError

__all__ = [
    "TASKS",
    "Job",
    "block_of",
    "cron_block",
    "crontab_with",
    "mark",
    "service_unit",
    "timer_unit",
    "unit_name",
]

TASKS = ("backup.full", "backup.incremental", "backup.verify", "restore.drill")


@dataclass(frozen=True)
class Job:
    """One task of a stack in an environment: its argv, the folder that it runs in, the PATH that it has, the file that
    cron's runs write to, and when."""

    stack: str
    environment: str
    task: str
    argv: tuple[str, ...]
    folder: str
    path: str
    log: str
    when: When


def unit_name(stack: str, environment: str, task: str) -> str:
    """Return the name of the units, without their endings."""
    return f"opsbook-{stack}-{environment}-{task}"


def mark(stack: str, environment: str, task: str) -> str:
    """Return what says whose a unit or a block is; the names of units alone may be those of two stacks."""
    return f"opsbook {stack}/{environment} {task}"


def service_unit(job: Job, user: str | None) -> str:
    """Return the unit that runs the task once; `user` is whose it is among those of the system, None among one's own."""
    # systemd takes no program with a quote or a backslash in its name, and any argument.
    argv = job.argv if not set(job.argv[0]) & set("'\"\\") else ("/usr/bin/env", *job.argv)
    lines = [
        f"# {_mark(job)}; made by inv backup.schedule, which also removes it",
        "[Unit]",
        f"Description=Opsbook: {job.task} of {job.stack} {job.environment}",
    ]
    if user is not None:
        lines += ["Wants=network-online.target", "After=network-online.target"]
    lines += [
        "",
        "[Service]",
        "Type=oneshot",
        *([f"User={user}"] if user is not None else []),
        f"WorkingDirectory={_unquoted(job.folder)}",
        f"Environment={_word('PATH=' + job.path)}",
        f"ExecStart={' '.join(_word(word).replace('$', '$$') for word in argv)}",
        "UMask=0077",
        "Nice=10",
        "IOSchedulingClass=best-effort",
        "IOSchedulingPriority=7",
    ]
    return "\n".join(lines) + "\n"


def timer_unit(job: Job) -> str:
    """Return the unit that says when; one that was missed while the machine slept is made up for."""
    lines = [
        f"# {_mark(job)}; made by inv backup.schedule, which also removes it",
        "[Unit]",
        f"Description=Opsbook: when {job.task} of {job.stack} {job.environment} runs",
        "",
        "[Timer]",
        f"OnCalendar={job.when.calendar}",
        f"RandomizedDelaySec={job.when.spread}",
        "Persistent=true",
        "",
        "[Install]",
        "WantedBy=timers.target",
    ]
    return "\n".join(lines) + "\n"


def cron_block(job: Job) -> str:
    """Return the lines of a crontab. Raises UsageError for a time that cron cannot say."""
    if job.when.cron is None:
        raise UsageError(
            f"cron runs here, and it cannot read {job.when.calendar!r}, a calendar of systemd",
            next_step="give --at or --every in its place",
        )
    command = (
        f"umask 077; cd {quote(job.folder)} && PATH={quote(job.path)} exec nice -n 10 {quote_all(job.argv)} "
        f">>{quote(job.log)} 2>&1"
    )
    # In a crontab a % ends the command, whatever quotes stand around it (crontab(5)).
    line = f"{job.when.cron} {_one_line(command)}".replace("%", "\\%")
    begin, end = _edges(_mark(job))
    return f"{begin}\n{line}\n{end}\n"


def crontab_with(text: str, whose: str, block: str) -> str:
    """Return a crontab in which a block stands in the place of the one of that mark, or behind all else; none where it is
    empty. All other bytes stay.

    Raises FailedUnchanged where somebody broke the block up.
    """
    begin, end = _edges(whose)
    bare = text.split("\n")  # nothing else ends a line there
    lines = [*(f"{line}\n" for line in bare[:-1]), bare[-1]]
    if bare.count(begin) != bare.count(end) or bare.count(begin) > 1:
        raise _broken(whose)
    if begin not in bare:
        if not block:
            return text
        return text + ("\n" if bare[-1] else "") + block
    first, last = bare.index(begin), bare.index(end)
    if last < first:
        raise _broken(whose)
    return "".join(lines[:first]) + block + "".join(lines[last + 1 :])


def block_of(text: str, whose: str) -> str:
    """Return the block of that mark in a crontab, empty where there is none."""
    begin, end = _edges(whose)
    rest = text.partition(f"{begin}\n")[2]
    inner, found, _ = rest.partition(f"{end}\n")
    return f"{begin}\n{inner}{end}\n" if found else ""


def _edges(whose: str) -> tuple[str, str]:
    return f"# {whose}: begin; made by inv backup.schedule, which also removes it", f"# {whose}: end"


def _broken(whose: str) -> FailedUnchanged:
    return FailedUnchanged(
        f"in the crontab the lines of {whose} have no beginning, no end, or two",
        left_behind="the crontab as it was",
        next_step="crontab -e: remove those lines, then run it again",
    )


def _mark(job: Job) -> str:
    return mark(job.stack, job.environment, job.task)


def _word(text: str) -> str:
    """Return one word of a unit's command line (systemd.service(5), "Command lines"; % are specifiers)."""
    text = _one_line(text).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{text}"' if not text or set(text) & set(" '\"\\;\t") else text


def _unquoted(text: str) -> str:
    """Return a path as a setting takes it that knows no quotes; a backslash at its end would join the next line."""
    if text.endswith("\\"):
        raise UsageError(f"{text!r} cannot stand in a unit", next_step="give it another name")
    return _one_line(text).replace("%", "%%")


def _one_line(text: str) -> str:
    if "\n" in text or "\r" in text:
        raise UsageError(f"{text!r} cannot stand in a crontab or a unit", next_step="give it another name")
    return text

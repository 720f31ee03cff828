"""Tasks of a stack that run by themselves on the operator's machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ops.backup import scheduling
from ops.backup.scheduling import Found, Piece, Schedule, find
from ops.backup.timers import TASKS, Job
from ops.backup.timing import When, when
from ops.commands import Command, quote, quote_all
from ops.config import Settings
from ops.config.names import named_in_config
from ops.config.values import PROCESS
from ops.errors import ConfigError, FailedUnchanged, UsageError
from ops.hosts import Host

__all__ = ["Do", "Wish", "job_here", "schedule_here", "scheduled"]

Do = Literal["show", "install", "remove"]
AMAZON = ("AWS_ACCESS_KEY_ID", "AWS_PROFILE")
SYSTEM = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Wish:
    """What is to run when: a task (empty: `backup.full` where one is installed, all where they are shown or removed), a
    time of day, a systemd calendar or an interval, and options for the task."""

    task: str = ""
    at: str | None = None
    calendar: str | None = None
    every: str | None = None
    options: tuple[str, ...] = ()

    @property
    def wanted(self) -> str:
        """The task that an installation is of."""
        return self.task or TASKS[0]

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that are shown or removed."""
        return (self.task,) if self.task else TASKS

    @property
    def when(self) -> When:
        """When it runs; raises UsageError."""
        if self.task and self.task not in TASKS:
            raise UsageError(f"{self.task} runs by no schedule; those that do: {', '.join(TASKS)}")
        return when(self.at, self.calendar, self.every)


def schedule_here(settings: Settings, host: Host, wish: Wish, do: Do, *, really: bool) -> Schedule:
    """Show, install or remove a task's schedule on this machine; not `really`: only tell what that would be.

    Raises UsageError, ConfigError for a value that the schedule would not have, FailedUnchanged where nothing can run
    it, NeedsPerson where systemd did not take it.
    """
    job = job_here(settings, wish)
    if do == "install":
        _check_values(settings)
        _check_python(host, job)
    return scheduled(host, "here", job, wish, do, really=really, said=_agent(settings))


def scheduled(
    host: Host,
    place: str,
    job: Job,
    wish: Wish,
    do: Do,
    *,
    really: bool,
    more: tuple[Piece, ...] = (),
    said: tuple[str, ...] = (),
    before: Callable[[], object] = lambda: None,
) -> Schedule:
    """Do it on one machine. `more` is what a schedule needs there, `said` what to know of it, `before` puts it there."""
    found = find(host, job.stack, job.environment)
    pieces = (*more, *scheduling.planned(found, job)) if do != "remove" else ()
    lines = scheduling.commands(found, job) if do != "remove" else ()
    told = (*said, *scheduling.notes(found, job)) if do != "remove" else ()
    done: Literal["nothing", "installed", "removed"] = "nothing"
    if really and do == "install":
        before()
        scheduling.install(host, found, job)
        done = "installed"
    elif really and do == "remove":
        scheduling.remove(host, found, wish.tasks, job.stack, job.environment)
        done = "removed"
    if done != "nothing":
        found = find(host, job.stack, job.environment)
    return Schedule(place, found.means, done, _installed(found, wish), pieces, lines, told)


def _installed(found: Found, wish: Wish) -> tuple[Piece, ...]:
    return tuple(piece for task in wish.tasks for piece in found.pieces.get(task, ()))


def job_here(settings: Settings, wish: Wish) -> Job:
    """Return the job as this machine runs it: with the Python and the folder of this very run."""
    folder = settings.folder
    # -P: an `ops` folder in the stack's own must not be taken for the library.
    argv = (sys.executable, "-P", "-m", "ops.tasks", wish.wanted, "--env", settings.environment)
    return Job(
        settings.stack,
        settings.environment,
        wish.wanted,
        (*argv, "--stack", str(folder), "--quiet", *wish.options),
        str(folder),
        f"{Path(sys.executable).parent}:{SYSTEM}",
        f"{folder}/.ops/schedule.log",
        wish.when,
    )


def _check_values(settings: Settings) -> None:
    """What only this shell knows is not there at two in the morning."""
    dumped = settings.config.model_dump(include={"backup", "servers", "registries"})
    names = sorted(
        name for name in set(named_in_config(dumped)) if settings.values.origins.get(name) == PROCESS
    )
    s3 = settings.config.backup.s3
    amazon = [name for name in AMAZON if s3 is not None and not s3.access_key and os.environ.get(name)]
    if amazon:
        raise ConfigError(
            f"{', '.join(amazon)}: set in this shell alone, which a schedule does not have",
            next_step='name access_key and secret_key in [backup.s3] as "env:NAME", with the values in '
            f"{settings.folder / f'.env.{settings.environment}'}, or give this machine's user a profile of its own",
        )
    if names:
        raise ConfigError(
            f"{', '.join(names)}: set in this shell alone, which a schedule does not have",
            next_step=f"write it into {settings.folder / f'.env.{settings.environment}'} (mode 0600), then run it again",
        )


def _agent(settings: Settings) -> tuple[str, ...]:
    far = [name for name, server in settings.config.servers.items() if server.address != "local"]
    if not far or "SSH_AUTH_SOCK" not in os.environ:
        return ()
    return (
        f"this shell has an SSH agent, and a schedule has none: the key for {', '.join(far)} must open without it",
    )


def _check_python(host: Host, job: Job) -> None:
    """A library that is found by a variable of this shell would be missed as well."""
    python = quote_all((*job.argv[:4], "--version"))
    home = f"HOME={quote(os.path.expanduser('~'))}"  # noqa: PTH111  as a shell would
    result = host.run(
        Command(
            f"cd {quote(job.folder)} && env -i {home} PATH={quote(job.path)} {python}",
            title="does the command run without this shell's variables",
        )
    )
    if not result.ok:
        raise FailedUnchanged(
            f"{job.argv[0]} does not run Opsbook without the variables of this shell: {result.last_lines}",
            next_step="install opsbook into its environment: python3 -m pip install opsbook",
        )

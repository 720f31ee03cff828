"""The task `backup.schedule`: its options read, its answer as text."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from ops.errors import UsageError
from ops.tasks.asking import confirm_as_configured
from ops.tasks.boundary import Answer

if TYPE_CHECKING:
    from ops.backup.schedules import Do
    from ops.backup.scheduling import Piece, Schedule
    from ops.environments import Environment

__all__ = ["schedule_answer", "schedule_text"]


def schedule_answer(
    target: Environment,
    *,
    install: bool,
    remove: bool,
    on: str,
    task: str,
    at: str,
    every: str,
    calendar: str,
    options: str,
    wheel: str,
    yes: bool,
    dry_run: bool,
) -> Answer:
    """Return what came of it; raises UsageError for options that do not go together and for a task that there is not."""
    if install and remove:
        raise UsageError("give --install or --remove, not both")
    _check_task(task)
    words = _words(options)
    do: Do = "install" if install else "remove" if remove else "show"
    if do != "show" and not dry_run:
        verb = "Install the schedule of" if install else "Remove the schedule of"
        where = "here" if on == "here" else f"on {on}"
        confirm_as_configured(target.settings, f"{verb} {target.settings.environment} {where}?", yes=yes)
    found = target.backup.schedule(
        task=task,
        at=at or None,
        calendar=calendar or None,
        every=every or None,
        on=on,
        options=words,
        wheel=wheel or None,
        do=do,
        dry_run=dry_run,
    )
    return Answer(schedule_text(found, do), data=found, settings=target.settings)


def schedule_text(found: Schedule, do: str) -> str:
    """Return what is there, and what would be put there with the very content."""
    where = "this machine" if found.place == "here" else found.place
    lines = []
    if found.done != "nothing":
        lines.append(f"{found.done.capitalize()} on {where}, by {found.means}.")
    if found.installed:
        lines += ["", f"On {where}:", *_pieces(found.installed)]
    elif found.done != "removed":
        lines.append(f"Nothing is installed on {where}.")
    if found.done == "nothing" and found.planned:
        lines += ["", f"--install would put there, for {found.means}:", *_pieces(found.planned)]
        lines += ["and run:", *(f"    {command}" for command in found.commands)]
    if found.done == "nothing" and do == "remove":
        lines += ["", "--remove would take away what is there."]
    lines += [f"note: {note}" for note in found.notes]
    return "\n".join(lines).lstrip("\n")


def _pieces(pieces: tuple[Piece, ...]) -> list[str]:
    found = []
    for piece in pieces:
        found.append(f"  {piece.path} ({piece.mode})")
        found += [f"    {line}" for line in piece.content.splitlines()]
    return found


def _check_task(task: str) -> None:
    from ops.tasks.namespace import namespace

    if task and task not in namespace.task_names:
        raise UsageError(f"there is no task {task}", next_step="inv --list")


def _words(options: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(options))
    except ValueError as error:
        raise UsageError(f"--options: {error}: {options!r}") from error

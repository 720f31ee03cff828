"""Questions at the terminal: on stderr, since stdout may be a file that another program reads."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from ops.errors import UsageError
from ops.outcomes import Outcome
from ops.tasks.output import interactive, say

if TYPE_CHECKING:
    from ops.config import Settings

__all__ = ["confirm", "confirm_as_configured", "confirm_name"]


def confirm(settings: Settings, question: str, expected: str, *, yes: bool) -> bool:
    """Ask at the terminal and go on only for the expected answer; return whether a person was asked.

    Raises UsageError where nobody can be asked and `yes` was not given, or when the answer is another or none.
    """
    if yes:
        return False
    if not interactive(sys.stdin) or sys.stderr is None:
        raise _refusal(
            settings,
            f"this asks {question!r} and there is no terminal; nothing was done",
            "add --yes to answer in advance",
        )
    if _answer(question) != expected:
        raise _refusal(settings, "not confirmed; nothing was done")
    return True


def confirm_as_configured(settings: Settings, question: str, *, yes: bool, always: bool = False) -> bool:
    """Ask as `confirm` of ops.toml says: not at all (but with `always`), for a yes, or for the environment's name.

    Returns whether a person was asked. Raises UsageError as `confirm` does.
    """
    if settings.config.confirm == "name":
        return confirm(settings, f"{question} Type the environment's name:", settings.environment, yes=yes)
    if always or settings.config.confirm == "yes":
        return confirm(settings, f"{question} (yes)", "yes", yes=yes)
    return False


def confirm_name(settings: Settings, question: str, given: str) -> None:
    """Go on only where the environment's name was `given` in advance, or is typed now. Raises UsageError else."""
    if given:
        if given != settings.environment:
            raise _refusal(settings, f"--confirm {given} is not {settings.environment}; nothing was done")
        return
    if not interactive(sys.stdin) or sys.stderr is None:
        raise _refusal(
            settings,
            f"this asks {question!r} and there is no terminal; nothing was done",
            f"add --confirm {settings.environment} to answer in advance",
        )
    confirm(settings, f"{question} Type the environment's name:", settings.environment, yes=False)


def _answer(question: str) -> str:
    """Return the line that was typed; nothing for Ctrl-D, a terminal that is gone, or bytes that are no text."""
    try:
        print(question, end=" ", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
    except (OSError, UnicodeDecodeError):
        line = ""
    if not line.endswith("\n"):
        say("")  # what follows starts on a line of its own
    return line.strip()


def _refusal(settings: Settings, text: str, next_step: str | None = None) -> UsageError:
    error = UsageError(text, next_step=next_step)
    error.outcome = Outcome("", settings.stack, settings.environment)
    return error

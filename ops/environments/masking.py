"""What leaves a call on a stack: errors without secrets, each of which says what it is about."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from ops.config import Settings
from ops.errors import OpsError
from ops.outcomes import Outcome
from ops.runs.log import unexpected

__all__ = ["masked"]

# Those that work on an environment; where one is not named, the command as it stands would be refused.
_COMMAND = re.compile(r"\binv (?:deploy|servers|stack|build)(?:\.\w+)?\b(?![^\n]*--env)")


@contextmanager
def masked(settings: Settings) -> Iterator[None]:
    """No error leaves with a secret in it, whatever a command on a server wrote; each says what it is about.

    What it tells to type next can be typed as it stands: with the options that mean this environment.
    """
    try:
        yield
    except OpsError as error:
        error.mask(settings.redactor)
        error.next_step = _typeable(error.next_step, settings)
        error.outcome = error.outcome or Outcome("", settings.stack, settings.environment)
        raise
    except BrokenPipeError:  # who read the output has left
        raise
    except Exception as error:
        failure = unexpected(error, settings.folder, settings.redactor)
        failure.next_step = _typeable(failure.next_step, settings)
        raise failure from error


def _typeable(next_step: str | None, settings: Settings) -> str | None:
    return _COMMAND.sub(lambda found: f"{found[0]} {settings.options}", next_step) if next_step else None

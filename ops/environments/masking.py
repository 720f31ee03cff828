"""What leaves a call on a stack: errors without secrets, each of which says what it is about."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ops.config import Settings
from ops.errors import OpsError
from ops.outcomes import Outcome
from ops.runs.log import unexpected

__all__ = ["masked"]


@contextmanager
def masked(settings: Settings) -> Iterator[None]:
    """No error leaves with a secret in it, whatever a command on a server wrote; each says what it is about."""
    try:
        yield
    except OpsError as error:
        error.mask(settings.redactor)
        error.outcome = error.outcome or Outcome("", settings.stack, settings.environment)
        raise
    except BrokenPipeError:  # who read the output has left
        raise
    except Exception as error:
        raise unexpected(error, settings.folder, settings.redactor) from error

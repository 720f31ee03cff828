"""Where words leave a task: stdout for what was asked for, stderr for the rest; either may be closed, full or gone."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TextIO

from ops.errors import OpsError

__all__ = ["discard", "following", "interactive", "say", "tell", "write"]


def following(next_step: str) -> list[str]:
    """Return the lines that tell what to type next, one below the other where there are several."""
    first, *more = next_step.splitlines()
    return [f"Next: {first}", *(f"      {line}" for line in more)]


def interactive(stream: TextIO | None) -> bool:
    """Return whether a person is at a stream; Python has None for one that was closed from the start (`>&-`)."""
    return stream is not None and stream.isatty()


def write(text: str) -> None:
    """Print on stdout. Raises OpsError when it cannot be written, BrokenPipeError when its reader has left."""
    stream = sys.stdout
    if stream is None:
        return
    try:
        try:
            print(text, flush=True)
        except UnicodeEncodeError:  # a terminal or a file that takes no UTF-8
            print(text.encode(stream.encoding, "backslashreplace").decode(stream.encoding), flush=True)
    except BrokenPipeError:
        discard(stream)
        raise
    except OSError as error:
        discard(stream)
        raise OpsError(f"the output cannot be written: {error.strerror or error}") from error


def tell(text: str) -> None:
    """Print on stdout what a run has to tell. It never raises: what is done stays done, and so does its exit code.

    A deploy that reached its servers must not read as failed because the disk for its report is full: whoever goes by
    the exit code would deploy again or roll back. One line on stderr says that the report is missing.
    """
    try:
        write(text)
    except BrokenPipeError:  # whoever read this has left
        return
    except OpsError as error:
        say(f"Error: {error}")


def say(text: str) -> None:
    """Print on stderr, so that --json has stdout to itself; where that cannot be written, the exit code still tells."""
    if sys.stderr is None:  # print() would take stdout
        return
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        discard(sys.stderr)


def discard(stream: TextIO | None) -> None:
    """Lead a stream that cannot be written to nowhere: Python tries again at its end, and would exit with 120."""
    if stream is not None:
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)

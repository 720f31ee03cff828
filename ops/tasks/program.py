"""The `opsbook` command: the same tasks from any folder, without a tasks.py."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from invoke.exceptions import Exit, ParseError
from invoke.program import Program

from ops.errors import UsageError
from ops.tasks.boundary import explain
from ops.tasks.namespace import namespace
from ops.tasks.output import discard, say

__all__ = ["main"]


class _Opsbook(Program):
    """Invoke's program, whose own refusals of a command line end with the exit code of Opsbook's."""

    def parse_core(self, argv: list[str] | None) -> None:
        with _usage():
            super().parse_core(argv)

    def parse_tasks(self) -> None:
        with _usage():
            super().parse_tasks()

    def print_version(self) -> None:
        import importlib.metadata  # slow, and of use to --version alone

        print(f"{self.name} {importlib.metadata.version('opsbook')}")


def main() -> None:
    """Run the program; ends the process with the task's exit code."""
    try:
        try:
            _Opsbook(name="Opsbook", binary="opsbook", namespace=namespace).run()
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except OSError as error:  # `opsbook --list | head`, or a full disk
        discard(sys.stdout)
        if not isinstance(error, BrokenPipeError):
            say(f"Error: the output cannot be written: {error.strerror or error}")
        sys.exit(1)


@contextmanager
def _usage() -> Iterator[None]:
    try:
        yield
    except (ParseError, ValueError) as error:  # ValueError: a word where Invoke wants a number
        step = "opsbook --list shows the tasks, opsbook --help TASK its options"
        refusal = UsageError(str(error), next_step=step)
        raise Exit(explain(refusal), code=refusal.exit_code) from None

"""Where a task meets its caller: errors become messages and exit codes, results become text or JSON."""

from __future__ import annotations

import dataclasses
import functools
import json as json_module
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task as invoke_task

from ops.errors import OpsError, UsageError
from ops.outcomes import Outcome

if TYPE_CHECKING:
    from ops.config import Settings

__all__ = ["Answer", "about", "confirm", "confirm_as_configured", "document", "explain", "task"]

FORMAT = 1


@dataclass(frozen=True)
class Answer:
    """What a task found or did: `text` for people, `data` for machines, `outcome` where something ran."""

    text: str = ""
    data: object = None
    outcome: Outcome | None = None
    exit_code: int = 0


def task(
    *,
    help: Mapping[str, str] | None = None,  # noqa: A002  as Invoke's own decorator calls it
    name: str | None = None,
    default: bool = False,
) -> Callable[[Callable[..., Answer | None]], Any]:
    """Return a decorator that makes an Invoke task of a function which returns an `Answer`.

    The function's parameters are all options with defaults. `json` and `quiet` are honoured here: one document on
    stdout, or nothing on success. Failures print on stderr and end with the exit code of their class.
    """

    def decorate(body: Callable[..., Answer | None]) -> Any:
        @functools.wraps(body)
        def run(c: Context, **options: Any) -> None:
            as_json, quiet = bool(options.get("json")), bool(options.get("quiet"))
            try:
                answer = body(c, **options) or Answer()
            except OpsError as error:
                _fail(error, as_json, _action(body))
            except KeyboardInterrupt:
                _fail(OpsError("interrupted"), as_json, _action(body), code=130)
            except BrokenPipeError:
                sys.stderr.close()
                raise Exit(code=1) from None
            except Exception as error:
                from ops.runs.log import unexpected

                _fail(unexpected(error, Path(), str), as_json, _action(body))
            if as_json:
                _print(document(answer, _action(body), code=answer.exit_code))
            elif answer.text and not (quiet and answer.exit_code == 0):
                _print(answer.text)
            if answer.exit_code:
                raise Exit(code=answer.exit_code)

        return invoke_task(run, name=name, default=default, help=dict(help or {}), auto_shortflags=False)

    return decorate


def document(answer: Answer, action: str, error: OpsError | None = None, code: int = 0) -> str:
    """Return the JSON document of a task: every field of the design, unknown ones null."""
    outcome = answer.outcome or Outcome(action, stack="", environment="")
    fields = _plain(outcome if outcome.action else dataclasses.replace(outcome, action=action))
    assert isinstance(fields, dict)
    head = {"format": FORMAT, "ok": code == 0, "exit_code": code}
    fields = {key: (None if value == "" else value) for key, value in fields.items()}
    told = None
    if error is not None:
        told = {
            "message": error.message,
            "target": error.target,
            "left_behind": error.left_behind,
            "next_step": error.next_step,
        }
    return json_module.dumps(
        head | fields | {"data": _plain(answer.data), "error": told}, indent=2, ensure_ascii=False
    )


def about(settings: Settings) -> Outcome:
    """Return the head of the document of a task that only looked: of which stack, in which environment."""
    return Outcome("", settings.stack, settings.environment)


def explain(error: OpsError) -> str:
    """Return an error as a person reads it: what, where, what was left, what to do."""
    lines = [f"Error: {error}"]
    if error.left_behind:
        lines.append(f"Left behind: {error.left_behind}")
    if error.next_step:
        first, *more = error.next_step.splitlines()
        lines += [f"Next: {first}", *(f"      {line}" for line in more)]
    if error.outcome is not None and error.outcome.log:
        lines.append(f"Log: {error.outcome.log}")
    return "\n".join(lines)


def confirm(question: str, expected: str, *, yes: bool) -> None:
    """Ask at the terminal and go on only for the expected answer.

    Raises UsageError where nobody can be asked and `yes` was not given, or when the answer is another.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(
            f"this asks {question!r} and there is no terminal", next_step="add --yes to answer in advance"
        )
    if input(f"{question} ").strip() != expected:
        raise UsageError("not confirmed; nothing was done")


def confirm_as_configured(settings: Settings, question: str, *, yes: bool, always: bool = False) -> None:
    """Ask as `confirm` of ops.toml says: not at all (but with `always`), for a yes, or for the environment's name.

    Raises UsageError as `confirm` does.
    """
    if settings.config.confirm == "name":
        confirm(f"{question} Type the environment's name:", settings.environment, yes=yes)
    elif always or settings.config.confirm == "yes":
        confirm(f"{question} (yes)", "yes", yes=yes)


def _fail(error: OpsError, as_json: bool, action: str, code: int | None = None) -> None:
    status = error.exit_code if code is None else code
    if as_json:
        _print(document(Answer(outcome=error.outcome), action, error, status))
    else:
        with suppress(OSError):  # the terminal is gone; the exit code still tells
            print(explain(error), file=sys.stderr, flush=True)
    raise Exit(code=status)


def _print(text: str) -> None:
    try:
        print(text, flush=True)
    except BrokenPipeError:  # whoever read this has left; what was done stays done, and so does its exit code
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _action(body: Callable[..., object]) -> str:
    family = body.__module__.rpartition(".")[2]
    return family if body.__name__ == family else f"{family}.{body.__name__.rstrip('_')}"


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    return str(value)

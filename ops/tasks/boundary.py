"""Where a task meets its caller: errors become messages and exit codes, results become text or JSON."""

from __future__ import annotations

import dataclasses
import functools
import json as json_module
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task as invoke_task

from ops.errors import OpsError, UsageError
from ops.outcomes import Outcome
from ops.tasks.output import discard, following, say, tell
from ops.tasks.typed import Typed, values

if TYPE_CHECKING:
    from ops.config import Settings

__all__ = ["Answer", "document", "explain", "task"]

FORMAT = 1


@dataclass(frozen=True)
class Answer:
    """What a task found or did: `text` for people, `data` for machines, `outcome` where something ran.

    A task that works on a stack gives its `settings`: the document says what it is about, and no secret of theirs is
    printed.
    """

    text: str = ""
    data: object = None
    outcome: Outcome | None = None
    exit_code: int = 0
    settings: Settings | None = None

    @property
    def redact(self) -> Callable[[str], str]:
        """What takes the secrets out of text."""
        return self.settings.redactor if self.settings is not None else str


def task(
    *,
    help: Mapping[str, str] | None = None,  # noqa: A002  as Invoke's own decorator calls it
    name: str | None = None,
    default: bool = False,
) -> Callable[[Callable[..., Answer | None]], Any]:
    """Return a decorator that makes an Invoke task of a function which returns an `Answer`.

    The function's parameters are all options with defaults. `json` and `quiet` are honoured here: one document on
    stdout, or nothing on success. Failures print on stderr and end with the exit code of their class. Options come as
    `Typed` reads them.
    """

    def decorate(body: Callable[..., Answer | None]) -> Any:
        @functools.wraps(body)
        def run(c: Context, **options: Any) -> None:
            as_json, quiet = bool(options.get("json")), bool(options.get("quiet"))
            try:
                _refuse_dry(c)
                answer = body(c, **values(body, options)) or Answer()
            except OpsError as error:
                _fail(error, as_json, _action(body))
            except KeyboardInterrupt:
                _fail(OpsError("interrupted"), as_json, _action(body), code=130)
            except BrokenPipeError:
                discard(sys.stdout)
                discard(sys.stderr)
                raise Exit(code=1) from None
            except Exception as error:
                from ops.runs.log import unexpected

                _fail(unexpected(error, Path(), str), as_json, _action(body))
            if as_json:
                tell(document(answer, _action(body), code=answer.exit_code))
            elif answer.text and not (quiet and answer.exit_code == 0):
                tell(answer.redact(answer.text))
            if answer.exit_code:
                raise Exit(code=answer.exit_code)

        return invoke_task(
            run, name=name, default=default, help=dict(help or {}), auto_shortflags=False, klass=Typed
        )

    return decorate


def document(answer: Answer, action: str, error: OpsError | None = None, code: int = 0) -> str:
    """Return the JSON document of a task: every field of the design, unknown ones null."""
    about = ("", "") if answer.settings is None else (answer.settings.stack, answer.settings.environment)
    outcome = answer.outcome or Outcome(action, *about)
    told = None
    if error is not None:
        told = {
            "message": error.message,
            "target": error.target,
            "left_behind": error.left_behind,
            "next_step": error.next_step,
        }
    # Each text by itself: in the finished document a secret like 1234567 would take digits out of a number.
    fields, data, told = (
        _plain(part, answer.redact)
        for part in (
            outcome if outcome.action else dataclasses.replace(outcome, action=action),
            answer.data,
            told,
        )
    )
    assert isinstance(fields, dict)
    head = {"format": FORMAT, "ok": code == 0, "exit_code": code}
    fields = {key: (None if value == "" else value) for key, value in fields.items()}
    return json_module.dumps(head | fields | {"data": data, "error": told}, indent=2, ensure_ascii=False)


def explain(error: OpsError) -> str:
    """Return an error as a person reads it: what, where, what was left, what to do."""
    lines = [f"Error: {error}"]
    if error.left_behind:
        lines.append(f"Left behind: {error.left_behind}")
    if error.next_step:
        lines += following(error.next_step)
    if error.outcome is not None and error.outcome.log:
        lines.append(f"Log: {error.outcome.log}")
    return "\n".join(lines)


def _refuse_dry(c: Context) -> None:
    """Invoke's own `--dry` keeps its `c.run` from running; nothing here runs through that, so it would all be real."""
    if c.config.run.dry:
        raise UsageError(
            "--dry (-R, INVOKE_RUN_DRY, run.dry in invoke.yaml) is Invoke's own and does nothing here; nothing was done",
            next_step="leave it out, and add --dry-run behind deploy, deploy.rollback, build or servers.prepare; "
            "deploy.plan shows what a deploy would do",
        )


def _fail(error: OpsError, as_json: bool, action: str, code: int | None = None) -> None:
    status = error.exit_code if code is None else code
    if as_json:
        tell(document(Answer(outcome=error.outcome), action, error, status))
    else:
        say(explain(error))
    raise Exit(code=status)


def _action(body: Callable[..., object]) -> str:
    family = body.__module__.rpartition(".")[2]
    return family if body.__name__ == family else f"{family}.{body.__name__.rstrip('_')}"


def _plain(value: object, redact: Callable[[str], str]) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name), redact) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {redact(str(key)): _plain(item, redact) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item, redact) for item in value]
    if value is None or isinstance(value, (int, float, bool)):
        return value
    return redact(str(value))

"""Those who are not there hear how a run ends: the notifiers of ops.toml, and the dead man's switch of backups.

A run that fails before it is one (no connection, a credential without a value) is told as well: cron has no eyes.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from ops.config import Settings
from ops.config.names import ping_of
from ops.errors import ConfigError, OpsError
from ops.notify import notify
from ops.notify.ping import BODY, Event, Ping, ping
from ops.outcomes import Outcome
from ops.runs.journal import now
from ops.runs.log import RunLog
from ops.runs.reporting import Reporter
from ops.runs.run import new_run_id, operator

__all__ = ["Watch", "watched"]

_TAIL = BODY - 2_000  # bytes of the log that a ping brings; what stands before them fits into the rest


@contextmanager
def watched(settings: Settings, action: str, reporter: Reporter, *, pings: bool = False) -> Iterator[Watch]:
    """Tell the notifiers how the block ends, with `pings` also the URL of `[backup.ping]`, that one its start as well.

    Give the run the watch's `run_id`, and call `done` at the end of the block. What cannot be told is a warning: the
    block's own end stands, later by seconds at most.
    """
    watch = Watch(settings, action, reporter, pings=pings)
    try:
        yield watch
        watch.done()
    except OpsError as error:
        watch.failed(error)
        raise
    except BaseException as error:
        watch.failed(OpsError(f"{action} ended: {type(error).__name__}"))
        raise


class Watch:
    """What is told of one run; `run_id` is the run's."""

    def __init__(self, settings: Settings, action: str, reporter: Reporter, *, pings: bool) -> None:
        self.run_id = new_run_id()
        self._settings, self._action, self._reporter = settings, action, reporter
        self._began = Outcome(
            action, settings.stack, settings.environment, run_id=self.run_id, started_at=now()
        )
        self._begun = time.monotonic()
        self._ended: Outcome | None = None
        self._warnings: list[str] = []
        self._url = self._ping_url() if pings else None
        self._start = self._ping("start", self._head("started"))

    def done(self, outcome: Outcome | None = None) -> Outcome:
        """Tell a success; return the outcome, with what could not be told among its warnings."""
        if self._ended is None:
            outcome = outcome or replace(self._began, seconds=self._seconds)
            self._ended = outcome  # an interrupt while this is told makes no failure of it
            self._tell(outcome, 0, None)
            self._ended = replace(outcome, warnings=(*outcome.warnings, *self._warnings))
        return self._ended

    def failed(self, error: OpsError) -> None:
        """Tell a failure; what could not be told is among the warnings of the error's outcome."""
        if self._ended is not None:
            return
        told = error.outcome or self._began
        outcome = replace(
            told,
            action=told.action or self._action,
            run_id=told.run_id or self.run_id,
            started_at=told.started_at or self._began.started_at,
            seconds=told.seconds if told.seconds is not None else self._seconds,
        )
        self._ended = outcome
        self._tell(outcome, error.exit_code, self._settings.redactor(str(error)))
        error.outcome = replace(outcome, warnings=(*outcome.warnings, *self._warnings))

    def _tell(self, outcome: Outcome, exit_code: int, message: str | None) -> None:
        settings = self._settings
        how = "done" if exit_code == 0 else f"failed with exit code {exit_code}"
        text = "\n".join(filter(None, (self._head(how), message, _tail(outcome.log))))
        for warning in notify(settings.config.notify, settings.folder, outcome, exit_code, message):
            self._warn(warning)
        self._await("start", self._start)  # it goes first, or the end would be none of this run
        event: Event = "success" if exit_code == 0 else "fail"
        self._await(event, self._ping(event, text))

    @property
    def _seconds(self) -> float:
        return round(time.monotonic() - self._begun, 3)

    def _head(self, how: str) -> str:
        settings = self._settings
        return (
            f"{self._action} of {settings.stack} {settings.environment} by {operator()}: {how}\n"
            f"run {self.run_id}"
        )

    def _ping_url(self) -> str | None:
        written = ping_of(self._settings.config, self._action)
        try:
            return self._settings.values.plain(written) if written else None
        except ConfigError as error:
            self._warn(f"nobody is pinged: {error}")
            return None

    def _ping(self, event: Event, text: str) -> Ping | None:
        return ping(self._url, event, self.run_id, self._settings.redactor(text)) if self._url else None

    def _await(self, event: Event, sent: Ping | None) -> None:
        trouble = sent.trouble() if sent is not None else None
        if trouble is not None:
            self._warn(f"the ping of {self._action} ({event}) did not arrive: {trouble}")

    def _warn(self, text: str) -> None:
        settings = self._settings
        text = settings.redactor(text)
        self._warnings.append(text)
        self._reporter.say(f"warning: {text}")
        with suppress(OpsError), RunLog(settings.folder, self.run_id, settings.redactor) as log:
            log.write(f"warning: {text}")


def _tail(log: str | None) -> str:
    """Return the end of a run's log, masked as it stands there, from the beginning of a line."""
    try:
        content = Path(log).read_bytes() if log else b""
    except OSError:
        return ""
    if len(content) > _TAIL:
        content = content[-_TAIL:]
        content = content.partition(b"\n")[2] or content
    return content.decode(errors="replace").rstrip()

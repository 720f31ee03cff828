"""One changing run as it stands on the operator's side; deploy, rollback and the changes of a stack go through it."""

from __future__ import annotations

import getpass
import os
import secrets
import socket
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from ops.config import Settings
from ops.engines.layout import Layout
from ops.errors import Interrupted, Locked, OpsError, Unreachable
from ops.hosts import Cancellation, Cancelled, Host
from ops.outcomes import Outcome, Target
from ops.runs.execute import Workbench
from ops.runs.fence import Fence, FencedHost
from ops.runs.interruption import Interruption
from ops.runs.journal import Entry, now
from ops.runs.log import RunLog
from ops.runs.phases import Phase
from ops.runs.releases import layout_of
from ops.runs.reporting import Reporter

__all__ = ["Run", "new_run_id", "operator", "running"]


def new_run_id() -> str:
    """Return a fresh id of a run: its start in UTC and 4 hex digits."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}"


def operator() -> str:
    """Return who runs this: user@machine."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


@dataclass
class Run:
    """The state of a run on the operator's side. What must survive it stands on the servers.

    `reach` is the servers without a fence; `fence` is there once the lock is taken, `took_over` true when it was a
    dead run's. `lost` maps servers that the run goes on without to why. Its heartbeat is the thread `heart`, which
    beats until `ending` is set; it sets `overtaken` once another run has the lock, and `state_lost` once the state
    host has been silent for longer than a lock lasts.
    """

    settings: Settings
    action: str
    layout: Layout
    reach: Mapping[str, Host]
    state_host: str
    reporter: Reporter
    log: RunLog
    interruption: Interruption
    run_id: str = field(default_factory=new_run_id)
    started_at: str = field(default_factory=now)
    phase: Phase = Phase.CHECK
    fence: Fence | None = None
    took_over: bool = False
    release: str | None = None
    version: str | None = None
    migrated: bool = False
    warnings: list[str] = field(default_factory=list)
    lost: dict[str, OpsError] = field(default_factory=dict)
    heart: threading.Thread | None = None
    ending: threading.Event = field(default_factory=threading.Event)
    overtaken: bool = False
    state_lost: Unreachable | None = None
    _begun: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Seconds since the run began."""
        return round(time.monotonic() - self._begun, 3)

    @property
    def stopped_by(self) -> OpsError | None:
        """Why the run was cancelled where no signal did it: another took over, or the state host is lost."""
        if self.overtaken:
            return Locked("another run has taken over; this one changes nothing more")
        return self.state_lost if self.interruption.number is None else None

    @property
    def hosts(self) -> dict[str, Host]:
        """The servers, each of whose changes pass its fence."""
        assert self.fence is not None, "hosts are changed behind the lock only"
        return {name: FencedHost(host, self.layout, self.fence) for name, host in self.reach.items()}

    @property
    def state(self) -> Host:
        """The state host, fenced."""
        return self.hosts[self.state_host]

    def with_cancellation(self, cancellation: Cancellation) -> dict[str, Host]:
        """Return the fenced servers with another cancellation, over the same connections."""
        return {name: host.with_cancellation(cancellation) for name, host in self.hosts.items()}

    @property
    def bench(self) -> Workbench:
        """What executing steps needs."""
        return Workbench(
            self.settings.project, self.reporter, self.log, self.interruption.cancellation, self.warn
        )

    def warn(self, text: str) -> None:
        """Tell a warning and keep it for the end."""
        text = self.settings.redactor(text)
        self.warnings.append(text)
        self.log.write(f"warning: {text}")
        self.reporter.say(f"warning: {text}")

    def unexpected(self, error: Exception) -> OpsError:
        """Keep how an error came about that nobody foresaw; return it as one that people can read."""
        self.log.write("".join(traceback.format_exception(error)))
        return OpsError(
            f"unexpected {type(error).__name__}: {error}",
            next_step=f"report {self.log.path} as a fault of Opsbook",
        )

    def told(self, caught: Exception) -> OpsError:
        """Return what ended the run as people and the journal are told it."""
        if isinstance(caught, OpsError):
            return caught
        if not isinstance(caught, Cancelled):
            return self.unexpected(caught)
        return self.stopped_by or Interrupted(
            f"{self.action} was interrupted", signal_number=self.interruption.number or 2
        )

    def journal(self, event: str, **fields: object) -> Entry:
        """Return a journal entry of this run."""
        return Entry(
            at=now(),
            run_id=self.run_id,
            action=self.action,
            event=event,
            who=operator(),
            version=self.version,
            release=self.release,
            migrated=self.migrated,
            **fields,  # type: ignore[arg-type]  # the fields of Entry, named by the callers in this package
        )

    def outcome(self, targets: Mapping[str, Target]) -> Outcome:
        """Return what came of the run so far, given what became of each server."""
        return Outcome(
            action=self.action,
            stack=self.settings.stack,
            environment=self.settings.environment,
            run_id=self.run_id,
            release=self.release,
            version=self.version,
            started_at=self.started_at,
            seconds=self.seconds,
            targets=targets,
            warnings=tuple(self.warnings),
            log=str(self.log.path),
        )


@contextmanager
def running(
    settings: Settings,
    action: str,
    hosts: Mapping[str, Host],
    state_host: str,
    reporter: Reporter,
    interruption: Interruption,
    run_id: str | None = None,
) -> Iterator[Run]:
    """Give a new run with its log open and signals heard, to the end of the block. Raises as RunLog does.

    `run_id` is its id where somebody was told of it already.
    """
    run_id = run_id or new_run_id()
    with RunLog(settings.folder, run_id, settings.redactor) as log, interruption.listening():
        yield Run(
            settings,
            action,
            layout_of(settings),
            hosts,
            state_host,
            reporter,
            log,
            interruption,
            run_id=run_id,
        )

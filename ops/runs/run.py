"""One changing run from its lock to its last journal line; deploy, rollback and scale go through it."""

from __future__ import annotations

import getpass
import os
import secrets
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from ops.commands import Command
from ops.config import Settings
from ops.config.models import Hook
from ops.engines.layout import Layout
from ops.errors import FailedUnchanged, Locked, OpsError, Unreachable
from ops.hosts import Cancellation, Cancelled, Host
from ops.hosts.fleet import each
from ops.runs import lock
from ops.runs.fence import BUSY, FENCED, Fence, FencedHost, raise_fence
from ops.runs.hooks import HookFailed, hook_environment, run_on_host, run_on_operator
from ops.runs.interruption import Interruption
from ops.runs.journal import Entry, now
from ops.runs.log import RunLog
from ops.runs.phases import Phase
from ops.runs.reporting import Reporter

__all__ = ["Run", "ended_in_between", "new_run_id", "operator"]

POLL = 2.0  # seconds between tries for a lock that another holds


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


def ended_in_between() -> Locked:
    """Return the error of a run that finds, once it has the lock, that another was at work since it looked."""
    return Locked(
        "another run was at work while this one looked at the servers; nothing was changed",
        next_step="inv deploy.status, then run this again; --wait SECONDS goes on by itself",
    )


@dataclass
class Run:
    """The state of a run on the operator's side. What must survive it stands on the servers."""

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
    release: str | None = None
    version: str | None = None
    migrated: bool = False
    warnings: list[str] = field(default_factory=list)
    lost: dict[str, OpsError] = field(default_factory=dict)
    _begun: float = field(default_factory=time.monotonic)
    _alive: threading.Event = field(default_factory=threading.Event)
    _heart: threading.Thread | None = None
    took_over: bool = False
    _fenced_off: bool = False
    _state_lost: Unreachable | None = None

    @property
    def seconds(self) -> float:
        """Seconds since the run began."""
        return round(time.monotonic() - self._begun, 3)

    @property
    def overtaken(self) -> bool:
        """True once another run took over the lock."""
        return self._fenced_off

    @property
    def stopped_by(self) -> OpsError | None:
        """Why the run was cancelled where no signal did it: another took over, or the state host is lost."""
        if self._fenced_off:
            return Locked("another run has taken over; this one changes nothing more")
        return self._state_lost if self.interruption.number is None else None

    @property
    def hosts(self) -> dict[str, Host]:
        """The servers, each of whose changes pass its fence."""
        assert self.fence is not None, "hosts are changed behind the lock only"
        return {name: FencedHost(host, self.layout, self.fence) for name, host in self.reach.items()}

    @property
    def state(self) -> Host:
        """The state host, fenced."""
        return self.hosts[self.state_host]

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

    @contextmanager
    def during(self, phase: Phase) -> Iterator[None]:
        """Mark a phase: its hooks before, its body, its hooks after; an interrupt before it is raised here."""
        self.interruption.cancellation.check()
        self.phase = phase
        self.reporter.phase(phase)
        self.log.write(f"phase {phase}")
        self._run_hooks("before", phase)
        yield
        self._run_hooks("after", phase)

    def take_lock(self, holder: lock.Holder, *, floor: int, take_over: str | None, wait: float) -> int:
        """Take the lock and raise the fence on every server; return the token.

        Raises Locked when another holds it past `wait` seconds, NeedsPerson when its holder died and `take_over`
        does not name it, Unreachable or FailedUnchanged when a server does not accept the run.
        """
        config = self.settings.config
        host = self.reach[self.state_host]
        deadline = time.monotonic() + wait
        told = False
        while True:
            # Cut off in between, it might leave a lock that nobody knows to be his.
            with self.interruption.deferred():
                result = host.run(
                    lock.acquire(
                        self.layout,
                        holder,
                        self.journal("started", previous=holder.previous).to_json(),
                        floor=floor,
                        take_over=take_over,
                        stale_after=config.lock.stale_after,
                    )
                )
            if result.ok:
                break
            if result.status == BUSY:
                raise self._busy(self.state_host)
            if result.status != lock.HELD:
                raise FailedUnchanged(
                    f"cannot take the lock: {result.last_lines}",
                    target=self.state_host,
                    next_step="inv servers.prepare",
                )
            error = lock.held_error(
                result.stdout,
                stale_after=config.lock.stale_after,
                where=self.settings.options,
            )
            if not isinstance(error, Locked) or time.monotonic() > deadline:
                raise error
            if not told:
                self.reporter.say(f"{error}; waiting up to {wait:g} s")
                told = True
            self.interruption.cancellation.wait(POLL)
        got, token = result.stdout.split()[-2:]
        self.took_over = got == "dead"
        self.fence = Fence(int(token), self.run_id)
        fence = self.fence

        def accept(host: Host) -> None:
            name = host.name
            answer = host.run(raise_fence(self.layout, fence))
            if answer.status == FENCED:
                raise Locked("a later run is at work here", target=name)
            if answer.status == BUSY:
                raise self._busy(name)
            if not answer.ok:
                raise FailedUnchanged(
                    f"cannot write to {self.layout.root}: {answer.last_lines}",
                    target=name,
                    next_step="inv servers.prepare",
                )

        self.start_heartbeat()
        answers = each({name: host for name, host in self.reach.items() if name != self.state_host}, accept)
        faults = [answer for answer in answers.values() if isinstance(answer, OpsError)]
        if faults:
            raise faults[0]
        return fence.token

    def _busy(self, name: str) -> Locked:
        return Locked(
            "the last command of an earlier run is still at work here",
            target=name,
            next_step="wait for its end, then run this again",
        )

    def correct_holder(self, holder: lock.Holder) -> None:
        """Say in the lock what is known only behind it, for whoever comes after this run should it die."""
        result = self.state.run(lock.amend(self.layout, holder))
        if not result.ok:
            raise FailedUnchanged(
                f"cannot write the lock's holder: {result.last_lines}", target=self.state_host
            )

    def start_heartbeat(self) -> None:
        """Show signs of life in a thread, until `finish`."""
        self._heart = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self._heart.start()

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

    def finish(self, event: str, exit_code: int, message: str | None = None) -> None:
        """Stop the heartbeat, write the journal's last line, give the lock back. Never raises; what fails is a warning."""
        self._end(event, exit_code, message, lock.release, "given back")

    def abandon(self, event: str, exit_code: int, message: str | None = None) -> None:
        """End as `finish` does, but leave the lock as that of a dead run: what it did waits for --resume or rollback."""
        self._end(event, exit_code, message, lock.abandon, "marked")

    def _end(
        self,
        event: str,
        exit_code: int,
        message: str | None,
        command: Callable[[Layout, str], Command],
        what: str,
    ) -> None:
        self._alive.set()
        if self._heart is not None:
            self._heart.join(timeout=20)
        if self.fence is None or self._fenced_off:
            return
        text = self.settings.redactor(message) if message else None
        entry = self.journal(event, exit_code=exit_code, seconds=self.seconds, message=text)
        try:
            result = self.with_cancellation(Cancellation())[self.state_host].run(
                command(self.layout, entry.to_json())
            )
            trouble = None if result.ok else result.last_lines
        except Locked:
            return  # it is another's by now
        except (OpsError, Cancelled) as error:
            trouble = str(error)
        if trouble is not None:
            self.warn(f"{self.state_host}: the lock could not be {what}: {trouble}; inv deploy.unlock")

    def with_cancellation(self, cancellation: Cancellation) -> dict[str, Host]:
        """Return the fenced servers with another cancellation, over the same connections."""
        assert self.fence is not None
        return {
            name: FencedHost(host.with_cancellation(cancellation), self.layout, self.fence)
            for name, host in self.reach.items()
        }

    def fail_hooks(self, cancellation: Cancellation) -> None:
        """Run the hooks for a failure; what fails in them is a warning."""
        for hook in self.settings.config.hooks:
            if hook.on == "failure":
                try:
                    self._run_hook(hook, self.phase, cancellation)
                except (OpsError, Cancelled) as error:
                    self.warn(str(error))

    def _run_hooks(self, on: str, phase: Phase) -> None:
        for hook in self.settings.config.hooks:
            if hook.on == on and hook.phase == phase:
                try:
                    self._run_hook(hook, phase, self.interruption.cancellation)
                except HookFailed as error:
                    if hook.on_error == "fail":
                        raise
                    self.warn(str(error))

    def _run_hook(self, hook: Hook, phase: Phase, cancellation: Cancellation) -> None:
        facts = {
            "OPS_STACK": self.settings.stack,
            "OPS_ENVIRONMENT": self.settings.environment,
            "OPS_VERSION": self.version or "",
            "OPS_RELEASE": self.release or "",
            "OPS_RUN_ID": self.run_id,
            "OPS_PHASE": str(phase),
        }
        environment = hook_environment(hook, self.settings.values, facts)
        self.log.write(f"hook {hook.on} {phase}: {hook.run}")
        if hook.where == "operator":
            self.log.write(run_on_operator(hook, self.settings.folder, environment, cancellation))
            return
        if self.fence is None:
            raise HookFailed(
                f"hook {hook.run!r} cannot run on servers before the lock is taken (phase {phase})"
            )
        hosts = self.with_cancellation(cancellation)
        chosen = [self.state_host] if hook.where == "state_host" else [n for n in hosts if n not in self.lost]
        folder = self.layout.release(self.release) if self.release else self.layout.root
        for name in chosen:
            told = run_on_host(hook, hosts[name], folder, environment, otherwise=self.layout.root)
            self.log.write(told, name)

    def _beat(self) -> None:
        config = self.settings.config.lock
        last = time.monotonic()
        hosts = self.with_cancellation(Cancellation())
        while not self._alive.wait(config.heartbeat):
            try:
                hosts[self.state_host].run(lock.beat(self.layout, str(self.phase)))
                last = time.monotonic()
            except Locked:
                self._fenced_off = True
                self.interruption.cancellation.cancel()
                return
            except (OpsError, Cancelled):
                if isinstance(last, float) and time.monotonic() - last > config.stale_after:
                    # Another run may take over now; the fences keep this one from changing anything if it does.
                    self.log.write("no heartbeat for longer than a lock lasts", self.state_host)
                    self._state_lost = Unreachable("the state host is lost", target=self.state_host)
                    if self.settings.config.on_host_lost == "rollback":
                        self.interruption.cancellation.cancel()
                        return
                    self.lost[self.state_host] = self._state_lost

"""Writes paused while all datastores are dumped, by the stack's own commands, so that they are of one point in time.

Whatever becomes of this machine or the connection, the server itself leaves the pause: the command that entered it waits
there, for no longer than `[backup.maintenance] limit`, and leaves when it is let go, ended, or out of time.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from ops.commands import Command, quote
from ops.config.backups import Maintenance
from ops.errors import FailedUnchanged, NeedsPerson, OpsError
from ops.hosts import Cancellation, Cancelled, CommandFailed, Host
from ops.runs.run import Run

__all__ = ["Pause", "paused"]

_OVER = 75
_LEFT = 70  # status of a pause that could not be left


class Pause:
    """A pause that goes on; one that nobody asked for never ends."""

    def __init__(self, limit: float = float("inf")) -> None:
        self._limit, self._begun = limit, time.monotonic()

    def check(self) -> None:
        """Raise FailedUnchanged once the pause may be over, and what is dumped of another time."""
        if time.monotonic() - self._begun > self._limit:
            raise _over(self._limit)


@contextmanager
def paused(run: Run, maintenance: Maintenance | None) -> Iterator[Pause]:
    """Enter the pause on its servers, and leave it at the end of the block; without `maintenance` nothing is paused.

    Raises FailedUnchanged where it cannot be entered or lasts longer than its limit, NeedsPerson where it cannot be left.
    """
    if maintenance is None:
        yield Pause()
        return
    names = [run.state_host] if maintenance.where == "state_host" else list(run.settings.config.servers)
    with ExitStack() as held:
        for name in names:
            held.enter_context(_held(run, run.reach[name], maintenance))
        yield Pause(maintenance.limit)


@contextmanager
def _held(run: Run, host: Host, maintenance: Maintenance) -> Iterator[None]:
    command = _pausing(run, maintenance)
    run.reporter.step(host.name, command.shown)
    run.log.write(f"$ {command.shown}", host.name)
    # Its own end is heard even when the run is interrupted: nobody may be left waiting before a site in maintenance.
    host = host.with_cancellation(Cancellation())
    try:
        with host.stream_out(command) as lines:
            flag = b"".join(_line(lines)).decode().strip()
            try:
                yield
            finally:
                with suppress(OpsError, Cancelled):  # it ends by itself, too
                    host.run(Command(f"rm -f -- {quote(flag)}", changes="the pause", title="leave the pause"))
                for _ in lines:
                    pass
    except CommandFailed as error:
        if error.result.status == _OVER:
            raise _over(maintenance.limit) from error
        if error.result.status == _LEFT:
            raise NeedsPerson(
                f"the pause of writes could not be left: {error.result.last_lines}",
                target=host.name,
                left_behind=f"what [backup.maintenance] enter does: {maintenance.enter}",
                next_step=f"run on {host.name}: {maintenance.leave}",
            ) from error
        raise FailedUnchanged(f"writes could not be paused: {error}", target=host.name) from error


def _pausing(run: Run, maintenance: Maintenance) -> Command:
    """Return the command that enters the pause, prints the file whose removal ends it, and leaves it at its end."""
    turns = max(1, round(maintenance.limit / 0.2))
    # What leaves is in a session of its own: the shell's group may be killed before it is done.
    leaving = f'setsid sh -c {quote(maintenance.leave)} >"$f.said" 2>&1 </dev/null & wait $!'
    script = (
        f"cd {quote(run.layout.current)} 2>/dev/null || cd {quote(run.layout.root)} || exit 1; f=$(mktemp) || exit 1; "
        f'_ops_leave() {{ s=$?; trap "" TERM INT HUP PIPE; {leaving}; l=$?; cat "$f.said" >&2; rm -f "$f" "$f.said"; '
        f"[ $l = 0 ] || s={_LEFT}; exit $s; }}; "
        "trap _ops_leave EXIT; trap 'exit 143' TERM INT HUP PIPE; "
        f'sh -c {quote(maintenance.enter)} >"$f.said" 2>&1 </dev/null || {{ cat "$f.said" >&2; exit 1; }}; echo "$f"; '
        f'i=0; while [ -e "$f" ]; do i=$((i+1)); [ $i -le {turns} ] || exit {_OVER}; sleep 0.2; done'
    )
    return Command(script, changes="whatever the pause changes", timeout=None, title=maintenance.enter)


def _line(lines: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the pieces of the first line."""
    for piece in lines:
        yield piece
        if b"\n" in piece:
            return


def _over(limit: float) -> FailedUnchanged:
    return FailedUnchanged(
        f"writes were paused for {limit:g} s, and the dumps take longer",
        next_step="raise [backup.maintenance] limit, or take consistent = true out",
    )

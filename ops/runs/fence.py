"""A run changes a server only while that server knows no later run: the check stands on the server itself."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

from ops.commands import Command, Result, quote
from ops.engines.layout import Layout
from ops.errors import Locked
from ops.hosts import Cancellation, CommandFailed, Connection, Host
from ops.hosts.base import Tell

__all__ = ["BUSY", "FENCED", "Fence", "FencedHost", "raise_fence"]

FENCED, BUSY = 98, 97


@dataclass(frozen=True)
class Fence:
    """A run's claim: tokens grow with each holder of the lock, whatever clocks say."""

    token: int
    run_id: str

    @property
    def text(self) -> str:
        """What the fence file holds."""
        return f"{self.token} {self.run_id}"


def raise_fence(layout: Layout, fence: Fence) -> Command:
    """Return the command by which a server accepts a run, with the folders that it writes to, and refuses all earlier ones.

    It waits for commands of the earlier run that are under way, at most a minute.
    """
    return Command(
        f"umask 077; mkdir -p {quote(layout.root)} && cd {quote(layout.root)} && mkdir -p releases files shared proxy || exit 1; "
        "exec 9>>.fence.lock; "
        f"flock -x -w 60 9 || {{ echo 'a command of an earlier run is still at work here' >&2; exit {BUSY}; }}; "
        f"old=$(cut -d' ' -f1 fence 2>/dev/null); [ \"${{old:-0}}\" -lt {fence.token} ] || exit {FENCED}; "
        f"printf '%s\\n' {quote(fence.text)} > fence",
        changes="fence",
        timeout=70,
        title="accept this run, refuse earlier ones",
    )


class FencedHost:
    """A host whose changing commands run only while the fence is this run's; reading ones pass."""

    def __init__(self, host: Host, layout: Layout, fence: Fence) -> None:
        self._host, self._layout, self._fence = host, layout, fence

    @property
    def name(self) -> str:
        return self._host.name

    def run(self, command: Command) -> Result:
        return self._checked(self._host.run(self._guard(command)), command)

    def run_all(self, commands: Sequence[Command]) -> tuple[Result, ...]:
        results = self._host.run_all([self._guard(command) for command in commands])
        return tuple(
            self._checked(result, command) for result, command in zip(results, commands, strict=False)
        )

    def stream_out(
        self, command: Command, tell: Tell | None = None
    ) -> AbstractContextManager[Iterator[bytes]]:
        return self._host.stream_out(self._guard(command), tell)

    def stream_in(self, command: Command, chunks: Iterable[bytes]) -> Result:
        return self._checked(self._host.stream_in(self._guard(command), chunks), command)

    def put(self, content: bytes, path: str, *, mode: int = 0o644) -> None:
        folder, target, part = quote(posixpath.dirname(path) or "."), quote(path), quote(path + ".part")
        script = f"mkdir -p {folder} && umask 077 && cat > {part} && chmod {mode:o} {part} && mv -f {part} {target}"
        result = self.run(Command(script, stdin=content, changes=path, title=f"write {path}"))
        if not result.ok:
            raise CommandFailed(f"write {path}", result, target=self.name)

    def get(self, path: str) -> bytes:
        return self._host.get(path)

    def connect(self, address: str, port: int, *, timeout: float = 5.0) -> Connection:
        return self._host.connect(address, port, timeout=timeout)

    def expose(self, port: int, to_port: int) -> AbstractContextManager[None]:
        return self._host.expose(port, to_port)

    def follow(self, command: Command, write: Callable[[bytes], object]) -> int:
        return self._host.follow(self._guard(command), write)

    def with_cancellation(self, cancellation: Cancellation) -> Host:
        return FencedHost(self._host.with_cancellation(cancellation), self._layout, self._fence)

    def terminal(self, command: Command) -> int:
        return self._host.terminal(self._guard(command))

    def close(self) -> None:
        self._host.close()

    def _guard(self, command: Command) -> Command:
        if command.changes is None:
            return command
        # Stdin comes to its end before the lock is taken: a laptop that freezes while it sends must not keep others out.
        spool = 't=$(mktemp) && exec 8>"$t" 7<"$t" && rm -f "$t" && cat >&8 && exec 8>&- <&7 7<&- || exit 1; '
        # The shared lock is held while the command runs, so that a run that takes over waits for its end.
        script = (
            f"{spool if command.stdin else ''}"
            f"exec 9>>{quote(self._layout.root + '/.fence.lock')} && flock -s -w 60 9 || exit {BUSY}; "
            f'[ "$(cat {quote(self._layout.fence)} 2>/dev/null)" = {quote(self._fence.text)} ] || exit {FENCED}; '
            f"{command.script}"
        )
        return replace(command, script=script, title=command.shown)

    def _checked(self, result: Result, command: Command) -> Result:
        if command.changes is not None and result.status == FENCED:
            raise Locked(
                "another run has taken over; this one changes nothing more",
                target=self.name,
                next_step="inv deploy.status",
            )
        return result

"""The verbs that run something, over whatever starts a shell: the same for SSH and for this machine."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager

from ops.commands import Command, Result, quote
from ops.errors import OpsError
from ops.hosts.base import Tell
from ops.hosts.cancellation import Cancellation
from ops.hosts.conversation import PIECE, Conversation, Process
from ops.hosts.failures import CommandFailed, ConnectionLost
from ops.hosts.script import End, Script, batch, held, streaming

__all__ = ["Runner"]


class Runner:
    """Runs commands through `start`; ends on the host, through `stop`, what did not come to its own end."""

    def __init__(
        self,
        name: str,
        start: Callable[[], AbstractContextManager[Process]],
        stop: Callable[[int], None],
        cancellation: Cancellation,
    ) -> None:
        self._name = name
        self._start = start
        self._stop = stop
        self._cancellation = cancellation

    def run(self, command: Command) -> Result:
        """Run one command."""
        return self.run_all((command,))[0]

    def run_all(self, commands: Sequence[Command]) -> tuple[Result, ...]:
        """Run commands in one round trip, up to the first that fails."""
        if not commands:
            return ()
        results = _Results()
        with self._talk(batch(commands)) as talk:
            talk.expect(commands[0].shown, commands[0].timeout)
            for is_error, event in talk:
                if isinstance(event, bytes):
                    results.add(is_error, event)
                elif isinstance(event, End):
                    results.end(is_error, event.status)
                    if not is_error and event.index + 1 < len(commands):
                        following = commands[event.index + 1]
                        talk.expect(following.shown, following.timeout)
        return results.all()

    @contextmanager
    def stream_out(self, command: Command, tell: Tell | None = None) -> Iterator[Iterator[bytes]]:
        """Give stdout in chunks of at most 256 KiB; `tell` is handed stderr."""
        with self._talk(held(command)) as talk, closing(self._chunks(talk, command, tell)) as chunks:
            yield chunks

    def _chunks(
        self, talk: Conversation, command: Command, tell: Tell | None
    ) -> Generator[bytes, None, None]:
        talk.expect(command.shown, command.timeout)
        status, errors = 0, _Tail()
        for is_error, event in talk:
            if isinstance(event, End):
                status = status if is_error else event.status
            elif isinstance(event, bytes):
                if is_error:
                    errors.add(event)
                    if tell is not None:
                        tell(event)
                else:
                    yield from (event[at : at + PIECE] for at in range(0, len(event), PIECE))
        if status:
            raise CommandFailed(command.shown, Result(status, "", errors.text), target=self._name)

    def stream_in(self, command: Command, chunks: Iterable[bytes]) -> Result:
        """Feed chunks to the command; when their source fails, the command is ended, not told the end."""
        results = _Results()
        with self._talk(streaming(command), chunks) as talk:
            talk.expect(command.shown, command.timeout)
            for is_error, event in talk:
                if isinstance(event, bytes):
                    results.add(is_error, event)
                elif isinstance(event, End):
                    results.end(is_error, event.status)
        return results.all()[0]

    def follow(self, command: Command, write: Callable[[bytes], object]) -> int:
        """Hand stdout and stderr to `write` as they come; return the exit status."""
        status = 0
        with self._talk(batch((command,))) as talk:
            talk.expect(command.shown, command.timeout)
            for is_error, event in talk:
                if isinstance(event, bytes):
                    write(event)
                elif isinstance(event, End) and not is_error:
                    status = event.status
        return status

    def put(self, content: bytes, path: str, mode: int) -> None:
        """Write a file atomically through stdin."""
        folder, target = posixpath.dirname(path) or ".", quote(path)
        pattern = quote(posixpath.join(folder, f".{posixpath.basename(path)}.XXXXXX"))
        script = (
            f"mkdir -p -- {quote(folder)} && umask 077 && new=$(mktemp -- {pattern}) || exit 1; "
            "trap 'rm -f -- \"$new\"' EXIT; trap 'exit 143' TERM INT HUP; "
            f'cat >"$new" && chmod {mode:o} -- "$new" && mv -fT -- "$new" {target}'
        )
        timeout = 60 + len(content) / 100_000
        self._must(
            Command(script, stdin=content, changes=f"writes {path}", timeout=timeout, title=f"write {path}")
        )

    def get(self, path: str) -> bytes:
        """Return a file's bytes."""
        with self.stream_out(Command(f"cat -- {quote(path)}", timeout=None, title=f"read {path}")) as chunks:
            return b"".join(chunks)

    def _must(self, command: Command) -> None:
        result = self.run(command)
        if not result.ok:
            raise CommandFailed(command.shown, result, target=self._name)

    @contextmanager
    def _talk(self, script: Script, source: Iterable[bytes] = ()) -> Iterator[Conversation]:
        self._cancellation.check()
        with self._start() as process:
            talk = Conversation(process, script, self._cancellation, host=self._name, source=source)
            try:
                yield talk
            finally:
                if not talk.done and not process.ended:
                    self._end(talk)

    def _end(self, talk: Conversation) -> None:
        """End what a conversation left behind; raises ConnectionLost when it may still run."""
        try:
            group = talk.begun()
            if group is not None:
                self._stop(group)
        except (OSError, OpsError) as error:
            why = error.message if isinstance(error, OpsError) else error
            raise ConnectionLost(
                f"{why}, so this could not be ended: {talk.shown}",
                target=self._name,
                left_behind="it is not known whether it still runs",
            ) from error


class _Results:
    """Collects the output of framed commands, one pair of streams for each."""

    def __init__(self) -> None:
        self._parts: tuple[list[bytes], list[bytes]] = ([], [])
        self._whole: tuple[list[str], list[str]] = ([], [])
        self._statuses: list[int] = []

    def add(self, is_error: bool, data: bytes) -> None:
        self._parts[is_error].append(data)

    def end(self, is_error: bool, status: int) -> None:
        self._whole[is_error].append(b"".join(self._parts[is_error]).decode(errors="replace"))
        self._parts[is_error].clear()
        if not is_error:
            self._statuses.append(status)

    def all(self) -> tuple[Result, ...]:
        return tuple(map(Result, self._statuses, *self._whole))


class _Tail:
    """The last 64 KiB of a stream."""

    def __init__(self) -> None:
        self._data = b""

    def add(self, data: bytes) -> None:
        self._data = (self._data + data)[-65536:]

    @property
    def text(self) -> str:
        return self._data.decode(errors="replace")

"""One server's connection, shared by all threads: opened when first needed, at most two sessions at once.

Imported when first used.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import paramiko

from ops.errors import Unreachable
from ops.hosts.cancellation import Cancellation
from ops.hosts.channel import ChannelProcess, close_channel, open_channel
from ops.hosts.conversation import Process
from ops.hosts.dial import Chain, dial
from ops.hosts.failures import ConnectionLost
from ops.hosts.route import Endpoint
from ops.hosts.waiting import acquire, waited

__all__ = ["Link"]

T = TypeVar("T")
_SESSION_RETRY = 10.0  # seconds: sshd counts a session until its shell has ended


class Link:
    """Opens, counts and closes what goes to one server. `resolve` gives the way there, asked at the first verb."""

    def __init__(
        self,
        name: str,
        resolve: Callable[[], tuple[Endpoint, ...]],
        *,
        environment: str = "",
        silence: float = 20.0,
        sessions: int = 2,
    ) -> None:
        self.name = name
        self.round_trips = 0
        self._resolve = resolve
        self._environment = environment
        self._silence = silence
        self._slots = threading.BoundedSemaphore(sessions)
        self._opening = threading.Lock()
        self._counting = threading.Lock()
        self._chain: Chain | None = None
        self._tight = False

    def chain(self, cancellation: Cancellation) -> Chain:
        """Return the open connection, dialled where there is none."""
        chain = self._chain
        if chain is not None and chain.active:
            cancellation.check()
            return chain
        acquire(self._opening, cancellation)
        try:
            if self._chain is None or not self._chain.active:
                self._chain = waited(self._dial, cancellation, Chain.close)
            return self._chain
        finally:
            self._opening.release()

    def _dial(self) -> Chain:
        return dial(self.name, self._resolve(), self._silence, self._environment)

    @contextmanager
    def session(self, line: str, cancellation: Cancellation) -> Iterator[Process]:
        """Give a process that executes `line`, in one of the slots."""
        acquire(self._slots, cancellation)
        try:
            with self._execute(self.chain(cancellation), line, cancellation) as process:
                yield process
        finally:
            self._slots.release()

    @contextmanager
    def spare_session(self, line: str) -> Iterator[Process]:
        """Give a process beside the slots, over a connection of its own where sshd grants no third session."""
        chain, cancellation = self._chain, Cancellation()
        if chain is None or not chain.active:
            raise ConnectionLost(
                chain.lost if chain and chain.lost else "the connection is gone", target=self.name
            )
        try:
            channel = waited(lambda: open_channel(chain, line), cancellation, close_channel)
        except paramiko.ChannelException:
            own = waited(self._dial, cancellation, Chain.close)
            try:
                with self._execute(own, line, cancellation) as process:
                    yield process
            finally:
                own.close()
            return
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise ConnectionLost(chain.lost or f"the connection broke ({error})", target=self.name) from error
        try:
            yield ChannelProcess(channel, chain)
        finally:
            close_channel(channel)

    @contextmanager
    def terminal_channel(self, cancellation: Cancellation) -> Iterator[paramiko.Channel]:
        """Give an open session channel, in one of the slots, on which nothing runs yet."""
        acquire(self._slots, cancellation)
        try:
            channel = self.asked(lambda chain: chain.transport.open_session(), cancellation, close_channel)
            try:
                yield channel
            finally:
                close_channel(channel)
        finally:
            self._slots.release()

    def asked(
        self, work: Callable[[Chain], T], cancellation: Cancellation, discard: Callable[[T], object]
    ) -> T:
        """Do something with the connection, counted as a round trip; a broken one raises ConnectionLost."""
        chain = self.chain(cancellation)
        self._count()
        try:
            return waited(lambda: work(chain), cancellation, discard)
        except (EOFError, paramiko.SSHException) as error:
            if chain.active:
                raise
            raise ConnectionLost(chain.lost or f"the connection broke ({error})", target=self.name) from error

    @contextmanager
    def _execute(self, chain: Chain, line: str, cancellation: Cancellation) -> Iterator[Process]:
        self._count()
        deadline = time.monotonic() + _SESSION_RETRY
        fresh = False
        while True:
            try:
                at = chain
                channel = waited(lambda: open_channel(at, line), cancellation, close_channel)  # noqa: B023, done before `at` moves
                break
            except paramiko.ChannelException as error:
                self._tight = True
                if time.monotonic() > deadline:
                    raise Unreachable(
                        f"sshd grants no session: {error.text}",
                        target=self.name,
                        next_step="raise MaxSessions in its sshd_config (2 are enough)",
                    ) from error
                cancellation.wait(0.05)
            except (OSError, EOFError, paramiko.SSHException) as error:
                if chain.active or chain.lost or fresh or chain is not self._chain:
                    raise ConnectionLost(
                        chain.lost or f"the connection broke ({error})", target=self.name
                    ) from error
                chain, fresh = self.chain(cancellation), True  # it had died idle: nothing was executed yet
        try:
            yield ChannelProcess(channel, chain)
            if (
                self._tight
            ):  # sshd grants few sessions: the slot is free for others once it has seen this one's end
                channel.status_event.wait(1.0)
        finally:
            close_channel(channel)

    def _count(self) -> None:
        with self._counting:
            self.round_trips += 1

    def close(self) -> None:
        """End the connection."""
        chain, self._chain = self._chain, None
        if chain is not None:
            chain.close()

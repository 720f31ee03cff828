"""One server's connection, shared by all threads: opened when first needed, at most two sessions at once.

Imported when first used.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TypeVar

import paramiko

from ops.errors import Unreachable
from ops.hosts.cancellation import Cancellation
from ops.hosts.channel import ChannelProcess, close_channel, open_channel
from ops.hosts.conversation import Process
from ops.hosts.dial import Chain, dial
from ops.hosts.failures import ConnectionLost
from ops.hosts.route import Endpoint
from ops.hosts.waiting import Job, acquire, result_of, waited

__all__ = ["Link"]

T = TypeVar("T")
_SESSION_RETRY = 20.0  # seconds: sshd counts a session until its shell has ended, killed where it has to be
_BROKEN = (OSError, EOFError, paramiko.SSHException)


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
        self._begun: Job[Chain] | None = None
        self._tight = False

    def begin(self) -> None:
        """Start to dial and return at once; the first verb waits for it, and raises what it met."""
        self._begun = Job(self._dial, Chain.close)

    def chain(self, cancellation: Cancellation) -> Chain:
        """Return the open connection, dialled where there is none."""
        chain = self._chain
        if chain is not None and chain.active:
            cancellation.check()
            return chain
        acquire(self._opening, cancellation)
        try:
            begun, self._begun = self._begun, None
            if begun is not None:
                self._chain = result_of(begun, cancellation)
            if self._chain is None or not self._chain.active:  # it may have gone while a person was asked
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
            chain, channel = self._granted(partial(open_channel, line=line), cancellation)
            try:
                yield ChannelProcess(channel, chain)
                if self._tight:  # the slot is of use to others once sshd has seen this session's end
                    channel.status_event.wait(1.0)
            finally:
                close_channel(channel)
        finally:
            self._slots.release()

    @contextmanager
    def spare_session(self, line: str) -> Iterator[Process]:
        """Give a process beside the slots, over a connection of its own where sshd grants no third session."""
        chain, cancellation, work = self._chain, Cancellation(), partial(open_channel, line=line)
        if chain is None or not chain.active:
            raise ConnectionLost(
                chain.lost if chain and chain.lost else "the connection is gone", target=self.name
            )
        with ExitStack() as opened:
            try:
                channel = self._once(chain, work, cancellation)
            except paramiko.ChannelException:
                chain = waited(self._dial, cancellation, Chain.close)
                opened.callback(chain.close)
                try:
                    channel = self._insisted(chain, work, cancellation)
                except _BROKEN as error:
                    raise self._failure(chain, error) from error
            except _BROKEN as error:
                raise self._failure(chain, error) from error
            opened.callback(close_channel, channel)
            yield ChannelProcess(channel, chain)

    @contextmanager
    def terminal_channel(self, cancellation: Cancellation) -> Iterator[paramiko.Channel]:
        """Give an open session channel, in one of the slots, on which nothing runs yet."""
        acquire(self._slots, cancellation)
        try:
            chain, channel = self._granted(lambda chain: chain.transport.open_session(), cancellation)
            try:
                yield channel
            except (EOFError, paramiko.SSHException) as error:
                raise self._failure(chain, error) from error
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
            return waited(lambda: work(chain), cancellation, discard, lambda: chain.active)
        except _BROKEN as error:
            if chain.active:
                raise
            raise self._failure(chain, error) from error

    def _granted(
        self, work: Callable[[Chain], paramiko.Channel], cancellation: Cancellation
    ) -> tuple[Chain, paramiko.Channel]:
        """Return the session that `work` opens, and the connection it is on."""
        chain = self.chain(cancellation)
        try:
            return chain, self._insisted(chain, work, cancellation)
        except _BROKEN as error:
            if chain.active or chain.lost:
                raise self._failure(chain, error) from error
        chain = self.chain(cancellation)  # the other had died idle: nothing was executed yet
        try:
            return chain, self._insisted(chain, work, cancellation)
        except _BROKEN as error:
            raise self._failure(chain, error) from error

    def _insisted(
        self, chain: Chain, work: Callable[[Chain], paramiko.Channel], cancellation: Cancellation
    ) -> paramiko.Channel:
        """Return the session that `work` opens, tried again while sshd grants none; raises what paramiko raises."""
        self._count()
        deadline = time.monotonic() + _SESSION_RETRY
        while True:
            try:
                return self._once(chain, work, cancellation)
            except paramiko.ChannelException as error:
                self._tight = True
                if time.monotonic() > deadline:
                    raise Unreachable(
                        f"sshd grants no session: {error.text}",
                        target=self.name,
                        next_step="raise MaxSessions in its sshd_config (2 are enough)",
                    ) from error
            cancellation.wait(0.05)

    def _once(
        self, chain: Chain, work: Callable[[Chain], paramiko.Channel], cancellation: Cancellation
    ) -> paramiko.Channel:
        # Paramiko waits without end for the answer to an exec that it did not send, the connection being gone.
        return waited(lambda: work(chain), cancellation, close_channel, lambda: chain.active)

    def _failure(self, chain: Chain, error: Exception) -> Unreachable:
        if chain.active and not chain.lost:
            return Unreachable(f"sshd starts no shell: {error}", target=self.name)
        return ConnectionLost(
            chain.lost or f"the connection broke ({str(error) or 'the server closed it'})", target=self.name
        )

    def _count(self) -> None:
        with self._counting:
            self.round_trips += 1

    def close(self) -> None:
        """End the connection."""
        begun, self._begun = self._begun, None
        if begun is not None:
            begun.leave()
        chain, self._chain = self._chain, None
        if chain is not None:
            chain.close()

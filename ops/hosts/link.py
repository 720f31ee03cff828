"""One server's connection, shared by all threads: opened when first needed, at most two sessions at once.

Imported when first used.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

import paramiko

from ops.errors import Unreachable
from ops.hosts.cancellation import Cancellation
from ops.hosts.conversation import Process
from ops.hosts.dial import Chain, dial
from ops.hosts.failures import ConnectionLost
from ops.hosts.route import Endpoint
from ops.hosts.waiting import acquire, waited

__all__ = ["ChannelProcess", "Link"]

T = TypeVar("T")
_PACKET = 32_000  # bytes: what sshd takes in one packet
_SESSION_RETRY = 3.0  # seconds: sshd counts a session until its shell has ended


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
            channel = waited(lambda: _opened(chain, line), cancellation, _close)
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
            _close(channel)

    @contextmanager
    def terminal_channel(self, cancellation: Cancellation) -> Iterator[paramiko.Channel]:
        """Give an open session channel, in one of the slots, on which nothing runs yet."""
        acquire(self._slots, cancellation)
        try:
            channel = self.asked(lambda chain: chain.transport.open_session(), cancellation, _close)
            try:
                yield channel
            finally:
                _close(channel)
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
                channel = waited(lambda: _opened(at, line), cancellation, _close)  # noqa: B023, done before `at` moves
                break
            except paramiko.ChannelException as error:
                if time.monotonic() > deadline:
                    raise Unreachable(
                        f"sshd grants no session: {error.text}",
                        target=self.name,
                        next_step="raise MaxSessions in its sshd_config (2 are enough)",
                    ) from error
                cancellation.wait(0.1)
            except (OSError, EOFError, paramiko.SSHException) as error:
                if chain.active or fresh or chain is not self._chain:
                    raise ConnectionLost(
                        chain.lost or f"the connection broke ({error})", target=self.name
                    ) from error
                chain, fresh = self.chain(cancellation), True  # it had died idle: nothing was executed yet
        try:
            yield ChannelProcess(channel, chain)
        finally:
            _close(channel)

    def _count(self) -> None:
        with self._counting:
            self.round_trips += 1

    def close(self) -> None:
        """End the connection."""
        chain, self._chain = self._chain, None
        if chain is not None:
            chain.close()


class ChannelProcess:
    """A command on a session channel."""

    def __init__(self, channel: paramiko.Channel, chain: Chain) -> None:
        self._channel = channel
        self._chain = chain
        self._wake = _Wake()
        channel.settimeout(0.02)
        channel.in_buffer.set_event(self._wake)
        channel.in_stderr_buffer.set_event(self._wake)

    def send(self, data: bytes) -> int:
        try:
            return self._channel.send(data[:_PACKET])
        except TimeoutError:
            return 0
        except (OSError, EOFError, paramiko.SSHException):
            return len(data)  # the channel is gone; what comes from it tells the rest

    def finish_input(self) -> None:
        with suppress(OSError, EOFError, paramiko.SSHException):
            self._channel.shutdown_write()

    def receive(self, seconds: float) -> tuple[bytes, bytes]:
        for wait in (seconds, 0.0):
            self._wake.reset()
            out = self._channel.recv(1 << 24) if self._channel.recv_ready() else b""
            err = self._channel.recv_stderr(1 << 24) if self._channel.recv_stderr_ready() else b""
            if out or err or not wait or self.ended:
                break
            self._wake.wait(wait)
        return out, err

    @property
    def ended(self) -> bool:
        channel = self._channel
        over = bool(channel.closed or (channel.eof_received and channel.exit_status_ready()))
        return over and not channel.recv_ready() and not channel.recv_stderr_ready()

    @property
    def status(self) -> int | None:
        status = self._channel.exit_status
        return status if self._channel.exit_status_ready() and status >= 0 else None

    @property
    def trouble(self) -> str:
        # A shell ended by a signal has no status either, on a connection that stands.
        return self._chain.lost or ("the shell on the server was ended" if self._chain.active else "")


class _Wake(threading.Event):
    """Set by either stream; the pipes clear it when one of them is empty, which must not hide the other."""

    def clear(self) -> None:
        pass

    def reset(self) -> None:
        super().clear()


def _opened(chain: Chain, line: str) -> paramiko.Channel:
    channel = chain.transport.open_session()
    try:
        channel.exec_command(line)
    except BaseException:
        _close(channel)
        raise
    return channel


def _close(channel: paramiko.Channel) -> None:
    with suppress(OSError, EOFError, paramiko.SSHException):
        channel.close()

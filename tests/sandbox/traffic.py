"""Requests at a steady rate over kept-alive connections, to count what a deploy loses. Nothing is sent twice.

The generator runs in a process of its own, so that a busy test does not slow it down:

    traffic = Traffic([("172.30.77.11", 80), ("172.30.77.12", 80)], rate=200)
    traffic.start()
    ...
    report = traffic.stop()

From a terminal: `python traffic.py '{"targets": [["localhost", 80]], "rate": 100}'`; Ctrl-D ends it.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import socket
import ssl
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Coroutine, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

__all__ = ["Report", "Routes", "Traffic"]

Target = tuple[str, int]
CONNECT_SECONDS, ANSWER_SECONDS = 5.0, 30.0
# Below the proxy's keepalive_min_timeout (3 s): an older idle connection may be closed while a request is on its way.
IDLE_SECONDS = 2.0
FAILURES_KEPT = 100


@dataclass(frozen=True)
class Routes:
    """What is requested. `slow` and `stream` get `?seconds=`; a write must be answered with its marker."""

    reads: tuple[str, ...] = ("/version", "/notes")
    write: str = "/notes"
    slow: str = "/slow"
    stream: str = "/stream"
    body: str = '{"name": "MARKER"}'


@dataclass(frozen=True)
class Report:
    """What came of the requests, in seconds; p50 and p99 from when a request was due, slow ones left out."""

    total: int
    failed: int
    by_version: dict[str, int]
    failures: list[str]
    posts: int
    slow: int
    seconds: float
    longest_gap: float  # between two answers of the same target
    max_lag: float  # how late the latest request was sent: above 0.5 the generator itself was too slow
    p50: float
    p99: float
    stream_ok: bool | None  # None: no stream was asked for


class Lost(Exception):
    """A request that got no full and right answer."""


LOSSES = (Lost, OSError, EOFError, ValueError, asyncio.LimitOverrunError, TimeoutError)


@dataclass
class Traffic:
    """Open-loop load: requests are due by the clock, whether or not earlier ones were answered.

    `tls` is the PEM file of the authority that the certificates must come from, under the name `host`,
    which is sent as Host too; an empty string takes any certificate.
    """

    targets: Sequence[Target]
    rate: float = 200.0
    post_share: float = 0.5
    slow_share: float = 0.05
    slow_seconds: float = 2.0
    stream_seconds: float | None = None
    tls: str | None = None
    host: str = ""
    routes: Routes = field(default_factory=Routes)

    def start(self) -> Traffic:
        """Start sending; returns when the first request is due."""
        arguments = [sys.executable, str(Path(__file__).resolve()), json.dumps(asdict(self))]
        self._process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout
        if self._process.stdout.readline() != "started\n":
            raise RuntimeError(f"the generator ended at once with exit code {self._process.wait()}")
        return self

    def stop(self) -> Report:
        """Send nothing more, wait for what is in flight (the stream too), and report."""
        longest = ANSWER_SECONDS + max(self.slow_seconds, self.stream_seconds or 0)
        out, _ = self._process.communicate(timeout=longest + 10)
        if self._process.returncode:
            raise RuntimeError(f"the generator failed with exit code {self._process.returncode}")
        return Report(**json.loads(out))


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes
    chunks: int


@dataclass
class Connection:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    socket: socket.socket
    idle_since: float = 0.0

    def usable(self) -> bool:
        """Whether it was not idle for long, and nothing came meanwhile; the kernel has the server's FIN before asyncio knows."""
        if self.reader.at_eof() or self.writer.is_closing():
            return False
        if time.monotonic() - self.idle_since > IDLE_SECONDS:
            return False
        try:
            self.socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    async def answer(self) -> Answer:
        head = await self.reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")[:-2]
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if headers.get("transfer-encoding", "").lower() == "chunked":
            chunks = []
            while size := int((await self.reader.readline()).strip() or b"x", 16):
                chunks.append((await self.reader.readexactly(size + 2))[:-2])
            await self.reader.readexactly(2)
        elif "content-length" in headers:
            chunks = [await self.reader.readexactly(int(headers["content-length"]))]
        else:
            raise Lost("an answer without a length")
        return Answer(int(first.split(" ")[1]), headers, b"".join(chunks), len(chunks))


class Pool:
    """The idle connections to one target. The longest idle is taken first, so that none grows old."""

    def __init__(self, target: Target, host: str, tls: ssl.SSLContext | None) -> None:
        self.target, self.host, self.tls = target, host, tls
        self.idle: deque[Connection] = deque()

    async def take(self) -> Connection:
        while self.idle:
            connection = self.idle.popleft()
            if connection.usable():
                return connection
            connection.writer.close()
        raw = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        raw.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(raw, self.target)
            name = (self.host or self.target[0]) if self.tls else None
            reader, writer = await asyncio.open_connection(sock=raw, ssl=self.tls, server_hostname=name)
        except BaseException:
            raw.close()
            raise
        return Connection(reader, writer, raw)

    def put(self, connection: Connection, answer: Answer) -> None:
        if answer.headers.get("connection", "").lower() == "close":
            connection.writer.close()
        else:
            connection.idle_since = time.monotonic()
            self.idle.append(connection)


class Generator:
    def __init__(self, plan: Traffic) -> None:
        self.plan = plan
        tls = None
        if plan.tls is not None:
            tls = ssl.create_default_context(cafile=plan.tls or None)
            if not plan.tls:
                tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
        self.pools = [Pool((host, port), plan.host, tls) for host, port in plan.targets]
        self.choice = random.Random(0)
        self.run = f"{time.time_ns():x}"
        self.total = self.failed = self.posts = self.slow = 0
        self.by_version: Counter[str] = Counter()
        self.failures: list[str] = []
        self.latencies: list[float] = []
        self.answered: dict[Target, float] = {}
        self.longest_gap = self.max_lag = 0.0
        self.ended = math.inf
        self.stream_ok: bool | None = None if plan.stream_seconds is None else True

    async def exchange(self, pool: Pool, method: str, path: str, body: str) -> Answer:
        connection = await asyncio.wait_for(pool.take(), CONNECT_SECONDS)
        host = pool.host or f"{pool.target[0]}:{pool.target[1]}"
        about_body = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n" if body else ""
        message = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n{about_body}\r\n{body}"
        try:
            connection.writer.write(message.encode())
            answer = await connection.answer()
        except BaseException:
            connection.writer.close()
            raise
        pool.put(connection, answer)
        if not 200 <= answer.status < 300:
            raise Lost(f"status {answer.status}")
        return answer

    def count_failure(self, method: str, pool: Pool, path: str, error: BaseException) -> None:
        self.failed += 1
        if len(self.failures) < FAILURES_KEPT:
            now = datetime.now(UTC).strftime("%H:%M:%S.%f")[:-3]
            reason = f"{type(error).__name__} {error}".strip() if not isinstance(error, Lost) else str(error)
            self.failures.append(f"{now} {method} {pool.target[0]}:{pool.target[1]}{path}: {reason}")

    def count_answer(self, pool: Pool, answer: Answer) -> None:
        self.by_version[answer.headers.get("x-version", "unknown")] += 1
        now = min(time.monotonic(), self.ended)  # what trickles in after the last request is no gap
        self.longest_gap = max(self.longest_gap, now - self.answered[pool.target])
        self.answered[pool.target] = now

    async def request(self, number: int, due: float) -> None:
        plan, pool = self.plan, self.pools[number % len(self.pools)]
        method = "POST" if self.choice.random() < plan.post_share else "GET"
        slow = self.choice.random() < plan.slow_share
        marker = f"m-{self.run}-{number}"
        path = plan.routes.write if method == "POST" else self.choice.choice(plan.routes.reads)
        if slow:
            path = f"{plan.routes.slow}?seconds={plan.slow_seconds}"
        self.total, self.slow, self.posts = self.total + 1, self.slow + slow, self.posts + (method == "POST")
        try:
            body = plan.routes.body.replace("MARKER", marker) if method == "POST" else ""
            limit = ANSWER_SECONDS + (plan.slow_seconds if slow else 0)
            answer = await asyncio.wait_for(self.exchange(pool, method, path, body), limit)
            if method == "POST" and marker.encode() not in answer.body:
                raise Lost("the answer does not hold what was written")
        except LOSSES as error:
            self.count_failure(method, pool, path, error)
            return
        self.count_answer(pool, answer)
        if not slow:
            self.latencies.append(time.monotonic() - due)

    async def stream(self, pool: Pool, seconds: float) -> None:
        path = f"{self.plan.routes.stream}?seconds={seconds}"
        self.total += 1
        try:
            answer = await asyncio.wait_for(self.exchange(pool, "GET", path, ""), seconds + ANSWER_SECONDS)
            if answer.chunks < 2:
                raise Lost("the answer was not streamed")
            self.by_version[answer.headers.get("x-version", "unknown")] += 1
        except LOSSES as error:
            self.stream_ok = False
            self.count_failure("GET", pool, path, error)

    async def generate(self) -> Report:
        stopped = asyncio.Event()
        asyncio.get_running_loop().add_reader(sys.stdin, stopped.set)
        began = time.monotonic()
        self.answered = {pool.target: began for pool in self.pools}
        print("started", flush=True)
        tasks: set[asyncio.Task[None]] = set()

        def spawn(work: Coroutine[None, None, None]) -> None:
            tasks.add(task := asyncio.create_task(work))
            task.add_done_callback(tasks.discard)

        if self.plan.stream_seconds is not None:
            for pool in self.pools:
                spawn(self.stream(pool, self.plan.stream_seconds))
        for number in count():
            due = began + number / self.plan.rate
            if (early := due - time.monotonic()) > 0:
                await asyncio.sleep(early)
            if stopped.is_set():
                break
            self.max_lag = max(self.max_lag, time.monotonic() - due)
            spawn(self.request(number, due))
        self.ended = time.monotonic()
        self.longest_gap = max([self.longest_gap, *(self.ended - at for at in self.answered.values())])
        await asyncio.gather(*tasks)
        return Report(
            self.total,
            self.failed,
            dict(sorted(self.by_version.items())),
            self.failures,
            self.posts,
            self.slow,
            seconds=self.ended - began,
            longest_gap=self.longest_gap,
            max_lag=self.max_lag,
            p50=percentile(self.latencies, 0.50),
            p99=percentile(self.latencies, 0.99),
            stream_ok=self.stream_ok,
        )


def percentile(values: list[float], share: float) -> float:
    """The smallest value that `share` of all do not exceed; 0 for none."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)] if values else 0.0


def main(arguments: str) -> None:
    given = json.loads(arguments)
    routes = {name: tuple(v) if isinstance(v, list) else v for name, v in given.pop("routes", {}).items()}
    plan = Traffic(**{**given, "targets": [(h, p) for h, p in given["targets"]]}, routes=Routes(**routes))
    print(json.dumps(asdict(asyncio.run(Generator(plan).generate()))))


if __name__ == "__main__":
    main(sys.argv[1])

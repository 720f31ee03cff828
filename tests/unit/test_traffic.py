"""The load generator counts what is lost, and loses nothing itself."""

from __future__ import annotations

import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ops.sandbox import certificates

sys.path.insert(0, str(Path(__file__).parents[1] / "sandbox"))
from traffic import Report, Traffic, percentile


class Server(ThreadingHTTPServer):
    """Answers as the demo does; `misbehave` gets the number of each request and may do something else instead."""

    daemon_threads, request_queue_size = True, 128

    def __init__(self, misbehave: Callable[[int, Handler], bool] = lambda number, handler: False) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.misbehave, self.seen, self.lock = misbehave, 0, threading.Lock()

    @property
    def target(self) -> tuple[str, int]:
        return "127.0.0.1", self.server_address[1]

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # a refused TLS handshake is a test's own doing


class Handler(BaseHTTPRequestHandler):
    protocol_version, wbufsize, timeout = "HTTP/1.1", -1, 10
    server: Server

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the name that http.server uses
        pass

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        with self.server.lock:
            self.server.seen += 1
            number = self.server.seen
        if self.server.misbehave(number, self):
            return
        if self.path.startswith("/stream"):
            self.chunks(3)
        else:
            self.answer(200, body or b"{}")

    do_POST = do_GET  # noqa: N815  the name that http.server looks for

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("X-Version", "1.0.0")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def chunks(self, count: int, ended: bool = True) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"4\r\ntick\r\n" * count + (b"0\r\n\r\n" if ended else b""))
        self.wfile.flush()

    def hang_up(self) -> None:
        self.close_connection = True


@pytest.fixture
def serve() -> Iterator[Callable[[Server], Server]]:
    """Serve until the test ends."""
    started: list[Server] = []

    def start(server: Server) -> Server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        started.append(server)
        return server

    yield start
    for server in started:
        server.shutdown()
        server.server_close()


def measure(traffic: Traffic, seconds: float = 1.0) -> Report:
    traffic.start()
    time.sleep(seconds)
    return traffic.stop()


def test_requests_leave_by_the_clock_and_every_one_is_accounted_for(
    serve: Callable[[Server], Server],
) -> None:
    servers = [serve(Server()), serve(Server())]
    report = measure(Traffic([server.target for server in servers], rate=100, slow_share=0), 1.5)
    assert report.failed == 0, report.failures
    assert report.total == servers[0].seen + servers[1].seen == sum(report.by_version.values())
    assert report.by_version == {"1.0.0": report.total}
    # A machine that is held up sends fewer, never more.
    assert 10 < report.total <= 100 * report.seconds + 3
    assert 0.3 < report.posts / report.total < 0.7
    assert 0 < report.p50 <= report.p99
    assert abs(servers[0].seen - servers[1].seen) <= 1
    assert report.stream_ok is None


def test_a_bad_status_is_a_failure_that_names_time_method_and_target(
    serve: Callable[[Server], Server],
) -> None:
    def refuse(number: int, handler: Handler) -> bool:
        if number == 5:
            handler.answer(502, b"")
        return number == 5

    server = serve(Server(refuse))
    report = measure(Traffic([server.target], rate=50, post_share=0, slow_share=0))
    assert report.failed == 1
    time_of_day, method, what, reason = report.failures[0].split(" ", 3)
    assert (time_of_day.count(":"), method, reason) == (2, "GET", "status 502")
    assert what.startswith(f"127.0.0.1:{server.target[1]}/")


def test_a_write_that_is_answered_without_its_marker_is_a_failure(serve: Callable[[Server], Server]) -> None:
    def forget(number: int, handler: Handler) -> bool:
        handler.answer(201, b'{"name": "somebody else"}')
        return True

    report = measure(Traffic([serve(Server(forget)).target], rate=50, post_share=1, slow_share=0), 0.5)
    assert report.failed == report.posts == report.total > 0
    assert report.failures[0].endswith("the answer does not hold what was written")


@pytest.mark.parametrize("post_share", [0, 1])
def test_a_request_that_gets_no_answer_is_lost_and_never_sent_again(
    serve: Callable[[Server], Server], post_share: float
) -> None:
    def drop(number: int, handler: Handler) -> bool:
        if number % 10 == 0:
            handler.hang_up()
        return number % 10 == 0

    server = serve(Server(drop))
    report = measure(Traffic([server.target], rate=50, post_share=post_share, slow_share=0))
    assert report.failed == server.seen // 10 > 0
    assert server.seen == report.total


def test_an_answer_that_is_cut_short_is_a_failure(serve: Callable[[Server], Server]) -> None:
    def cut(number: int, handler: Handler) -> bool:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort")
        handler.hang_up()
        return True

    report = measure(Traffic([serve(Server(cut)).target], rate=50, slow_share=0), 0.5)
    assert report.failed == report.total > 0
    assert "IncompleteReadError" in report.failures[0]


def test_an_idle_connection_that_the_server_closed_is_replaced_before_it_is_used(
    serve: Callable[[Server], Server],
) -> None:
    def leave(number: int, handler: Handler) -> bool:
        handler.hang_up()  # answered in full, then closed without a word
        return False

    server = serve(Server(leave))
    report = measure(Traffic([server.target], rate=50, slow_share=0))
    assert report.failed == 0, report.failures
    assert server.seen == report.total > 40


def test_nothing_listening_is_a_failure_of_every_request(serve: Callable[[Server], Server]) -> None:
    server = Server()
    server.server_close()
    report = measure(Traffic([server.target], rate=50), 0.5)
    assert report.failed == report.total > 0
    assert "ConnectionRefusedError" in report.failures[0]
    assert report.longest_gap >= 0.4


def test_slow_answers_hold_up_neither_the_clock_nor_the_percentiles(
    serve: Callable[[Server], Server],
) -> None:
    def dawdle(number: int, handler: Handler) -> bool:
        time.sleep(3.0 if handler.path == "/slow?seconds=3.0" else 0)
        return False

    traffic = Traffic([serve(Server(dawdle)).target], rate=60, slow_share=0.3, slow_seconds=3.0)
    report = measure(traffic, 1.5)
    assert report.failed == 0, report.failures
    assert report.slow > 3, "one after another there would be one or two"
    assert report.p99 < 3.0


def test_a_pause_shows_as_the_longest_gap(serve: Callable[[Server], Server]) -> None:
    awake = threading.Event()

    def sleep(number: int, handler: Handler) -> bool:
        if number > 20:
            awake.wait(0.7)
            awake.set()
        return False

    report = measure(Traffic([serve(Server(sleep)).target], rate=50, slow_share=0), 1.5)
    assert report.failed == 0, report.failures
    assert report.longest_gap > 0.6
    assert report.p99 > 0.5


@pytest.mark.parametrize("whole", [True, False])
def test_a_stream_is_right_only_when_it_reaches_its_end(
    serve: Callable[[Server], Server], whole: bool
) -> None:
    def stream(number: int, handler: Handler) -> bool:
        if handler.path != "/stream?seconds=0.6":
            return False
        handler.chunks(3, ended=whole)
        if not whole:
            handler.hang_up()
        return True

    traffic = Traffic([serve(Server(stream)).target], rate=20, slow_share=0, stream_seconds=0.6)
    report = measure(traffic, 0.5)
    assert report.stream_ok is whole
    assert report.failed == (0 if whole else 1), report.failures


def test_tls_takes_the_certificate_of_the_given_authority_alone(
    serve: Callable[[Server], Server], tmp_path: Path
) -> None:
    pem, key = certificates.issue(tmp_path, "shop.example", [])
    both = tmp_path / "both.pem"
    both.write_bytes(pem + key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(both)
    server = Server()
    server.socket = context.wrap_socket(server.socket, server_side=True)
    serve(server)
    authority = str(tmp_path / "ca.crt")
    good = measure(Traffic([server.target], rate=20, slow_share=0, tls=authority, host="shop.example"), 0.5)
    assert good.failed == 0, good.failures
    other = measure(Traffic([server.target], rate=20, slow_share=0, tls=authority, host="other.example"), 0.5)
    assert other.failed == other.total > 0
    anybody = measure(Traffic([server.target], rate=20, slow_share=0, tls=""), 0.5)
    assert anybody.failed == 0, anybody.failures


def test_a_percentile_is_a_value_that_was_measured() -> None:
    values = [0.1 * number for number in range(1, 101)]
    assert percentile(values, 0.5) == values[49]
    assert percentile(values, 0.99) == values[98]
    assert percentile([], 0.5) == 0.0

"""Notes in PostgreSQL: `python app.py` serves on port 8000, `python app.py migrate` makes the table."""

import json
import os
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import psycopg
from psycopg_pool import ConnectionPool

VERSION, HOST = os.environ.get("APP_VERSION", "dev"), os.uname().nodename


class Server(ThreadingHTTPServer):
    daemon_threads, request_queue_size = True, 128

    def __init__(self, pool):
        self.pool, self.threads, self.busy, self.stopping = pool, ThreadPoolExecutor(3), set(), False
        super().__init__(("", 8000), Handler)

    def row(self, statement, *values):
        with self.pool.connection(timeout=5) as connection:
            return connection.execute(statement, values).fetchone()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.busy.add(self)
        try:
            url, size = urlsplit(self.path), int(self.headers.get("Content-Length", 0))
            seconds = min(float(parse_qs(url.query).get("seconds", ["2"])[0]), 60.0)
            self.reply(*self.answer(url.path, seconds, self.rfile.read(size).decode()))
        except (psycopg.Error, TimeoutError) as error:
            self.reply(503, {"error": f"database: {error or 'no answer in time'}"})
        finally:
            self.server.busy.discard(self)

    do_POST = do_GET  # noqa: N815  http.server looks for this name

    def answer(self, path, seconds, body):
        if path == "/health":  # in another thread, since a frozen database holds the one that asks
            return 200, {"db": self.server.threads.submit(self.server.row, "SELECT 1").result(timeout=1)[0]}
        if path in ("/version", "/stream"):
            return 200, {"version": VERSION, "host": HOST}, round(seconds / 0.2) if path == "/stream" else 0
        if path not in ("/notes", "/slow"):
            return 404, {"error": "no such path"}
        time.sleep(seconds if path == "/slow" else 0)
        if self.command == "GET":
            return 200, {"notes": self.server.row("SELECT count(*) FROM notes")[0]}
        (note,) = self.server.row("INSERT INTO notes (body) VALUES (%s) RETURNING id", body)
        return 201, {"id": note, "note": self.server.row("SELECT body FROM notes WHERE id = %s", note)[0]}

    def reply(self, status, page, chunks=0):
        self.close_connection = self.close_connection or self.server.stopping
        text, state = json.dumps(page), "close" if self.close_connection else "keep-alive"
        length = "Transfer-Encoding: chunked" if chunks else f"Content-Length: {len(text)}"
        head = f"HTTP/1.1 {status} \r\nX-Version: {VERSION}\r\nX-Host: {HOST}\r\nConnection: {state}\r\n"
        self.wfile.write(f"{head}{length}\r\n\r\n{'' if chunks else text}".encode())
        for _ in range(chunks):
            self.wfile.write(b"5\r\ntick\n\r\n")
            time.sleep(0.2)
        self.wfile.write(b"0\r\n\r\n" if chunks else b"")


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    check = ConnectionPool.check_connection  # the database may have been restarted since
    pool = ConnectionPool(kwargs={"autocommit": True}, check=check, min_size=2, max_size=4, open=True)
    pool.wait(timeout=20)  # the port opens when requests can be answered
    if sys.argv[1:] == ["migrate"]:
        pool.getconn().execute("CREATE TABLE IF NOT EXISTS notes (id bigserial PRIMARY KEY, body text)")
        os._exit(0)
    server = Server(pool)
    server.threads.submit(server.serve_forever, poll_interval=0.1)
    signal.sigwait({signal.SIGTERM})
    server.stopping = True
    server.shutdown()
    server.server_close()
    for tenths in range(250):  # a connection that is still open may bring one more request
        if tenths > 5 and not server.busy:
            break
        time.sleep(0.1)
    os._exit(0)  # threads that hang on a frozen database are not waited for

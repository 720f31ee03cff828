"""What the kernel was asked to execute or to open, seen by strace: on a server, on the builder, and here."""

from __future__ import annotations

import base64
import json
import os
import re
import shlex
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, quote_plus

from ops.commands.redaction import forms

__all__ = ["EXECUTIONS", "Trace", "leaks", "spellings", "traced", "traced_run"]

EXECUTIONS = "execve,execveat"
_STRACE = "strace -f -xx -s 65535 -o /dev/stdout"
_STRING = re.compile(rb'"((?:\\x[0-9a-f]{2})*)"')
_CALL = re.compile(rb"^(?:\d+\s+)?(\w+)\((.*)$")


@dataclass
class Trace:
    """Calls in order: the name, its strings decoded, and the rest of the line (flags and modes)."""

    calls: list[tuple[str, tuple[bytes, ...], bytes]] = field(default_factory=list)

    @property
    def lines(self) -> list[bytes]:
        """Each call's strings, joined: for an execution its program and arguments."""
        return [b" ".join(strings) for _, strings, _ in self.calls]

    def ran(self, *words: str) -> bool:
        """Whether one execution has all these words somewhere in its arguments."""
        return any(all(word.encode() in line for word in words) for line in self.lines)

    def read(self, text: bytes) -> None:
        """Add what strace wrote; raises AssertionError where it cut a string."""
        for line in text.split(b"\n"):
            if not (call := _CALL.match(line)):
                continue
            assert b'"...' not in line, "strace cut a string"
            strings = tuple(
                bytes.fromhex(hexed.replace(rb"\x", b"").decode()) for hexed in _STRING.findall(line)
            )
            self.calls.append((call[1].decode(), strings, _STRING.sub(b"", call[2])))


def spellings(secret: str) -> set[bytes]:
    """Return the secret plain, in base64 at each alignment, URL- and JSON-escaped, whatever Opsbook's redaction knows."""
    own = {secret, quote(secret, safe=""), quote(secret), quote_plus(secret), json.dumps(secret)[1:-1]}
    own.add(json.dumps(secret, ensure_ascii=False)[1:-1])
    own |= {repr(secret)[1:-1], repr(secret.encode())[2:-1], shlex.quote(secret)[1:-1]}
    data = secret.encode()
    for shift in range(3):
        encoded = base64.b64encode(b"\0" * shift + data)
        # The characters that depend on the neighbours too are left out.
        inner = encoded[(shift * 8 + 5) // 6 : (shift + len(data)) * 8 // 6].decode()
        own |= {inner, inner.translate(str.maketrans("+/", "-_"))}
    return {text.encode() for text in own | forms(secret)}


def leaks(lines: Iterable[bytes], secrets: Iterable[str]) -> list[bytes]:
    """Return the lines that hold one of the secrets in any spelling."""
    wanted = re.compile(b"|".join(re.escape(form) for secret in secrets for form in spellings(secret)))
    return [line for line in lines if wanted.search(line)]


@contextmanager
def traced(container: str, programs: Sequence[str], calls: str = EXECUTIONS) -> Iterator[Trace]:
    """Trace running programs of a sandbox's container and all that they start; the trace is whole once it is left."""
    find = f'for p in $(pgrep -x \'{"|".join(programs)}\'); do set -- "$@" -p "$p"; done; '

    def interrupt(identity: str) -> None:
        subprocess.run(["docker", "exec", container, "kill", "-INT", identity], check=True, timeout=30)

    with _attached(["docker", "exec", container], find, calls, interrupt) as trace:
        yield trace


def traced_run(
    container: str, command: Sequence[str], folder: Path, environ: Mapping[str, str]
) -> tuple[subprocess.CompletedProcess[str], Trace]:
    """Run a command on this machine; return what came of it, and its executions with those of its children.

    The strace is that of the sandbox's servers, in a container that sees this machine's processes.
    """
    image = subprocess.run(
        ["docker", "inspect", "--format", "{{.Image}}", container], capture_output=True, text=True, check=True
    ).stdout.strip()
    name = f"opsbook-test-strace-{uuid.uuid4().hex[:8]}"
    process = subprocess.Popen(
        ["sh", "-c", 'kill -STOP $$; exec "$@"', "sh", *command],
        cwd=folder,
        env=dict(environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )

    def interrupt(identity: str) -> None:
        subprocess.run(
            ["docker", "kill", "--signal", "INT", name], check=True, capture_output=True, timeout=30
        )

    try:
        while Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
            time.sleep(0.01)
        watcher = [
            "docker",
            "run",
            "--rm",
            "--name",
            name,
            "--privileged",
            "--pid=host",
            "--entrypoint=",
            image,
        ]
        with _attached(watcher, f"set -- -p {process.pid}; ", EXECUTIONS, interrupt, alone=True) as trace:
            os.kill(process.pid, signal.SIGCONT)
            out, errors = process.communicate(timeout=600)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    return subprocess.CompletedProcess(list(command), process.returncode, out, errors), trace


@contextmanager
def _attached(
    place: Sequence[str], find: str, calls: str, interrupt: Callable[[str], None], *, alone: bool = False
) -> Iterator[Trace]:
    """Trace the processes that `find` makes arguments of; with `alone` strace ends by itself when they have ended."""
    script = f'{find}echo "$$ $#"; exec {_STRACE} -e trace={calls} "$@"'
    watcher = subprocess.Popen(
        [*place, "sh", "-c", script], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert watcher.stdout is not None
    assert watcher.stderr is not None
    identity, words = watcher.stdout.readline().split()
    told = []
    while len([line for line in told if b"attached" in line]) < int(words) // 2:
        told.append(watcher.stderr.readline())
        assert told[-1], f"strace ended with {watcher.wait()}: {told}"
    written: list[bytes] = []
    # strace would stop, and all that it traces with it, at a pipe that nobody empties.
    readers = [
        threading.Thread(target=lambda: written.append(watcher.stdout.read()), daemon=True),
        threading.Thread(target=watcher.stderr.read, daemon=True),
    ]
    for reader in readers:
        reader.start()
    trace = Trace()
    try:
        yield trace
    finally:
        if not alone:
            interrupt(identity.decode())
        try:
            watcher.wait(60)
        except subprocess.TimeoutExpired:
            interrupt(identity.decode())
            watcher.wait(60)
        for reader in readers:
            reader.join(60)
    trace.read(b"".join(written))

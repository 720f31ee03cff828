"""How the stand-in `docker` program reaches the test's process: one FIFO for requests, one for each answer."""

from __future__ import annotations

import os
import shlex
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

__all__ = ["Answer", "Pipe"]

Answer = tuple[int, str, str]  # status, stdout, stderr

# It starts one other program only: there are hundreds of calls in a test. The answer comes as a script to run.
_CLIENT = """#!/bin/sh
r=${0%/*}/../pipe/$$
printf '%s\\0' "$PWD" "$@" > "$r.args"
[ -p "$r.done" ] || mkfifo "$r.done"
exec 3<>"$r.done"
echo $$ > "${0%/*}/../pipe/requests"
IFS= read -r _ <&3
. "$r.answer"
"""


class Pipe:
    """Answers the `docker` in `<folder>/bin` by calling `handle(argv, cwd)` in a thread for each request."""

    def __init__(self, folder: Path, handle: Callable[[list[str], Path], Answer]) -> None:
        self._pipe = folder / "pipe"
        self._handle = handle
        self.bin = folder / "bin"
        self.bin.mkdir(parents=True)
        self._pipe.mkdir()
        client = self.bin / "docker"
        client.write_text(_CLIENT)
        client.chmod(0o755)
        os.mkfifo(self._pipe / "requests")
        self._requests = os.open(self._pipe / "requests", os.O_RDWR)
        self._thread = threading.Thread(target=self._serve, name="stand-in docker", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop answering."""
        os.write(self._requests, b"end\n")
        self._thread.join()
        os.close(self._requests)

    def _serve(self) -> None:
        held = b""
        while True:
            *lines, held = (held + os.read(self._requests, 65536)).split(b"\n")
            for line in lines:
                if line == b"end":
                    return
                threading.Thread(target=self._answer, args=(line.decode(),), daemon=True).start()

    def _answer(self, client: str) -> None:
        base = self._pipe / client
        cwd, *argv = Path(f"{base}.args").read_bytes().decode(errors="replace").split("\0")[:-1]
        try:
            status, out, err = self._handle(argv, Path(cwd))
        except Exception as error:  # a fault of the stand-in must not leave the client waiting
            status, out, err = 70, "", f"stand-in docker: {type(error).__name__}: {error}"
        said = "".join(
            f"printf %s {shlex.quote(text)}{to}; " for text, to in ((out, ""), (err, " >&2")) if text
        )
        Path(f"{base}.answer").write_text(f"{said}exit {status}\n")
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            with suppress(OSError):  # nobody reads: the client was killed, or has not come that far
                done = os.open(f"{base}.done", os.O_WRONLY | os.O_NONBLOCK)
                os.write(done, b"\n")
                os.close(done)
                return
            if not Path(f"/proc/{client}").exists():
                return

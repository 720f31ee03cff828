"""A small stack whose runs are stopped at a chosen place: each hook holds the run that finds a file of its name."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fleets import address, emptied, on, own_name, until
from stacks import Stack, on_this_set

from ops.runs.phases import Phase

__all__ = ["ROOT", "STALE", "Rig", "Run", "SlowRequest", "rig"]

HEARTBEAT, STALE = 0.5, 1.5  # seconds
ROOT = "/opt/stops/test"

APP = """\
import os, signal, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SECONDS, _, WHERE = os.environ["READY_AFTER"].partition("@")
READY = time.monotonic() + (float(SECONDS) if WHERE in ("", open("/server").read().strip()) else 0)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        time.sleep(float(self.path.partition("?seconds=")[2] or 0))
        late = self.path == "/health" and time.monotonic() < READY
        self.send_response(503 if late else 200)
        self.end_headers()
        self.wfile.write(os.environ["VERSION"].encode())

    def log_message(self, *_):
        pass


signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
ThreadingHTTPServer(("", 8000), Handler).serve_forever(poll_interval=0.1)
"""

COMPOSE = """\
services:
  proxy:
    image: nginx:1.27-alpine
    restart: unless-stopped
    ports: ["80:80"]
    volumes: ["./nginx/conf.d:/etc/nginx/conf.d:ro", "./nginx/upstreams:/etc/nginx/upstreams:ro"]
    stop_grace_period: 2s

  app:
    image: python:3.13-slim
    command: ["python", "/app/app.py"]
    restart: unless-stopped
    environment:
      VERSION: ${OPS_VERSION}
      READY_AFTER: ${READY_AFTER:-0}
    labels:
      version: ${OPS_VERSION}
    volumes: ["./app:/app:ro", "/etc/hostname:/server:ro"]
    stop_grace_period: 2s
"""

NGINX = """\
include /etc/nginx/upstreams/*.conf;
server {
    listen 80;
    proxy_http_version 1.1;
    proxy_connect_timeout 2s;
    proxy_next_upstream error timeout;
    location / {
        proxy_pass http://app;
    }
}
"""

TOML = """\
stack = "stops"
version = "1.0.0"
ssh_config = "../../.sandbox/ssh_config"
state_host = "web1"
backup_before_deploy = true
keep_releases = 3
silence = 4

[lock]
heartbeat = 0.5
stale_after = 1.5

[proxy]
service = "proxy"
upstreams = "nginx/upstreams"
settle = 0.2

[services.app]
strategy = "rolling"
replicas = 2
port = 8000
drain = 15
health = { path = "/health", timeout = 90 }

[migrate]
service = "app"
command = ["true"]

[[smoke]]
path = "/"
"""

SERVER = """
[environments.test.servers.NAME]
address = "NAME.sandbox"
"""

HOOK = """
[[hooks]]
on = "{on}"
phase = "{phase}"
run = "mv {name} held 2>/dev/null || exit 0; while [ -e held ]; do sleep 0.05; done"
"""

# The backup of this stack is not what is tested: the phase is there, through the seam that features use.
COMMAND = """\
from ops.deploy.deploying import Seams
from ops.environments.environment import Environment
from ops.tasks.program import main

Environment._seams = lambda self, *given, **named: Seams(backup=lambda *given, **named: "a backup was taken")
main()
"""

LOOK = f"""
cd {ROOT} 2>/dev/null || exit 0
[ -L current ] && echo "current $(basename "$(readlink current)")"
for r in releases/*; do [ -e "$r" ] && echo "release $(basename "$r")"; done
[ -e locks/change ] && echo "lock held"
[ -e journal.jsonl ] && sha256sum journal.jsonl fence | sed 's/^/book /'
docker ps -aq --no-trunc | xargs -r docker inspect --format \
  'container {{{{index .Config.Labels "com.docker.compose.service"}}}} {{{{.State.Status}}}} v{{{{index .Config.Labels "version"}}}} {{{{.Id}}}} {{{{.State.StartedAt}}}}' | sort
true
"""


@dataclass(frozen=True)
class Run:
    """A run under way."""

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)

    def send(self, number: signal.Signals) -> None:
        """Send the process itself a signal."""
        self.process.send_signal(number)

    def end(self, seconds: float = 90) -> int:
        """Wait for its end and return its exit code."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"still at work after {seconds:g} s: {self.told}") from None

    @property
    def told(self) -> str:
        """What it wrote so far."""
        return "".join(self.lines)


class Command(Stack):
    """The stack, with the seam for the backup filled."""

    def command(self, *words: str, env: bool = True) -> list[str]:
        interpreter, _, _, *rest = super().command(*words, env=env)
        return [interpreter, "command.py", *rest]


@dataclass
class Rig:
    """The stack on its servers; `version` is what all serve between two tests, `counted` numbers what is deployed."""

    stack: Stack
    servers: tuple[str, ...]
    replicas: int
    version: str = ""
    counted: int = 0

    def next_version(self) -> str:
        """Return a version that was never deployed."""
        self.counted += 1
        return f"1.{self.counted}.0"

    def ready_after(self, text: str) -> None:
        """Let what is deployed next be healthy after so many seconds, `@server` behind them for one server alone."""
        value, _, server = text.partition("@")
        (self.stack.folder / ".env").write_text(
            f"READY_AFTER={value}{'@' + own_name(server) if server else ''}\n"
        )

    def run(self, *words: str, status: int = 0) -> str:
        """Run a task to its end, check its exit code, and return all that it told."""
        done = self.stack.run(*words, status=status)
        return done.stdout + done.stderr

    def start(self, *words: str) -> Run:
        """Start a task; its output is collected."""
        run = Run(self.stack.start(*words))
        for stream in (run.process.stdout, run.process.stderr):
            assert stream is not None
            threading.Thread(target=lambda s=stream: run.lines.extend(s), daemon=True).start()
        return run

    def start_until(self, place: str, *words: str) -> Run:
        """Start a task and return once it is held at a place: `before.switch`, `after.lock`, `failure`."""
        self.hold(place)
        run = self.start(*words)
        self.await_held(run)
        return run

    def hold(self, place: str) -> None:
        """Let the next run that comes to a place stop there."""
        (self.stack.folder / f"hold.{place}").touch()

    def await_held(self, run: Run) -> None:
        """Wait until a run is held."""
        held = self.stack.folder / "held"
        until("the run is held", lambda: held.exists() or run.process.poll() is not None, seconds=60)
        assert held.exists(), f"it ended with {run.process.poll()}: {run.told}"

    def let_go(self) -> None:
        """Let the held run (or what is left of its hook) go on."""
        (self.stack.folder / "held").unlink(missing_ok=True)

    def tells(self, run: Run, text: str, seconds: float = 60) -> None:
        """Wait until a run has told a text."""
        until(
            f"{text!r} is told: {run.told}",
            lambda: text in run.told or run.process.poll() is not None,
            seconds=seconds,
        )
        assert text in run.told, f"it ended with {run.process.poll()}: {run.told}"

    def await_stale(self) -> None:
        """Wait until the heartbeat is older than a lock lasts, by the clock of its server."""
        script = f"echo $(( $(date +%s%3N) - $(stat -c %.3Y {ROOT}/locks/change/heartbeat | tr -d .) ))"

        def left() -> float:
            return STALE - int(on(self.servers[0], script)) / 1000

        time.sleep(max(0.0, left()))  # to ask all the time would be work for the machine
        until("the heartbeat is stale", lambda: left() < 0)

    def look(self, *servers: str) -> dict[str, list[str]]:
        """Return what stands on servers (without names: on all), line by line."""
        return {name: on(name, LOOK).splitlines() for name in servers or self.servers}

    def check(self, version: str, *, locked: bool = False, gone: str = "", on_server: str = "") -> None:
        """All servers (or one) serve a version and nothing else, with one release id; a gone version left no release."""
        currents = set()
        names = (on_server,) if on_server else self.servers
        found = self.look(*names)
        for name in names:
            lines = found[name]
            told = "\n".join(lines)
            current = next((line.split()[1] for line in lines if line.startswith("current ")), None)
            assert f"-{version}-" in (current or ""), f"{name} is not on {version}:\n{told}"
            currents.add(current)
            apps = [tuple(line.split()[2:4]) for line in lines if line.startswith("container app ")]
            assert apps == [("running", f"v{version}")] * self.replicas, f"{name}:\n{told}"
            if gone:
                assert f"-{gone}-" not in told, f"{name} still has {gone}:\n{told}"
            with urllib.request.urlopen(f"http://{address(name)}/", timeout=10) as answer:
                assert answer.read().decode() == version
        assert len(currents) == 1, currents
        if not on_server:
            assert ("lock held" in found[self.servers[0]]) is locked, found[self.servers[0]]

    def journal(self) -> list[dict[str, object]]:
        """Return the journal's entries, the oldest first."""
        return [json.loads(line) for line in on(self.servers[0], f"cat {ROOT}/journal.jsonl").splitlines()]

    def mend(self) -> None:
        """Bring the servers to one release without a lock, whatever a failed test left; the quick look comes first."""
        self.ready_after("0")
        for path in self.stack.folder.glob("hold.*"):
            path.unlink()
        self.let_go()
        try:
            assert self.version
            self.check(self.version)
        except (AssertionError, OSError):
            emptied(*self.servers)
            self.version = self.next_version()
            self.run("deploy", "--version", self.version)


@dataclass
class SlowRequest:
    """A request through the proxy of a server that is answered after some seconds, sent from a thread."""

    server: str
    seconds: float
    answer: str = ""

    def start(self) -> SlowRequest:
        """Send it."""
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()
        return self

    def end(self) -> str:
        """Return the body of the answer, or why there was none."""
        self._thread.join(self.seconds + 30)
        return self.answer

    def _ask(self) -> None:
        url = f"http://{address(self.server)}/slow?seconds={self.seconds}"
        try:
            with urllib.request.urlopen(url, timeout=self.seconds + 20) as answer:
                self.answer = answer.read().decode()
        except OSError as error:
            self.answer = f"lost: {error}"


def rig(folder: Path, servers: Sequence[str] = ("web1",), *, replicas: int = 1, toml: str = "") -> Rig:
    """Write the stack into a folder, for servers that bear their names in the demo; `toml` comes before its ops.toml."""
    sandbox = emptied(*servers)
    for path, text in {
        "app/app.py": APP,
        "compose.yaml": COMPOSE,
        "nginx/conf.d/stops.conf": NGINX,
        "nginx/upstreams/app.conf": "upstream app {\n    server app:8000;\n}\n",
        "command.py": COMMAND,
    }.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    text = TOML.replace("replicas = 2", f"replicas = {replicas}")
    text = text.replace('state_host = "web1"', f'state_host = "{servers[0]}"')
    text += "".join(SERVER.replace("NAME", name) for name in servers)
    for phase in Phase:
        for moment in ("before", "after"):
            text += HOOK.format(on=moment, phase=phase, name=f"hold.{moment}.{phase}")
    text += HOOK.format(on="failure", phase="switch", name="hold.failure")
    (folder / "ops.toml").write_text(toml + on_this_set(text, sandbox))
    found = Rig(Command(folder, "test"), tuple(servers), replicas)
    found.ready_after("0")
    return found

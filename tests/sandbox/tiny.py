"""A small stack that is deployed within seconds: a proxy before one service, whose faults are switched on in `.env`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fleets import on
from stacks import Stack, on_this_set

from ops import sandbox as boxes

__all__ = ["APP", "PROJECT", "TOKEN", "behave", "current", "from_registry", "releases", "standing", "tiny"]

PROJECT = "tiny-test"
TOKEN = "first-token-of-many"

APP = """\
import json, os, signal, sys, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

VERSION, SERVER = os.environ["VERSION"], open("/server").read().strip()
FAULT, _, WHERE = os.environ["BEHAVIOUR"].partition("@")
FAULT = FAULT if WHERE in ("", SERVER) else ""


def end(status, text):
    print(text, flush=True)
    os._exit(status)


taken = []


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        url, size = urlsplit(self.path), int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(size).decode()
        taken.append(url.path)
        if FAULT == "worn" and len(taken) - taken.count("/health") > 40:
            end(9, "fatal: too many requests")
        if url.path == "/slow":
            time.sleep(float(parse_qs(url.query)["seconds"][0]))
        status = 503 if (url.path, FAULT) == ("/health", "sick") else 200
        word = "wrong" if FAULT == "wrong" else "right"
        text = json.dumps({"version": VERSION, "answer": word, "body": body}).encode()
        self.send_response(status)
        self.send_header("X-Version", VERSION)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_POST = do_GET

    def log_message(self, form, *values):
        if FAULT == "sick":
            print(f"request {values[0]}: the queue does not answer", flush=True)


class Server(ThreadingHTTPServer):
    daemon_threads, request_queue_size = True, 128


signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
print("starting", VERSION, flush=True)
if FAULT == "crash":
    end(7, "fatal: the setting colour is missing")
if FAULT == "brief":
    threading.Timer(2.0, end, (9, "fatal: the cache ran over")).start()
Server(("", 8000), Handler).serve_forever(poll_interval=0.1)
"""

COMPOSE = """\
services:
  proxy:
    image: nginx:1.27-alpine
    restart: unless-stopped
    ports:
      - "80:80"
    volumes:
      - ./nginx/conf.d:/etc/nginx/conf.d:ro
      - ./nginx/upstreams:/etc/nginx/upstreams:ro
    stop_grace_period: 5s
    depends_on:
      - app

  app:
    image: python:3.13-slim
    command: ["python", "/app/app.py"]
    restart: unless-stopped
    environment:
      VERSION: ${OPS_VERSION}
      BEHAVIOUR: ${BEHAVIOUR:-}
      TOKEN: ${TOKEN:?set it in .env}
    volumes:
      - ./app:/app:ro
      - /etc/hostname:/server:ro
      - data:/data
    stop_grace_period: 5s

volumes:
  data:
"""

NGINX = """\
keepalive_min_timeout 3s;
include /etc/nginx/upstreams/*.conf;
server {
    listen 80;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_connect_timeout 2s;
    proxy_next_upstream error timeout;
    location / {
        proxy_pass http://app;
    }
}
"""

TOML = """\
stack = "tiny"
version = "1.0.0"
ssh_config = "../../.sandbox/ssh_config"
STATE_HOST
[secrets]
required = ["TOKEN"]

[registries."registry.sandbox:5000"]
username = "env:REGISTRY_USERNAME"
password = "env:REGISTRY_PASSWORD"

[proxy]
service = "proxy"
upstreams = "nginx/upstreams"

# Asked, since of what only runs it is seen after two seconds that it stays up.
[services.proxy]
health = { kind = "tcp", port = 80 }

[services.app]
strategy = "STRATEGY"
replicas = REPLICAS
port = 8000
drain = 10
health = { path = "/health", timeout = 20, soak = 0 }

[[smoke]]
path = "/smoke"
contains = "right"
"""

SERVER = """
[environments.test.servers.NAME]
address = "NAME.sandbox"
private_address = "{NAME}"
"""


def tiny(
    folder: Path,
    sandbox: boxes.Sandbox,
    *,
    servers: Sequence[str] = ("web1",),
    strategy: str = "rolling",
    replicas: int = 2,
) -> Stack:
    """Write the stack into a folder and return it; the servers bear the names that they have in the demo."""
    for path, text in {"app/app.py": APP, "compose.yaml": COMPOSE, "nginx/conf.d/tiny.conf": NGINX}.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    (folder / "nginx/upstreams").mkdir()
    (folder / "nginx/upstreams/app.conf").write_text("upstream app {\n    server app:8000;\n}\n")
    if strategy != "rolling":
        # Only a service that rolls may not share its volume; here the volume shows that data stays.
        replicas = 1
    else:
        text = COMPOSE.replace("      - data:/data\n", "").replace("\nvolumes:\n  data:\n", "")
        (folder / "compose.yaml").write_text(text)
    addresses = {"web1": "172.30.77.11", "web2": "172.30.77.12", "db1": "172.30.77.21"}
    toml = TOML.replace("STRATEGY", strategy).replace("REPLICAS", str(replicas))
    toml = toml.replace("STATE_HOST", f'state_host = "{servers[0]}"\n')
    for name in servers:
        toml += SERVER.replace("{NAME}", addresses[name]).replace("NAME", name)
    (folder / "ops.toml").write_text(on_this_set(toml, sandbox))
    stack = Stack(folder, "test")
    write_values(stack, sandbox, TOKEN, "")
    return stack


def from_registry(stack: Stack) -> None:
    """Let the service run the image `tiny/app:<version>` of the sandbox's registry in place of files of the folder."""
    image = 'image = "registry.sandbox:5000/tiny/app:{version}"'
    stack.edit("ops.toml", lambda text: text.replace("port = 8000", f"port = 8000\n{image}"))
    gone = ('    command: ["python", "/app/app.py"]\n', "      - ./app:/app:ro\n")
    for line in gone:
        stack.edit("compose.yaml", lambda text, line=line: text.replace(line, ""))  # type: ignore[misc]


def write_values(stack: Stack, sandbox: boxes.Sandbox, token: str, behaviour: str) -> None:
    (stack.folder / ".env").write_text(
        f"TOKEN={token}\nBEHAVIOUR={behaviour}\n"
        f"REGISTRY_USERNAME={sandbox.username}\nREGISTRY_PASSWORD={sandbox.password}\n"
    )
    (stack.folder / ".env").chmod(0o600)


def behave(stack: Stack, fault: str = "", token: str = TOKEN) -> None:
    """Let what is deployed next have a fault: crash, sick, brief or wrong, `@server` behind it for one server alone."""
    write_values(stack, boxes.status(), token, fault)


def current(server: str, stack: str = "tiny", environment: str = "test") -> str | None:
    """Return the id of the release that a server's `current` names; None where there is none."""
    link = on(server, f"readlink /opt/{stack}/{environment}/current || true").strip()
    return link.removeprefix("releases/") or None


def releases(server: str, stack: str = "tiny", environment: str = "test") -> list[str]:
    """Return the ids of the releases that a server keeps, the oldest first."""
    return on(server, f"ls /opt/{stack}/{environment}/releases 2>/dev/null || true").split()


STANDING = """
docker ps -aq --no-trunc | xargs -r docker inspect --format 'container {{.Name}} {{.Id}} {{.State.StartedAt}}' | sort
docker volume ls -q | sort | sed 's/^/volume /'
docker network ls --format 'network {{.Name}} {{.ID}}' | sort
docker image ls -a --no-trunc --digests --format 'image {{.Repository}}:{{.Tag}} {{.Digest}} {{.ID}}' | sort
[ ! -d /opt ] || cd /opt && find . -type f ! -name journal.jsonl ! -path '*/locks/*' ! -name fence ! -name .fence.lock \
  -exec sha256sum {} + | sort -k 2
find . -type l -printf 'link %p %l %T@\\n' | sort
find . -type f ! -path '*/locks/*' -printf 'mode %m %u %p\\n' | grep -vE '(journal.jsonl|/fence|/.fence.lock)$' | sort
"""


def standing(server: str) -> list[str]:
    """Return all that a deploy could change on a server, line by line, but for the books of runs (journal, lock, fence)."""
    return on(server, STANDING).splitlines()

"""A small stack with data: a proxy, a rolling service of static pages, and PostgreSQL on a volume of its own."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from fleets import on, query, until
from stacks import Stack, on_this_set

from ops import sandbox as boxes

__all__ = ["PORTS", "ledger", "rows", "started_by_hand"]

PORTS = {"staging": 8081, "production": 8082}

COMPOSE = """\
services:
  proxy:
    image: nginx:1.27-alpine
    restart: unless-stopped
    ports:
      - "${HTTP_PORT}:80"
    volumes:
      - ./nginx/conf.d:/etc/nginx/conf.d:ro
      - ./nginx/upstreams:/etc/nginx/upstreams:ro

  pages:
    image: python:3.13-slim
    init: true
    command: ["python", "-m", "http.server", "8000", "--directory", "/pages"]
    restart: unless-stopped
    volumes:
      - ./pages:/pages:ro
    stop_grace_period: 3s

  db:
    image: postgres:16
    restart: unless-stopped
    environment:
      POSTGRES_USER: demo
      POSTGRES_PASSWORD: ${DB_PASSWORD}
    volumes:
      - entries:/var/lib/postgresql/data
    healthcheck:
      test: ["CMD", "pg_isready", "-q", "-h", "127.0.0.1", "-U", "demo"]
      interval: 1s
      retries: 30

volumes:
  entries:
"""

NGINX = """\
keepalive_min_timeout 3s;
include /etc/nginx/upstreams/*.conf;
server {
    listen 80;
    location / {
        proxy_pass http://pages;
    }
}
"""

TOML = """\
ssh_config = "../../.sandbox/ssh_config"
version = "1"

[secrets]
required = ["DB_PASSWORD"]

[proxy]
service = "proxy"
upstreams = "nginx/upstreams"

# Asked, since of what only runs it is seen after two seconds that it stays up.
[services.proxy]
health = { kind = "tcp", port = 80 }

[services.pages]
strategy = "rolling"
port = 8000
health = { path = "/" }

[environments.staging.servers.web1]
address = "web1.sandbox"

[environments.production.servers.web1]
address = "web1.sandbox"
"""


def ledger(folder: Path, sandbox: boxes.Sandbox, environment: str = "production") -> Stack:
    """Write the stack into a folder; staging and production are on one server, their ports differ by `.env` files."""
    texts = {
        "compose.yaml": COMPOSE,
        "nginx/conf.d/ledger.conf": NGINX,
        "nginx/upstreams/pages.conf": "upstream pages {\n    server pages:8000;\n}\n",
        "pages/index.html": "one\n",
        "ops.toml": on_this_set(TOML, sandbox),
        ".env": "DB_PASSWORD=a-long-enough-password\n",
        **{f".env.{name}": f"HTTP_PORT={port}\n" for name, port in PORTS.items()},
    }
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        if name.startswith(".env"):
            path.chmod(0o600)
    return Stack(folder, environment)


def started_by_hand(stack: Stack, project: str) -> None:
    """Bring the stack up on the server with plain `docker compose`, and write three rows into its database."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.add(stack.folder, arcname="ledger")
    on("web1", "mkdir -p /srv && tar -C /srv -xf -", stdin=buffer.getvalue())
    compose = f"docker compose -p {project} --env-file .env --env-file .env.{stack.environment}"
    on("web1", f"cd /srv/ledger && {compose} up -d --quiet-pull 2>&1")
    until("the database", lambda: "1" in query("web1", project, "SELECT 1", "db", status=None))
    query(
        "web1",
        project,
        "CREATE TABLE entries (body text); INSERT INTO entries VALUES ('a'), ('b'), ('c')",
        "db",
    )


def rows(project: str) -> str:
    """Return the rows in the database of a project."""
    return query("web1", project, "SELECT string_agg(body, ',' ORDER BY body) FROM entries", "db")

"""Twenty servers against twenty bare ssh: SSH endpoints with a stand-in `docker`, so that the machine is not the limit."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

from bench.rounds import rounds, run, table
from ops import sandbox

__all__ = ["report"]

ROOT = Path(__file__).parents[1]
SERVERS, ROUNDS, LIMIT = 20, 7, 1.5
FIRST_PORT = 2201

# It answers what Opsbook asks, at once; `compose up` takes a second, on both sides.
DOCKER = r"""#!/bin/sh
pin='python@sha256:1111111111111111111111111111111111111111111111111111111111111111'
case "$*" in
  info*) printf '%s\n' '{"docker":"26.1.5","architecture":"x86_64","cpus":2}' 2.26.1 /var/lib ;;
  'compose version --short') echo 2.26.1 ;;
  'ps -aq'*) [ -e /opt/up ] && echo c1 ;;
  inspect*) printf '{"id":"c1","name":"/bench-web-1","image":"i","reference":"%s","state":{"Status":"running","ExitCode":0,"Health":{"Status":"healthy"}},"restarts":0,"labels":{"com.docker.compose.service":"web","com.docker.compose.container-number":"1","ops.config":"%s"},"networks":{},"created":""}\n' "$pin" "$(cat /opt/up)" ;;
  'image ls'*) echo '{"Repository":"python","Tag":"3.13-slim","Digest":"sha256:1111111111111111111111111111111111111111111111111111111111111111","ID":"sha256:2"}' ;;
  *' config --format json'*) printf '{"name":"bench","services":{"web":{"image":"python:3.13-slim","pull_policy":"missing","environment":{"REVISION":"%s"}}}}\n' "$(sed -n 's/^REVISION=//p' .ops-interpolation | tr -d '"')" ;;
  *' up '*) sleep 1; [ ! -e .env ] || sed -n 's/^OPS_CONFIG_WEB=//p' .env | tr -d '"' > /opt/up ;;
esac
exit 0
"""
START = r"""
set -e
mkdir -p /srv/fleet/bin && cat > /srv/fleet/bin/docker && chmod +x /srv/fleet/bin/docker
for i in $(seq 0 19); do
  mkdir -p /srv/fleet/$i
  unshare -m sh -c "mount --bind /srv/fleet/$i /opt && exec /usr/sbin/sshd -D -p $((2201 + i)) -o PidFile=/srv/fleet/$i.pid -o SetEnv=PATH=/srv/fleet/bin:/usr/bin:/bin" </dev/null >/dev/null 2>&1 &
done
"""
STOP = "for p in /srv/fleet/*.pid; do kill $(cat $p); done; rm -rf /srv/fleet"


def report() -> tuple[list[str], bool]:
    """Return the section's lines, and whether the limit holds."""
    there = sandbox.up(("web1",), say=print)
    address = there.server("web1").address
    ssh = ["ssh", "-F", str(there.ssh_config), "web1.sandbox"]
    env = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        _write(place, there, address)
        run([*ssh, START], folder=place, env=env, feed=DOCKER)
        try:
            _answering(place, env)
            bare = (
                f"seq 0 {SERVERS - 1} | xargs -P {SERVERS} -I{{}} sh -c 'ssh -F ssh_config s{{}} "
                '"mkdir -p /opt/bare && cd /opt/bare && cat > compose.yaml && docker compose up -d" < compose.yaml\''
            )
            opsbook = [str(ROOT / ".venv/bin/opsbook"), "deploy", "--env", "bench", "--quiet"]
            measured = rounds(
                {
                    "20 bare ssh under `xargs -P 20`": lambda number: _done(
                        run(["sh", "-c", bare], folder=place, env=env)
                    ),
                    "Opsbook": lambda number: _done(
                        run(opsbook, folder=place, env={**env, "REVISION": f"v{number}"})
                    ),
                },
                ROUNDS,
            )
        finally:
            run([*ssh, STOP], folder=place, env=env)
    ratio = measured[1].median / measured[0].median
    lines = [
        f"{SERVERS} SSH endpoints; `docker compose up` stands in for 1.0 s and everything else for nothing, on both sides; its "
        f"container is healthy at once; batch = {SERVERS}; {ROUNDS} alternating rounds behind one that does not count; limit {LIMIT}.",
        "",
        *table(measured, measured[0].name),
    ]
    return lines, ratio <= LIMIT


def _write(place: Path, there: sandbox.Sandbox, address: str) -> None:
    keys = [
        line.split(" ", 1)[1]
        for line in there.known_hosts.read_text().splitlines()
        if address in line.split(" ")[0]
    ]
    known, config, servers = [], [], []
    for number in range(SERVERS):
        port = FIRST_PORT + number
        known += [f"[{address}]:{port} {key}\n" for key in keys]
        config.append(
            f"Host s{number}\n  HostName {address}\n  Port {port}\n  User root\n  IdentityFile {there.ssh_key}\n"
            f"  UserKnownHostsFile {place}/known_hosts\n  StrictHostKeyChecking yes\n"
        )
        servers.append(f'[environments.bench.servers.s{number}]\naddress = "s{number}"\n')
    (place / "known_hosts").write_text("".join(known))
    (place / "ssh_config").write_text("".join(config))
    (place / "compose.yaml").write_text(
        'services: {web: {image: "python:3.13-slim", environment: {REVISION: "${REVISION:-0}"}}}\n'
    )
    (place / "ops.toml").write_text(
        f'stack = "bench"\nversion = "env:REVISION"\nstate_host = "s0"\nbatch = {SERVERS}\nssh_config = "ssh_config"\n'
        '[services.web]\nhealth = { kind = "docker" }\n[environments.bench]\n' + "".join(servers)
    )


def _answering(place: Path, env: dict[str, str]) -> None:
    """Wait until every endpoint takes a command."""
    deadline = time.monotonic() + 30
    for number in range(SERVERS):
        while True:
            try:
                run(
                    ["ssh", "-F", "ssh_config", f"s{number}", "docker compose version --short"],
                    folder=place,
                    env=env,
                )
                break
            except SystemExit:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)


def _done(text: str) -> None:
    del text

"""One changed service on one server: Opsbook against a bare ssh, the shell script it replaces, pyinfra and Ansible."""

from __future__ import annotations

import os
import shlex
import tempfile
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path

from bench.relay import Relay
from bench.rounds import rounds, run, table
from ops import sandbox

__all__ = ["Field", "latency_report", "report"]

ROOT = Path(__file__).parents[1]
ROUNDS = 7
LIMIT, LATENCY_LIMIT = 1.0, 2.0
DELAY = 0.05  # seconds of latency (a round trip) that the relay puts in

COMPOSE = """\
services:
  web:
    image: python:3.13-slim
    pull_policy: missing
    init: true
    command: ["python", "-m", "http.server", "8000"]
    environment: {REVISION: "${REVISION:-0}"}
    stop_grace_period: 1s
    healthcheck:
      test: ["CMD", "python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/')"]
      interval: 1s
"""
SETTINGS = (
    "All sides use one compose file: python:3.13-slim (present on the server), healthcheck interval 1 s, stop grace 1 s, one "
    "changed variable each round, strategy recreate. Opsbook's gate: one pass over HTTP, no soak, no smoke check. "
    f"{ROUNDS} alternating rounds behind one that does not count."
)


class Field:
    """The contenders' folders, and the server with the address under which they reach it."""

    def __init__(self, folder: Path, there: sandbox.Sandbox, host: str, port: int) -> None:
        self.folder, self.there = folder, there
        self.config = folder / "ssh_config"
        known = folder / "known_hosts"
        target = there.server("web1")
        keys = [
            line.split(" ", 1)[1]
            for line in there.known_hosts.read_text().splitlines()
            if target.address in line.split(" ")[0]
        ]
        name = host if port == 22 else f"[{host}]:{port}"
        known.write_text("".join(f"{name} {key}\n" for key in keys))
        self.config.write_text(
            f"Host bench\n  HostName {host}\n  Port {port}\n  User root\n  IdentityFile {there.ssh_key}\n"
            f"  UserKnownHostsFile {known}\n  StrictHostKeyChecking yes\n"
        )
        self.env: Mapping[str, str] = {
            **{key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"},
            "ANSIBLE_PIPELINING": "1",
            "ANSIBLE_HOST_KEY_CHECKING": "1",
            "ANSIBLE_SSH_ARGS": f"-F {self.config} -o ControlMaster=auto -o ControlPersist=60s",
            "ANSIBLE_LOCALHOST_WARNING": "0",
            "ANSIBLE_PYTHON_INTERPRETER": "/usr/bin/python3",
        }
        for name in ("opsbook", "ssh", "script", "sleeping", "pyinfra", "ansible"):
            (folder / name).mkdir()
            (folder / name / "compose.yaml").write_text(COMPOSE)
        (folder / "opsbook" / "ops.toml").write_text(
            textwrap.dedent(
                f"""\
                stack = "bench"
                version = "env:REVISION"
                ssh_config = "{self.config}"
                [services.web]
                health = {{ kind = "http", path = "/", port = 8000, passes = 1, interval = 0.1 }}
                # The others run the same stack on the same server: this says that it is one of its own.
                [environments.bench]
                project = "bench-bench"
                [environments.bench.servers.web1]
                address = "bench"
                """
            )
        )
        (folder / "pyinfra" / "deploy.py").write_text(
            textwrap.dedent(
                """\
                import os
                from pyinfra.operations import files, server
                files.directory(path="/srv/pyinfra")
                files.put(src="compose.yaml", dest="/srv/pyinfra/compose.yaml")
                server.shell(commands=[f"cd /srv/pyinfra && REVISION={os.environ['REVISION']} docker compose up -d --wait"])
                """
            )
        )
        (folder / "ansible" / "site.yaml").write_text(
            textwrap.dedent(
                """\
                - hosts: bench
                  gather_facts: false
                  tasks:
                    - ansible.builtin.file: {path: /srv/ansible, state: directory}
                    - ansible.builtin.copy: {src: compose.yaml, dest: /srv/ansible/compose.yaml}
                    - ansible.builtin.command: docker compose up -d --wait
                      args: {chdir: /srv/ansible}
                      environment: {REVISION: "{{ lookup('env', 'REVISION') }}"}
                """
            )
        )

    def opsbook(self, number: int) -> None:
        """`opsbook deploy`."""
        self._run("opsbook", number, [str(ROOT / ".venv/bin/opsbook"), "deploy", "--env", "bench", "--quiet"])

    def ssh(self, number: int) -> None:
        """One ssh that uploads the file and brings it up."""
        script = f"mkdir -p /srv/ssh && cd /srv/ssh && cat > compose.yaml && REVISION=v{number} docker compose up -d --wait"
        self._run("ssh", number, ["ssh", "-F", str(self.config), "bench", script], COMPOSE)

    def script(self, number: int) -> None:
        """A plain deploy.sh: upload, up, one look; its sleep replaced by polling."""
        self._shell_script(
            number, "script", "for i in $(seq 100); do check && exit 0; sleep 0.2; done; exit 1"
        )

    def sleeping(self, number: int) -> None:
        """The same with `sleep 30`."""
        self._shell_script(number, "sleeping", "sleep 30; check")

    def pyinfra(self, number: int) -> None:
        """pyinfra."""
        argv = [str(ROOT / ".bench-venv/bin/pyinfra"), "-y", "--data", f"ssh_config_file={self.config}"]
        argv += ["--data", f"ssh_known_hosts_file={self.folder / 'known_hosts'}", "@ssh/bench", "deploy.py"]
        self._run("pyinfra", number, argv)

    def ansible(self, number: int) -> None:
        """Ansible with pipelining."""
        self._run(
            "ansible", number, [str(ROOT / ".bench-venv/bin/ansible-playbook"), "-i", "bench,", "site.yaml"]
        )

    def check(self, project: str, number: int) -> None:
        """End the bench unless the project's container is the one of this round."""
        script = f"docker inspect --format '{{{{.Config.Env}}}}' {project}-web-1"
        said = run(["ssh", "-F", str(self.config), "bench", script], folder=self.folder, env=self.env)
        if f"REVISION=v{number} " not in said.replace("]", " "):
            raise SystemExit(f"bench: {project} did not bring version v{number} up: {said}")

    def _shell_script(self, number: int, name: str, wait: str) -> None:
        remote = f"ssh -F {shlex.quote(str(self.config))} bench"
        folder = f"/srv/{name}"
        text = (
            f"set -e\n{remote} 'mkdir -p {folder} && cat > {folder}/compose.yaml' < compose.yaml\n"
            f"{remote} 'cd {folder} && REVISION=v{number} docker compose up -d'\n"
            f'check() {{ {remote} \'docker exec {name}-web-1 python -c "import urllib.request as u; u.urlopen(\\"http://127.0.0.1:8000/\\")"\'; }}\n'
            f"{wait}\n"
        )
        self._run(name, number, ["bash", "-c", text])

    def _run(self, name: str, number: int, argv: list[str], feed: str | None = None) -> None:
        run(argv, folder=self.folder / name, env={**self.env, "REVISION": f"v{number}"}, feed=feed)


def report() -> tuple[list[str], bool]:
    """Return the section's lines, and whether the limit holds."""
    there = sandbox.up(("web1",), say=print)
    sandbox.reset("web1")
    _warm(there)
    with tempfile.TemporaryDirectory() as folder:
        field = Field(Path(folder), there, there.server("web1").address, 22)
        contenders: dict[str, Callable[[int], None]] = {
            "one ssh: upload, `docker compose up -d --wait`": field.ssh,
            "Opsbook": field.opsbook,
            "a plain deploy.sh (upload, up, one look), its sleep replaced by polling": field.script,
            "pyinfra": field.pyinfra,
            "Ansible, pipelined": field.ansible,
        }
        projects = dict(zip(contenders, ("ssh", "bench-bench", "script", "pyinfra", "ansible"), strict=True))
        measured = rounds(contenders, ROUNDS, check=lambda name, number: field.check(projects[name], number))
        asleep = rounds({"the same deploy.sh with its `sleep 30` (one round)": field.sleeping}, 1, warmup=0)
    sandbox.reset("web1")
    base = measured[0].name
    lines = [SETTINGS + f" Limit {LIMIT} for Opsbook.", "", *table([*measured, *asleep], base)]
    return lines, measured[1].median / measured[0].median <= LIMIT


def latency_report() -> tuple[list[str], bool]:
    """Return the section on latency and round trips, and whether the limit holds."""
    there = sandbox.up(("web1",), say=print)
    sandbox.reset("web1")
    _warm(there)
    with tempfile.TemporaryDirectory() as folder, Relay(there.server("web1").address, 22, DELAY / 2) as relay:
        field = Field(Path(folder), there, "127.0.0.1", relay.port)
        field_keys(field, there, relay.port)
        contenders: dict[str, Callable[[int], None]] = {
            "one ssh: upload, `docker compose up -d --wait`": field.ssh,
            "Opsbook": field.opsbook,
        }
        measured = rounds(contenders, ROUNDS)
        trips = round_trips(field)
    sandbox.reset("web1")
    lines = [
        f"The same deploy through a relay that delays each direction by {DELAY / 2 * 1000:.0f} ms ({DELAY * 1000:.0f} ms a round trip); "
        f"limit {LATENCY_LIMIT}. Opsbook needed {trips} commands and streams for it, over one connection.",
        "",
        *table(measured, measured[0].name),
    ]
    return lines, measured[1].median / measured[0].median <= LATENCY_LIMIT


def field_keys(field: Field, there: sandbox.Sandbox, port: int) -> None:
    """Let the relay's address have the server's key."""
    address = there.server("web1").address
    keys = [
        line.split(" ", 1)[1]
        for line in there.known_hosts.read_text().splitlines()
        if address in line.split(" ")[0]
    ]
    (field.folder / "known_hosts").write_text("".join(f"[127.0.0.1]:{port} {key}\n" for key in keys))


def round_trips(field: Field) -> int:
    """Return how many commands and streams one deploy opens on its server."""
    text = (
        "import os\nfrom ops import environment\nfrom ops.hosts.fleet import Fleet\nseen = []\n"
        "leave = Fleet.__exit__\n"
        "def count(self, *a):\n    seen.extend(h.round_trips for h in self.hosts.values())\n    return leave(self, *a)\n"
        "Fleet.__exit__ = count\nenvironment('bench').deploy('v999')\nprint(sum(seen))\n"
    )
    return int(
        run(
            [str(ROOT / ".venv/bin/python"), "-c", text],
            folder=field.folder / "opsbook",
            env={**field.env, "REVISION": "v999"},
        )
    )


def _warm(there: sandbox.Sandbox) -> None:
    """Have the image on the server before the first round."""
    run(
        ["ssh", "-F", str(there.ssh_config), "web1.sandbox", "docker pull -q python:3.13-slim"],
        folder=ROOT,
        env=os.environ,
    )

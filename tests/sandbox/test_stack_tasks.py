"""The daily work on a stack that is deployed: every `stack` task, questions at a terminal, hooks, and the library's door."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import time
from pathlib import Path

import pytest
from fleets import address, containers, emptied, on, until
from stacks import Stack
from tiny import PROJECT, current, tiny
from traffic import Routes, Traffic

from ops import environment
from ops.errors import ConfigError, RolledBack

FIELDS = {
    *(
        "format",
        "ok",
        "exit_code",
        "action",
        "stack",
        "environment",
        "run_id",
        "release",
        "version",
        "revision",
    ),
    *("digests", "started_at", "seconds", "targets", "warnings", "log", "data", "error"),
}

# A service with data, and one that a profile turns on.
MORE = """
  keeper:
    image: python:3.13-slim
    init: true
    command: ["sh", "-c", "echo keeper begins; exec sleep 1000000"]
    volumes:
      - data:/data
    stop_grace_period: 1s

  extra:
    image: python:3.13-slim
    init: true
    profiles: [extra]
    command: ["sleep", "1000000"]
    stop_grace_period: 1s

volumes:
  data:
"""


def small(folder: Path) -> Stack:
    """Write the stack of this file into a folder, on one emptied server."""
    folder.mkdir(exist_ok=True)
    stack = tiny(folder, emptied("web1"), replicas=1)
    stack.edit("compose.yaml", lambda text: text + MORE)
    return stack


@pytest.fixture(scope="module")
def deployed(sandbox, tmp_path_factory) -> Stack:
    """One stack that is deployed once; each test leaves it as it found it."""
    stack = small(tmp_path_factory.mktemp("stack") / "tiny")
    stack.run("deploy", "--quiet")
    return stack


def container(service: str, server: str = "web1"):
    """Return the one container of a service."""
    (found,) = containers(server, PROJECT, service)
    return found


def at_terminal(stack: Stack, *words: str, answers: tuple[tuple[str, str], ...] = (), seconds: float = 120.0):
    """Run a task on a terminal of its own, type each answer once its prompt is there; return status and output."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        stack.command(*words),
        cwd=stack.folder,
        env={**stack.environ, "TERM": "xterm"},
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    told, waiting, end = "", list(answers), time.monotonic() + seconds
    try:
        while time.monotonic() < end:
            if select.select([master], [], [], 0.2)[0]:
                try:
                    data = os.read(master, 65536)
                except OSError:  # the far end is closed
                    break
                if not data:
                    break
                told += data.decode(errors="replace")
            elif process.poll() is not None:
                break
            if waiting and waiting[0][0] in told:
                os.write(master, waiting.pop(0)[1].encode())
        return process.wait(timeout=max(1.0, end - time.monotonic())), told
    finally:
        process.kill()
        process.wait()
        os.close(master)


def kept_scale() -> object:
    """Return what the current release's record says of numbers set by hand."""
    return json.loads(on("web1", "cat /opt/tiny/test/current/release.json"))["scale"]


@pytest.mark.parity("S6")
def test_ps_shows_each_container_with_its_server_and_a_profile_that_is_off_runs_nothing(deployed):
    """`stack.ps` lists what runs for people and for machines; a service of a profile that is not named stays away."""
    text = deployed.run("stack.ps").stdout
    rows = {row.split()[1]: row.split() for row in text.splitlines()[1:]}
    assert set(rows) == {f"{PROJECT}-{name}-1" for name in ("proxy", "app", "keeper")}
    assert all(row[0] == "web1" and row[2] == "running" for row in rows.values())
    document = deployed.json("stack.ps")
    assert set(document) == FIELDS
    assert (document["ok"], document["action"], document["error"]) == (True, "stack.ps", None)
    assert (document["stack"], document["environment"]) == ("tiny", "test")
    assert {(row["server"], row["service"], row["state"]) for row in document["data"]} == {
        ("web1", name, "running") for name in ("proxy", "app", "keeper")
    }


def test_logs_have_the_server_in_front_and_follow_ends_with_an_interrupt(deployed):
    """`stack.logs` shows the lines asked for; followed, new ones come as they are written until Ctrl-C, which leaves nothing behind."""
    lines = deployed.run("stack.logs", "--service", "app,keeper", "--tail", "1").stdout.splitlines()
    assert sorted(line.split("  ")[0] for line in lines) == ["web1", "web1"]
    assert {line.split("|")[1].strip() for line in lines} == {"starting 1.0.0", "keeper begins"}
    refused = deployed.run("stack.logs", "--service", "nobody", status=2)
    assert "unknown service nobody; known: app, keeper, proxy" in refused.stderr

    with deployed.start("stack.logs", "--service", "keeper", "--follow", "--tail", "1") as process:
        try:
            assert process.stdout is not None
            first = process.stdout.readline()
            assert first.startswith("web1  keeper-1 "), "no control sequences in a pipe"
            assert "keeper begins" in first
            on("web1", f"docker exec {container('keeper').id} sh -c 'echo a later line >/proc/1/fd/1'")
            assert "a later line" in process.stdout.readline()
            process.send_signal(signal.SIGINT)
            _, told = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 130
    assert "Traceback" not in told
    until(
        "the reader on the server ends", lambda: not on("web1", "pgrep -f 'compos[e].* logs' || true").strip()
    )


def test_exec_passes_output_and_status_on_with_and_without_a_terminal(deployed):
    """`stack.exec` ends with the command's own status, and gives it a terminal exactly where there is one."""
    script = "test -t 0 && echo terminal || echo pipe; echo \"$VERSION\" 'two  words'; exit 7"
    plain = deployed.run("stack.exec", "--service", "app", "--command", script, status=7)
    assert plain.stdout.splitlines() == ["pipe", "1.0.0 two  words"]
    asking = 'test -t 0 && echo terminal; read -r word; echo "read $word"; exit 8'
    words = ("stack.exec", "--service", "app", "--command", asking)
    status, told = at_terminal(deployed, *words, answers=(("terminal", "something\n"),))
    assert (status, "read something" in told) == (8, True), told
    refused = deployed.run("stack.exec", "--service", "nobody", "--command", "true", status=2)
    assert "unknown service nobody" in refused.stderr
    nowhere = deployed.run(
        "stack.exec", "--service", "app", "--command", "true", "--server", "web9", status=2
    )
    assert "web9" in nowhere.stderr


def test_restart_touches_the_named_service_alone_and_is_silent_when_asked(deployed):
    """`stack.restart` restarts what is named; `--quiet` prints nothing, `--json` one document with every field."""
    before = {one.service: one.started_at for one in containers("web1", PROJECT)}
    done = deployed.run("stack.restart", "--service", "keeper", "--quiet")
    assert (done.stdout, done.stderr) == ("", "")
    after = {one.service: one.started_at for one in containers("web1", PROJECT)}
    assert {name for name in before if before[name] != after[name]} == {"keeper"}
    document = deployed.json("stack.restart", "--service", "keeper")
    assert set(document) == FIELDS
    assert document["targets"]["web1"]["result"] == "changed"
    assert set(document["targets"]["web1"]) == {"kind", "previous", "release", "result", "seconds"}
    assert (document["action"], document["stack"], document["environment"]) == (
        "stack.restart",
        "tiny",
        "test",
    )
    assert document["run_id"]
    assert document["started_at"].endswith("Z")
    refused = deployed.run("stack.restart", "--service", "nobody", status=2)
    assert "unknown service nobody" in refused.stderr


@pytest.mark.holds(1)
@pytest.mark.parity("S3")
def test_scale_loses_nothing_and_lasts_until_the_next_deploy_whose_plan_says_so(deployed):
    """`stack.scale` adds and takes containers without a lost request; the number is kept, and a plan tells that it goes back."""
    routes = Routes(reads=("/",), write="/", slow="/slow")
    traffic = Traffic([(address("web1"), 80)], rate=40, slow_seconds=1.0, routes=routes).start()
    try:
        deployed.run("stack.scale", "--service", "app", "--replicas", "3")
        assert len(containers("web1", PROJECT, "app")) == 3
        deployed.run("stack.scale", "--service", "app", "--replicas", "2", "--quiet")
    finally:
        report = traffic.stop()
    assert report.failed == 0, report.failures
    assert kept_scale() == {"app": 2}
    assert on("web1", "cd /opt/tiny/test/current && docker compose ps -q app").count("\n") == 2
    assert deployed.json("deploy.status")["ok"] is True

    on("web1", f"docker rm -f {containers('web1', PROJECT, 'app')[0].id}")
    deployed.run("deploy.status", status=1)
    deployed.run("stack.up")
    assert len(containers("web1", PROJECT, "app")) == 2, "up keeps the number that was set"

    planned = deployed.run("deploy.plan").stdout
    assert "scaled 2 -> 1" in planned
    deployed.run("deploy", "--quiet")
    assert (kept_scale(), len(containers("web1", PROJECT, "app"))) == ({}, 1)
    wrong = deployed.run("stack.scale", "--service", "nobody", "--replicas", "2", status=2)
    assert "unknown service nobody; known: app, keeper, proxy" in wrong.stderr
    proxy = deployed.run("stack.scale", "--service", "proxy", "--replicas", "2", status=2)
    assert "proxy" in proxy.stderr
    data = deployed.run("stack.scale", "--service", "keeper", "--replicas", "2", status=2)
    assert (
        "service keeper cannot have 2 replicas: two containers would write to the volume data" in data.stderr
    )


@pytest.mark.parity("S6")
def test_down_asks_and_up_brings_back_what_stood(deployed):
    """`stack.down` needs a yes, keeps volumes and releases, and `stack.up` starts the same release with its data."""
    deployed.run("stack.exec", "--service", "keeper", "--command", "echo kept >/data/word")
    release = current("web1")
    refused = deployed.run("stack.down", status=2)
    assert "there is no terminal" in refused.stderr
    assert "--yes" in refused.stderr
    status, told = at_terminal(deployed, "stack.down", answers=(("(yes)", "no\n"),))
    assert (status, "nothing was done" in told) == (2, True), told
    assert len(containers("web1", PROJECT)) == 3

    deployed.run("stack.down", "--yes", "--quiet")
    assert (containers("web1", PROJECT), current("web1")) == ([], release)
    assert deployed.json("stack.up")["targets"]["web1"]["result"] == "changed"
    assert deployed.json("stack.up")["targets"]["web1"]["result"] == "unchanged"
    assert deployed.run("stack.exec", "--service", "keeper", "--command", "cat /data/word").stdout == "kept\n"
    deployed.run("deploy.status")


@pytest.mark.parity("S6")
def test_profiles_of_ops_toml_turn_services_on(deployed):
    """A profile named in ops.toml deploys its services; taken out again, the next deploy removes them."""
    deployed.edit("ops.toml", lambda text: 'profiles = ["extra"]\n' + text)
    try:
        deployed.run("deploy", "--quiet")
        assert {one.service for one in containers("web1", PROJECT)} == {"proxy", "app", "keeper", "extra"}
    finally:
        deployed.edit("ops.toml", lambda text: text.replace('profiles = ["extra"]\n', ""))
    deployed.run("deploy", "--quiet")
    assert {one.service for one in containers("web1", PROJECT)} == {"proxy", "app", "keeper"}


@pytest.mark.parity("D7")
def test_confirm_name_takes_the_typed_name_and_nothing_else(deployed):
    """With `confirm = "name"` a deploy and a rollback without a terminal end with 2, and at one the environment's name lets it go on."""
    deployed.edit("ops.toml", lambda text: 'confirm = "name"\n' + text)
    try:
        for words in (("deploy",), ("deploy.rollback",)):
            refused = deployed.run(*words, status=2)
            assert "there is no terminal" in refused.stderr
            assert "--yes" in refused.stderr
        status, told = at_terminal(deployed, "deploy", answers=(("name:", "production\n"),))
        assert (status, "not confirmed; nothing was done" in told) == (2, True), told
        status, told = at_terminal(deployed, "deploy", answers=(("name:", "test\n"),))
        assert (status, "Nothing to do" in told) == (0, True), told
        deployed.run("deploy", "--yes")
    finally:
        deployed.edit("ops.toml", lambda text: text.replace('confirm = "name"\n', ""))


HOOKS = """
[[hooks]]
on = "before"
phase = "fetch"
where = "state_host"
run = "pwd; test \\"$WORD\\" = \\"it's here\\""
environment = { WORD = "it's here" }
[[hooks]]
on = "before"
phase = "switch"
run = "echo before $OPS_STACK $OPS_ENVIRONMENT $OPS_VERSION $OPS_PHASE >>hooks.txt"
[[hooks]]
on = "after"
phase = "switch"
where = "servers"
run = "pwd >/opt/hook-ran; echo \\"$OPS_RELEASE\\" >>/opt/hook-ran"
[[hooks]]
on = "after"
phase = "smoke"
run = "sleep 60"
timeout = 0.5
on_error = "warn"
[[hooks]]
on = "after"
phase = "smoke"
where = "state_host"
run = "sleep 60"
timeout = 1
on_error = "warn"
[[hooks]]
on = "failure"
run = "echo failed in $OPS_PHASE >>hooks.txt"
"""


def test_hooks_run_where_and_when_ops_toml_says(deployed):
    """Hooks see the run's facts on this machine and on servers; a late one warns or fails the run, and `failure` runs before the way back."""
    before = (deployed.folder / "ops.toml").read_text()
    release = current("web1")
    deployed.edit("ops.toml", lambda text: text + HOOKS)
    try:
        document = deployed.json("deploy", "--version", "1.1.0")
        told = (deployed.folder / "hooks.txt").read_text().splitlines()
        assert told == ["before tiny test 1.1.0 switch"]
        folder = f"/opt/tiny/test/releases/{document['release']}"
        assert on("web1", "cat /opt/hook-ran").splitlines() == [folder, document["release"]]
        assert len(document["warnings"]) == 2, document["warnings"]
        assert all("'sleep 60'" in text and "longer than" in text for text in document["warnings"])
        log = Path(document["log"]).read_text().splitlines()
        assert ["web1", "/opt/tiny/test"] in [line.split()[1:] for line in log], (
            "there is no release folder yet"
        )

        deployed.edit("ops.toml", lambda text: text.replace('on_error = "warn"', 'on_error = "fail"'))
        failed = deployed.json("deploy", "--version", "1.2.0", status=3)
        assert "took longer than 0.5 s" in failed["error"]["message"]
        assert failed["targets"]["web1"]["result"] == "rolled_back"
        told = (deployed.folder / "hooks.txt").read_text().splitlines()
        assert told[1:] == ["before tiny test 1.2.0 switch", "failed in smoke"]
        assert current("web1") == document["release"]
    finally:
        (deployed.folder / "ops.toml").write_text(before)
    deployed.run("deploy.rollback", "--to", release, "--quiet")


def test_the_library_gives_typed_values_and_failures_carry_their_outcome(deployed, monkeypatch):
    """`from ops import environment` plans, deploys, shows and rolls back; a failed deploy raises with what was done by then."""
    monkeypatch.chdir(deployed.folder)
    target = environment("test")
    before = target.status()
    assert before.agree
    assert before.servers["web1"].version == "1.0.0"
    plan = target.plan("2.0.0")
    assert (plan.version, plan.nothing_to_do, plan.order) == ("2.0.0", False, (("web1",),))
    done = target.deploy(version="2.0.0")
    assert (done.action, done.version, done.targets["web1"].result) == ("deploy", "2.0.0", "changed")
    assert done.targets["web1"].previous == before.servers["web1"].release
    assert target.status().servers["web1"].version == "2.0.0"

    text = (deployed.folder / ".env").read_text()
    (deployed.folder / ".env").write_text(text.replace("BEHAVIOUR=\n", "BEHAVIOUR=crash\n"))
    try:
        with pytest.raises(RolledBack) as caught:
            environment("test").deploy(version="2.1.0")
    finally:
        (deployed.folder / ".env").write_text(text)
    assert caught.value.exit_code == 3
    assert caught.value.outcome.version == "2.1.0"
    assert caught.value.outcome.targets["web1"].result == "rolled_back"
    assert Path(caught.value.outcome.log).is_file()

    back = environment("test").rollback()
    assert (back.action, back.targets["web1"].release) == ("deploy.rollback", done.targets["web1"].previous)
    assert {row.service for row in environment("test").processes()} == {"proxy", "app", "keeper"}
    deployed.edit("ops.toml", lambda text: text.replace("state_host", "state_hots"))
    try:
        with pytest.raises(ConfigError, match="state_host"):
            environment("test")
    finally:
        deployed.edit("ops.toml", lambda text: text.replace("state_hots", "state_host"))


def test_remove_asks_for_the_name_and_takes_data_only_when_told(deployed):
    """`stack.remove` goes on with the typed name alone, leaves data volumes, and takes them with --volumes."""
    deployed.run("stack.exec", "--service", "keeper", "--command", "echo kept >/data/word")
    refused = deployed.run("stack.remove", status=2)
    assert "there is no terminal" in refused.stderr
    assert "--yes" in refused.stderr
    status, told = at_terminal(deployed, "stack.remove", answers=(("name:", "yes\n"),))
    assert (status, "nothing was done" in told) == (2, True), told
    assert len(containers("web1", PROJECT)) == 3

    status, told = at_terminal(deployed, "stack.remove", answers=(("name:", "test\n"),))
    assert status == 0, told
    assert containers("web1", PROJECT) == []
    assert on("web1", "docker volume ls -q").split() == [f"{PROJECT}_data"]
    assert on("web1", "ls /opt/tiny/test").split() == ["fence", "journal.jsonl", "locks", "shared"]
    assert on("web1", "docker network ls --format '{{.Name}}'").split() == ["bridge", "host", "none"]
    assert "opsbook/" not in on("web1", "docker image ls --format '{{.Repository}}'")
    assert "not deployed yet" in deployed.run("stack.ps", status=2).stderr

    deployed.run("deploy", "--quiet")
    assert deployed.run("stack.exec", "--service", "keeper", "--command", "cat /data/word").stdout == "kept\n"
    deployed.run("stack.remove", "--volumes", "--yes", "--quiet")
    assert on("web1", "docker volume ls -q").split() == []

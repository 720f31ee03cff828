"""`[migrate]` on real servers: once for the fleet, before any switch, and never left without a word."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable

import pytest
from fleets import containers, demo_copy, emptied, on, query, until
from stacks import Stack

from ops import sandbox as boxes

PROJECT = "demo-production"
WEB = ("web1", "web2")

SCRIPT = """\
import psycopg, sys, time
db = psycopg.connect(autocommit=True)
db.execute("CREATE TABLE IF NOT EXISTS notes (id bigserial PRIMARY KEY, body text)")
db.execute("INSERT INTO notes (body) VALUES ('begun')")
LINE
db.execute("INSERT INTO notes (body) VALUES ('ended')")
"""


def migrates(stack: Stack, line: str = "", timeout: int = 60) -> None:
    """Give the stack a migration that leaves a row at its start and one at its end, with a line between them."""
    command = json.dumps(["python", "-c", SCRIPT.replace("LINE", line)])
    kept, _, rest = (stack.folder / "ops.toml").read_text().partition("[migrate]\n")
    rest = rest.partition("[[smoke]]")[2]
    table = f'[migrate]\nservice = "web"\ncommand = {command}\ntimeout = {timeout}\n\n[[smoke]]'
    stack.edit("ops.toml", lambda _: kept + table + rest)


def rows() -> tuple[int, int]:
    """Return how many migrations began and how many ended."""
    text = "SELECT count(*) FILTER (WHERE body = 'begun'), count(*) FILTER (WHERE body = 'ended') FROM notes"
    begun, ended = query("web1", PROJECT, text).split("|")
    return int(begun), int(ended)


def serving() -> list[object]:
    """Return all containers of both servers, and which version answers."""
    answers = [
        on(name, "curl -s -o /dev/null -w '%header{x-version}' http://127.0.0.1/version") for name in WEB
    ]
    return [*(containers(name, PROJECT) for name in WEB), answers]


def migrating() -> str:
    """Return the containers in which migrations run."""
    return "".join(on(name, "docker ps -aq --filter label=com.docker.compose.oneoff=True") for name in WEB)


@pytest.fixture(scope="module")
def stack(
    sandbox: boxes.Sandbox, images: Callable[..., None], tmp_path_factory: pytest.TempPathFactory
) -> Stack:
    """Two web servers with a database on the first, deployed once."""
    images("1.0.0")
    images("1.1.0")
    made: Stack = demo_copy(tmp_path_factory.mktemp("migration") / "demo", emptied(*WEB), "production")
    made.edit("ops.toml", lambda text: text.replace("replicas = 3", "replicas = 1"))
    migrates(made)
    made.run("deploy", "--version", "1.0.0")
    return made


@pytest.mark.holds(4)
@pytest.mark.parity("D11")
def test_a_migration_runs_once_for_the_whole_fleet(stack: Stack) -> None:
    """Each deploy to two servers writes one row, the first as well, for which the database had to be started."""
    assert rows() == (1, 1)
    assert "unchanged" in stack.json("deploy", "--version", "1.0.0")["targets"]["web1"].values()  # type: ignore[index]
    assert rows() == (1, 1)


@pytest.mark.holds(4)
@pytest.mark.parity("D11")
@pytest.mark.parametrize(
    ("line", "said"), [("sys.exit(3)", "status 3"), ("time.sleep(90)", "longer than 5 s")]
)
def test_a_migration_that_fails_leaves_the_old_version_serving(stack: Stack, line: str, said: str) -> None:
    """A failed one and one that takes too long end with 4 before any switch, and say that the schema may be half changed."""
    before, (begun, ended) = serving(), rows()
    kept = on("web2", "ls /opt/demo/production/releases")
    migrates(stack, line, timeout=5)
    error = stack.json("deploy", "--version", "1.1.0", status=4)["error"]
    assert said in error["message"]  # type: ignore[index]
    assert "the old version serves on; the database schema may be half changed" in error["left_behind"]  # type: ignore[index]
    assert rows() == (begun + 1, ended)
    assert serving() == before
    assert migrating() == ""
    assert on("web2", "ls /opt/demo/production/releases") == kept
    last = stack.json("deploy.history")["data"][-1]  # type: ignore[index]
    assert (last["event"], last["exit_code"]) == ("failed", 4)


@pytest.mark.holds(4)
def test_an_interrupt_waits_for_the_end_of_the_migration(stack: Stack) -> None:
    """Ctrl-C in the middle ends the run with 130 only behind the migration's last statement, and nothing is switched."""
    before, (begun, ended) = serving(), rows()
    migrates(stack, "time.sleep(6)")
    deploy = stack.start("deploy", "--version", "1.1.0")
    until("the migration", lambda: rows() == (begun + 1, ended))
    os.kill(deploy.pid, signal.SIGINT)
    out, err = deploy.communicate(timeout=120)
    assert deploy.returncode == 130, out + err
    assert rows() == (begun + 1, ended + 1)
    assert "the migration had run" in err
    assert serving() == before


@pytest.mark.holds(4)
def test_a_second_interrupt_ends_the_migration_and_says_so(stack: Stack) -> None:
    """Ctrl-C twice ends it on the server too, with 4, the lock and a word on the schema; a rollback clears up."""
    before, (begun, ended) = serving(), rows()
    migrates(stack, "time.sleep(60)")
    deploy = stack.start("deploy", "--version", "1.1.0")
    until("the migration", lambda: rows() == (begun + 1, ended))
    os.kill(deploy.pid, signal.SIGINT)
    os.kill(deploy.pid, signal.SIGTERM)
    out, err = deploy.communicate(timeout=40)
    assert deploy.returncode == 4, out + err
    assert "the database schema may be half changed" in err
    until("the end of its container", lambda: migrating() == "")
    assert serving() == before
    stack.run("deploy.unlock", "--force", "--yes")


@pytest.mark.holds(4)
@pytest.mark.parity("D11")
def test_a_good_migration_comes_before_the_new_version(stack: Stack) -> None:
    """It runs once, for which a stopped database is started, and then both servers are switched."""
    begun, ended = rows()
    migrates(stack)
    (database,) = containers("web1", PROJECT, "postgres")
    on("web1", f"docker stop {database.id}")
    stack.run("deploy", "--version", "1.1.0")
    assert rows() == (begun + 1, ended + 1)
    assert serving()[-1] == ["1.1.0", "1.1.0"]

"""Restores of a stack that serves: who writes is stopped, who is not well afterwards takes it back, and no death loses data."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import pytest
from fleets import Seen, containers, demo_copy, emptied, on, own_name, query, until
from stacks import Stack

from ops import sandbox as boxes

PROJECT = "demo-staging"
UPLOADS = "/opt/demo/staging/shared/uploads"
CONFIG = """
[lock]
heartbeat = 0.5
stale_after = 3
[datastores.files.uploads]
path = "uploads"
"""

pytestmark = pytest.mark.parity("B13")


@pytest.fixture(scope="module")
def stack(
    sandbox: boxes.Sandbox, images: Callable[..., None], tmp_path_factory: pytest.TempPathFactory
) -> Stack:
    """The demo on one server, with notes and a file, and a backup of both."""
    images("1.0.0")
    found = demo_copy(tmp_path_factory.mktemp("restore") / "demo", emptied("web1"), "staging")
    found.edit("ops.toml", lambda text: text.replace("[secrets]", f"{CONFIG}\n[secrets]", 1))
    found.run("deploy", "--version", "1.0.0")
    query("web1", PROJECT, "INSERT INTO notes (body) SELECT 'note ' || n FROM generate_series(1, 100) n")
    on("web1", f"mkdir -p {UPLOADS} && echo first > {UPLOADS}/file")
    found.run("backup.full")
    return found


def data() -> tuple[str, ...]:
    """Return what the stack holds now."""
    rows = query(
        "web1", PROJECT, "SELECT count(*) || ' ' || md5(string_agg(body, '|' ORDER BY id)) FROM notes"
    )
    databases = query(
        "web1",
        PROJECT,
        "SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database WHERE datname LIKE 'ops_new%'",
    )
    return rows, on("web1", f"cat {UPLOADS}/file"), databases


@pytest.fixture
def damaged(stack: Stack) -> tuple[str, ...]:
    """Damage everything; return what it holds then."""
    query(
        "web1",
        PROJECT,
        f"DELETE FROM notes WHERE id % 2 = 0; INSERT INTO notes (body) VALUES ('{time.time()}')",
    )
    on("web1", f"echo overwritten > {UPLOADS}/file")
    return data()


def serves() -> bool:
    """Return whether the stack answers through its proxy, from its database."""
    return '"notes"' in on("web1", "curl -s http://127.0.0.1/notes")


def started() -> dict[str, list[str]]:
    """Return when the containers of each service were started."""
    found: dict[str, list[str]] = {}
    for one in containers("web1", PROJECT):
        found.setdefault(one.service, []).append(one.started_at)
    return found


def test_who_writes_is_stopped_for_the_swap_and_serves_behind_it(
    stack: Stack, damaged: tuple[str, ...]
) -> None:
    """The same containers as before; the proxy and the database run on."""
    before = started()
    ids = {one.id for one in containers("web1", PROJECT)}
    told = stack.run("restore", "--id", "latest", "--confirm", "staging").stdout
    assert "Stopped meanwhile: web" in told
    assert "safety backup" in told
    after = started()
    assert not set(before["web"]) & set(after["web"])
    assert (before["nginx"], before["postgres"]) == (after["nginx"], after["postgres"])
    assert {one.id for one in containers("web1", PROJECT)} == ids
    assert data() != damaged
    assert data()[1] == "first\n"
    assert serves()


def test_a_service_that_is_not_healthy_behind_the_swap_takes_it_back(
    stack: Stack, damaged: tuple[str, ...]
) -> None:
    """Exit 3, with the last lines of the container, and the live data as it was."""
    web = _web()
    on(
        "web1",
        f"docker exec -u 0 {web.id} sh -c 'cp app.py app.py.good; echo \"raise SystemExit(77)\" > app.py'",
    )
    try:
        failed = stack.run("restore", "--id", "latest", "--confirm", "staging", status=3)
        assert "ended with exit code 77" in failed.stderr
        assert "everything is as it was" in failed.stderr
        assert data() == damaged
        assert '"rolled_back"' in on("web1", "tail -n 1 /opt/demo/staging/journal.jsonl")
    finally:
        on(
            "web1",
            f"docker cp {web.id}:/app/app.py.good /tmp/app.py; docker cp /tmp/app.py {web.id}:/app/app.py; docker restart {web.id}",
        )
    until("the stack serves", serves)


def test_what_a_restore_kept_goes_with_the_next_one_that_comes_to_its_end(
    stack: Stack, damaged: tuple[str, ...]
) -> None:
    """The newest stays for an undo. PostgreSQL drops its own behind the end of the run."""

    def restored() -> set[str]:
        stack.run("restore", "--id", "latest", "--confirm", "staging", "--no-safety")
        return kept()

    first = restored()
    good = data()
    query("web1", PROJECT, "DELETE FROM notes")
    second = restored() - first
    assert {"/" in name for name in second} == {False, True}  # databases and a folder
    until("what the first one kept is gone", lambda: kept() == second)
    assert data() == good
    stack.run("restore.undo", "--confirm", "staging")
    assert kept() == set()
    assert data() != good


def kept() -> set[str]:
    """Return the databases and folders that an undo would bring back."""
    databases = query("web1", PROJECT, "SELECT datname FROM pg_database WHERE datname LIKE 'ops_old%'")
    return {*databases.split(), *on("web1", f"ls -d {UPLOADS}.ops-old-* 2>/dev/null || true").split()}


def _web() -> Seen:
    return containers("web1", PROJECT, "web")[0]


@pytest.mark.parametrize("moment", ["safety backup", "pg_restore demo", "swap uploads", "wait until web"])
def test_one_that_is_killed_is_taken_back_whole(stack: Stack, damaged: tuple[str, ...], moment: str) -> None:
    """By restore.undo alone, wherever it was killed; the restore before it is left alone."""
    begun = stack.start("restore", "--id", "latest", "--confirm", "staging")
    assert begun.stdout is not None
    for line in begun.stdout:
        if moment in line:
            break
    os.kill(begun.pid, signal.SIGKILL)
    begun.communicate(timeout=60)
    assert begun.returncode == -signal.SIGKILL, f"it ended before {moment!r}"
    refused = stack.run("deploy", "--version", "1.0.0", "--wait", "30", status=4)
    assert "inv restore.undo" in refused.stderr
    stack.run("restore.undo", "--confirm", "staging", "--wait", "30")
    assert data() == damaged
    until("the stack serves", serves)


def test_another_environment_takes_its_backup(stack: Stack, damaged: tuple[str, ...]) -> None:
    """What it held itself is replaced, where the backup came from nothing changes; without --from-env there is none."""
    emptied("db1")
    copy = f"""
[environments.copy]
state_host = "db1"
[environments.copy.servers.db1]
address = "{own_name("db1")}.sandbox"
roles = ["web", "db"]
"""
    stack.edit("ops.toml", lambda text: text + copy)
    uploads, project = UPLOADS.replace("staging", "copy"), "demo-copy"
    stack.environment = "copy"
    try:
        stack.run("deploy", "--version", "1.0.0")
        query("db1", project, "INSERT INTO notes (body) VALUES ('its own')")
        on("db1", f"mkdir -p {uploads} && echo its own > {uploads}/file")
        assert (
            "no whole backup" in stack.run("restore", "--id", "latest", "--confirm", "copy", status=2).stderr
        )
        stack.run("restore", "--id", "latest", "--from-env", "staging", "--confirm", "copy")
        assert query("db1", project, "SELECT count(*), min(body) FROM notes") == "100|note 1"
        assert on("db1", f"cat {uploads}/file").strip() == "first"
        stack.run("restore.undo", "--confirm", "copy")
        assert query("db1", project, "SELECT body FROM notes") == "its own"
        stack.run("stack.remove", "--volumes", "--yes", "--quiet")
    finally:
        stack.environment = "staging"
    assert data() == damaged


def test_a_new_server_gets_everything_from_the_storage(stack: Stack) -> None:
    """The old one and its journal are gone: ops.toml, the storage and the secrets are enough."""
    stack.run("restore", "--id", "latest", "--confirm", "staging")
    wanted = data()
    emptied("web1", "web2")
    old, new = f"{own_name('web1')}.sandbox", f"{own_name('web2')}.sandbox"
    stack.edit("ops.toml", lambda text: text.replace(f'address = "{old}"', f'address = "{new}"'))
    stack.run("deploy", "--version", "1.0.0")
    stack.run("restore", "--id", "latest", "--confirm", "staging")
    rows = query(
        "web2", PROJECT, "SELECT count(*) || ' ' || md5(string_agg(body, '|' ORDER BY id)) FROM notes"
    )
    assert (rows, on("web2", f"cat {UPLOADS}/file")) == wanted[:2]
    assert '"notes"' in on("web2", "curl -s http://127.0.0.1/notes")

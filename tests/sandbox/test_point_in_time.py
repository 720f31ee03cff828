"""Increments of a real PostgreSQL over SSH, encrypted, and its whole cluster brought back to a moment."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyrage
import pytest
from fleets import containers, demo_copy, emptied, on, query
from stacks import Stack

from ops import sandbox as boxes

PROJECT = "demo-staging"
CONFIG = """
[backup]
level = 1
recipients = ["{recipient}"]
[datastores.files.uploads]
path = "uploads"
increments = true
"""
UPLOADS = "/opt/demo/staging/shared/uploads"
MARKER = "a row that nobody may read"

pytestmark = [pytest.mark.parity("B2"), pytest.mark.parity("B12")]


def sql(text: str) -> str:
    """Return what PostgreSQL answers."""
    return query("web1", PROJECT, text)


def rows() -> list[str]:
    """Return what the table holds."""
    return sql("SELECT body FROM moments ORDER BY id").splitlines()


def write(body: str) -> str:
    """Write a row, and return a moment behind it and before whatever comes."""
    sql(f"INSERT INTO moments (body) VALUES ('{body}')")
    return sql(
        "SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') FROM pg_sleep(0.05)"
    )


def cluster(script: str) -> str:
    """Run a script as the data's owner beside the database, which may stand still; `D` is its data directory."""
    (one,) = containers("web1", PROJECT, "postgres")
    return on(
        "web1",
        f"docker run --rm --volumes-from {one.id} --user postgres --entrypoint sh {one.image} -c '{script}'",
    )


@pytest.fixture(scope="module")
def stack(
    sandbox: boxes.Sandbox, images: Callable[..., None], tmp_path_factory: pytest.TempPathFactory
) -> Stack:
    """The demo on one server, with increments that are encrypted."""
    images("1.0.0")
    folder = tmp_path_factory.mktemp("moments")
    identity = pyrage.x25519.Identity.generate()
    (folder / "key").write_text(str(identity))
    found = demo_copy(folder / "demo", emptied("web1"), "staging")
    config = CONFIG.format(recipient=identity.to_public())
    kept = 'service = "postgres"\n'
    found.edit(
        "ops.toml",
        lambda text: text.replace("[secrets]", f"{config}\n[secrets]", 1).replace(
            kept, f"{kept}point_in_time = true\n"
        ),
    )
    found.run("deploy", "--version", "1.0.0")
    sql("CREATE TABLE moments (id bigserial PRIMARY KEY, body text)")
    on("web1", f"mkdir -p {UPLOADS}/folder && echo first > {UPLOADS}/folder/file")
    return found


def restored(stack: Stack, *words: str, status: int = 0) -> str:
    """Restore without a safety backup, and return what was told."""
    key = str(Path(stack.folder).parent / "key")
    done = stack.run(
        "restore", *words, "--identity", key, "--no-safety", "--confirm", "staging", status=status
    )
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def moment(stack: Stack) -> str:
    """A chain of a full backup and two increments, and a moment between the two."""
    write(MARKER)
    stack.run("backup.full")
    on("web1", f"mv {UPLOADS}/folder {UPLOADS}/renamed && echo new > {UPLOADS}/new")
    write("in the first increment")
    stack.run("backup.incremental")
    found = write("before the moment")
    write("behind the moment")
    on("web1", f"rm {UPLOADS}/new")
    stack.run("backup.incremental")
    write("in no backup")
    return found


def test_rows_of_before_a_moment_are_there_and_those_of_behind_it_are_not(stack: Stack, moment: str) -> None:
    """Files are as of the last backup before it; an undo brings back all, and increments go on."""
    told = restored(stack, "--at", moment)
    assert rows() == [MARKER, "in the first increment", "before the moment"]
    assert on("web1", f"cd {UPLOADS} && find . -type f | sort").split() == ["./new", "./renamed/file"]
    assert "inv backup.full" in told
    assert "version" in on("web1", "curl -sf http://127.0.0.1/version")
    assert "timeline" in stack.run("backup.incremental", status=1).stderr
    assert "BACKUP CRITICAL" in stack.run("backup.status", status=2).stdout
    stack.run("restore.undo", "--confirm", "staging")
    assert rows()[-2:] == ["behind the moment", "in no backup"]
    assert on("web1", f"cd {UPLOADS} && find . -type f").split() == ["./renamed/file"]
    assert "BACKUP OK" in stack.run("backup.status").stdout
    stack.run("backup.incremental")


def test_a_moment_that_no_backup_reaches_is_refused_with_those_that_are_possible(
    stack: Stack, moment: str
) -> None:
    """Before the chain and behind its end."""
    before = rows()
    for outside in ("2020-01-01T00:00:00Z", "2100-01-01T00:00:00Z"):
        assert "possible are 20" in restored(stack, "--at", outside, status=2)
    assert "exclude each other" in restored(stack, "--at", moment, "--id", "latest", status=2)
    assert rows() == before


def test_nothing_that_is_stored_can_be_read(stack: Stack, moment: str) -> None:
    """Neither base backup nor log."""
    stored = [path for path in (stack.folder / ".ops/backups").rglob("*") if path.is_file()]
    assert any(path.name.startswith("db.wal.tar") for path in stored)
    assert all(MARKER.encode() not in path.read_bytes() for path in stored)
    assert all(path.suffix in (".age", ".json") for path in stored)


def test_a_swap_that_was_cut_off_is_undone(stack: Stack, moment: str) -> None:
    """Wherever it stood: here some of the restored is in the folder, and the database stands still."""
    before = rows()
    restored(stack, "--at", moment)
    (one,) = containers("web1", PROJECT, "postgres")
    on("web1", f"docker stop {one.id}")
    cluster(
        "cd $PGDATA && old=$(echo pgsql_tmp_ops_old_*) && new=pgsql_tmp_ops_new_${old#pgsql_tmp_ops_old_} && "
        "mv $old $old.half && mkdir -p -m 700 $new/data && mv base global PG_VERSION $new/data"
    )
    stack.run("restore.undo", "--confirm", "staging")
    assert rows() == before
    assert cluster("ls -d $PGDATA/pgsql_tmp* 2>/dev/null || true") == ""


def test_a_log_that_was_lost_is_an_alarm_and_fills_no_disk(stack: Stack, moment: str) -> None:
    """Until the next full backup, which begins a new chain."""
    sql("ALTER SYSTEM SET max_slot_wal_keep_size = '48MB'")
    sql("SELECT pg_reload_conf()")
    segment = "SELECT pg_logical_emit_message(true, 'test', ''); SELECT pg_switch_wal();\n"
    sql((segment * 8 + "CHECKPOINT;\n") * 4)
    assert sql("SELECT wal_status FROM pg_replication_slots") == "lost"
    assert int(sql("SELECT count(*) FROM pg_ls_waldir()")) < 20
    failed = stack.run("backup.incremental", status=1).stderr
    assert "the log was lost" in failed
    assert "inv backup.full --env staging" in failed
    assert "the log was lost" in stack.run("backup.status", status=2).stdout
    write("behind the loss")
    stack.run("backup.full")
    assert sql("SHOW max_slot_wal_keep_size") == "48MB"
    at = write("in the new chain")
    stack.run("backup.incremental")
    write("too late")
    restored(stack, "--at", at)
    assert rows()[-2:] == ["behind the loss", "in the new chain"]

"""Backups of a real PostgreSQL over SSH to a folder and to a real S3 service, and what comes of them."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fleets import containers, demo_copy, emptied, on, query, until
from stacks import ROOT, Stack

from ops import sandbox as boxes

sys.path.append(str(ROOT / "tests" / "contract"))
from weed import ACCESS, BUCKET, SECRET, Weed

PROJECT = "demo-staging"
CONFIG = """
[lock]
heartbeat = 1
stale_after = 5
[backup]
level = 1
[datastores.files.uploads]
path = "uploads"
"""
ODD = ('it\'s a "db" = ü', "UPPER", "-dash")

pytestmark = [pytest.mark.parity("B3"), pytest.mark.parity("B4"), pytest.mark.parity("B7")]


def sql(text: str, database: str = "demo", *, status: int | None = 0) -> str:
    """Return what PostgreSQL answers in any database, asked through its own socket."""
    (one,) = containers("web1", PROJECT, "postgres")
    variables = f"-e PGDATABASE={shlex.quote(database)} -e PGUSER=demo"
    return on(
        "web1",
        f"docker exec -i {variables} {one.id} psql -AtqX -v ON_ERROR_STOP=1",
        stdin=text.encode(),
        status=status,
    ).strip()


@pytest.fixture(scope="module")
def stack(
    sandbox: boxes.Sandbox, images: Callable[..., None], tmp_path_factory: pytest.TempPathFactory
) -> Stack:
    """The demo on one server, with databases that are awkward in every way, and files."""
    images("1.0.0")
    found = demo_copy(tmp_path_factory.mktemp("backup") / "demo", emptied("web1"), "staging")
    found.edit("ops.toml", lambda text: text.replace("[secrets]", f"{CONFIG}\n[secrets]", 1))
    found.run("deploy", "--version", "1.0.0")
    sql("CREATE ROLE reader LOGIN PASSWORD 'reader''s own'; CREATE EXTENSION IF NOT EXISTS pg_trgm")
    for name in ODD:
        quoted = name.replace('"', '""')
        sql(f"CREATE DATABASE \"{quoted}\" TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")
        sql(
            'CREATE SCHEMA "my schema"; CREATE TABLE "my schema"."it\'s; a ""table"" ü" (id int, body text); '
            'INSERT INTO "my schema"."it\'s; a ""table"" ü" SELECT n, repeat(\'x\', n) FROM generate_series(1, 500) n; '
            "CREATE TABLE parts (id int) PARTITION BY RANGE (id); "
            "CREATE TABLE parts_low PARTITION OF parts FOR VALUES FROM (0) TO (100); "
            "INSERT INTO parts SELECT generate_series(0, 99); "
            "SELECT lo_from_bytea(0, decode(repeat('00ff', 5000), 'hex')); "
            "CREATE EXTENSION pg_trgm; CREATE MATERIALIZED VIEW seen AS SELECT count(*) FROM parts; "
            "GRANT SELECT ON parts TO reader",
            name,
        )
    quoted = ODD[0].replace('"', '""')
    sql(
        f'ALTER DATABASE "{quoted}" SET search_path TO "my schema", public; REVOKE CONNECT ON DATABASE "{quoted}" FROM PUBLIC; GRANT CONNECT ON DATABASE "{quoted}" TO reader'
    )
    sql(
        "CREATE TABLE IF NOT EXISTS ledger (id bigserial PRIMARY KEY, body text); INSERT INTO ledger (body) SELECT 'row ' || n FROM generate_series(1, 1000) n"
    )
    root = "/opt/demo/staging/shared/uploads"
    on(
        "web1",
        f"mkdir -p '{root}/two words' && cd {root} && head -c 300000 /dev/urandom > big && echo hello > 'two words/ü'",
    )
    return found


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The table of ops.toml for a bucket of a service that runs here; its keys are in the process environment."""
    weed = Weed(tmp_path_factory.mktemp("weed"))
    yield (
        f'\n[backup.s3]\nbucket = "{BUCKET}"\nendpoint = "{weed.endpoint}"\nregion = "us-east-1"\npath_style = true\n'
        'access_key = "env:BACKUP_ACCESS"\nsecret_key = "env:BACKUP_SECRET"\n'
        'prefix = "{host}/{stack}/{environment}/{year}/{month}"\n'
    )
    weed.stop()


def everything() -> dict[str, str]:
    """Return a digest of what each database and the files hold."""
    rows = 'SELECT md5(string_agg(t::text, \'|\' ORDER BY id)) FROM "my schema"."it\'s; a ""table"" ü" t'
    found = {
        name: sql(rows, name) + sql("SELECT md5(lo_get(oid)) FROM pg_largeobject_metadata", name)
        for name in ODD
    }
    found["demo"] = sql("SELECT md5(string_agg(l::text, '|' ORDER BY id)) FROM ledger l")
    found["files"] = on(
        "web1", "cd /opt/demo/staging/shared/uploads && find . -type f -exec sha256sum {} + | sort"
    )
    found["settings"] = sql(
        "SELECT datname, datcollate, (SELECT array_agg(a::text ORDER BY a::text) FROM unnest(datacl) a), setconfig FROM pg_database d LEFT JOIN pg_db_role_setting ON setdatabase = d.oid "
        "WHERE NOT datistemplate AND datallowconn ORDER BY datname"
    )
    found["rights"] = sql("SELECT relacl FROM pg_class WHERE relname = 'parts'", ODD[0])
    return found


def damage() -> None:
    """Do what an accident does."""
    sql(
        "UPDATE ledger SET body = 'overwritten'; DELETE FROM ledger WHERE id > 500; INSERT INTO ledger (body) VALUES ('since')"
    )
    sql('DROP SCHEMA "my schema" CASCADE; SELECT lo_unlink(oid) FROM pg_largeobject_metadata', ODD[0])
    sql('DROP DATABASE "UPPER"')
    on("web1", "cd /opt/demo/staging/shared/uploads && rm big && echo other > 'two words/ü'")


def restored(stack: Stack) -> None:
    """Damage everything, restore the newest backup, and expect what was there."""
    before = everything()
    damage()
    assert stack.run("restore", "--id", "latest", "--confirm", "staging").returncode == 0
    assert everything() == before


def test_everything_comes_back_row_for_row_and_byte_for_byte(stack: Stack) -> None:
    """Names, rights, settings, collations, large objects, partitions, extensions; the stack serves on."""
    document = stack.json("backup.full")
    counts = document["data"]["datastores"]["db"]["counts"]  # type: ignore[index]
    assert counts[ODD[0]]['my schema.it\'s; a "table" ü'] == 500
    assert counts[ODD[0]]["public.parts_low"] == 100
    assert counts[ODD[0]]["large objects"] == 1
    restored(stack)
    assert "version" in on("web1", "curl -sf http://127.0.0.1/version")
    assert query("web1", PROJECT, "SELECT count(*) FROM ledger") == "1000"


def test_a_bucket_holds_what_a_folder_does(stack: Stack, bucket: str) -> None:
    """Through S3, with the month in the keys; the key's secret is in no output."""
    stack.variables |= {"BACKUP_ACCESS": ACCESS, "BACKUP_SECRET": SECRET}
    stack.edit("ops.toml", lambda text: text.replace("\n[secrets]", f"{bucket}\n[secrets]", 1))
    try:
        done = stack.run("backup.full")
        assert SECRET not in done.stdout + done.stderr + _logs(stack)
        (entry,) = stack.json("backup.list")["data"]["entries"]  # type: ignore[index]
        assert "/demo/staging/20" in entry["folder"]
        restored(stack)
    finally:
        stack.edit("ops.toml", lambda text: text.replace(bucket, "", 1))


def _logs(stack: Stack) -> str:
    return "".join(path.read_text() for path in (stack.folder / ".ops/logs").iterdir())


def test_the_counts_are_those_of_the_dump_while_others_write(stack: Stack) -> None:
    """What is restored has as many rows as the manifest says, or the restore would refuse it."""
    ended = threading.Event()

    def write() -> None:
        while not ended.is_set():
            sql("INSERT INTO ledger (body) SELECT 'more' FROM generate_series(1, 100)")

    writing = threading.Thread(target=write)
    writing.start()
    try:
        counts = [
            stack.json("backup.full")["data"]["datastores"]["db"]["counts"]["demo"]["public.ledger"]  # type: ignore[index]
            for _ in range(2)
        ]
    finally:
        ended.set()
        writing.join()
    assert counts[0] < counts[1]
    stack.run("restore", "--id", "latest", "--only", "db", "--confirm", "staging")
    assert sql("SELECT count(*) FROM ledger") == str(counts[1])


def scratches() -> str:
    """Return the throw-away containers and their volumes on the server."""
    return on("web1", "docker ps -a --format '{{.Names}}' | grep scratch; docker volume ls -qf dangling=true")


@pytest.mark.parity("B10")
def test_a_backup_proves_itself_in_throw_away_containers(stack: Stack) -> None:
    """pg_restore reads it, and all of it is counted in a PostgreSQL of its own; nothing is left of that."""
    stack.run("backup.full")
    before = scratches()
    for level in (2, 3):
        (found,) = stack.json("backup.verify", "--id", "latest", "--level", str(level))["data"]  # type: ignore[misc]
        assert (found["verified"]["level"], found["verified"]["fault"]) == (level, None)
    drilled = stack.run("restore.drill").stdout
    assert "RTO" in drilled
    assert "RPO" in drilled
    begun = stack.start("restore.drill")
    assert begun.stdout is not None
    next(line for line in begun.stdout if "pg_restore" in line)
    os.kill(begun.pid, signal.SIGKILL)
    begun.communicate(timeout=60)
    until("the throw-away container is gone", lambda: scratches() == before)


@pytest.mark.parity("B14")
def test_one_database_is_restored_alone(stack: Stack) -> None:
    """The others, and the files, stay as they are; the undo is as narrow."""
    stack.run("backup.full")
    sql("INSERT INTO ledger (body) VALUES ('since the backup')")
    rows = sql("SELECT count(*) FROM ledger")
    sql("DELETE FROM parts", "UPPER")
    unknown = stack.run("restore", "--id", "latest", "--only", "db/upper", "--confirm", "staging", status=2)
    assert "no database 'upper'; it holds: -dash, UPPER, demo" in unknown.stderr
    stack.run("restore", "--id", "latest", "--only", "db/UPPER", "--confirm", "staging")
    assert sql("SELECT count(*) FROM parts", "UPPER") == "100"
    assert sql("SELECT count(*) FROM ledger") == rows
    stack.run("restore.undo", "--confirm", "staging")
    assert sql("SELECT count(*) FROM parts", "UPPER") == "0"
    assert sql("SELECT count(*) FROM ledger") == rows
    sql("INSERT INTO parts SELECT generate_series(0, 99)", "UPPER")


def test_an_undo_brings_back_what_was_written_since(stack: Stack) -> None:
    """All of it, and twice is refused."""
    stack.run("backup.full")
    sql("INSERT INTO ledger (body) VALUES ('after the backup')")
    stack.run("restore", "--id", "latest", "--confirm", "staging")
    assert sql("SELECT count(*) FROM ledger WHERE body = 'after the backup'") == "0"
    stack.run("restore.undo", "--confirm", "staging")
    assert sql("SELECT count(*) FROM ledger WHERE body = 'after the backup'") == "1"
    assert "no restore to undo" in stack.run("restore.undo", "--confirm", "staging", status=2).stderr


@pytest.mark.parity("D2")
def test_a_deploy_takes_a_backup_before_it_changes_anything(
    stack: Stack, images: Callable[..., None]
) -> None:
    """One that cannot be taken stops the deploy, with the old version serving."""
    images("1.1.0")
    listed = len(stack.json("backup.list")["data"]["entries"])  # type: ignore[index]
    stack.edit("ops.toml", lambda text: f"backup_before_deploy = true\n{text}")
    try:
        uploads = "/opt/demo/staging/shared/uploads"
        on("web1", f"mv {uploads} {uploads}.away")
        failed = stack.run("deploy", "--version", "1.1.0", status=1)
        assert "datastore uploads" in failed.stderr
        assert "1.0.0" in on("web1", "curl -sf http://127.0.0.1/version")
        on("web1", f"mv {uploads}.away {uploads}")
        stack.run("deploy", "--version", "1.1.0")
        assert "1.1.0" in on("web1", "curl -sf http://127.0.0.1/version")
    finally:
        stack.edit("ops.toml", lambda text: text.removeprefix("backup_before_deploy = true\n"))
    assert len(stack.json("backup.list")["data"]["entries"]) == listed + 1  # type: ignore[index]


def dumping() -> str:
    """Return the processes of dumps in the database's container; the one that holds the table is none."""
    (one,) = containers("web1", PROJECT, "postgres")
    return on(
        "web1",
        f"docker exec {one.id} sh -c 'ps -eo args 2>/dev/null || cat /proc/[0-9]*/cmdline | tr \"\\0\" \" \"' | grep -E '^(pg_dump|psql)|pg_dump -Fc' | grep -v 'LOCK TABLE' || true",
    )


def held(stack: Stack) -> subprocess.Popen[str]:
    """Start a backup and return it once its pg_dump waits for a table that another has locked."""
    (one,) = containers("web1", PROJECT, "postgres")
    on(
        "web1",
        f"docker exec -d -e PGUSER=demo -e PGDATABASE=demo {one.id} psql -c 'BEGIN; LOCK TABLE ledger; SELECT pg_sleep(600)'",
    )
    until(
        "the table is locked",
        lambda: (
            sql(
                "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted AND relation = 'ledger'::regclass"
            )
            == "1"
        ),
    )
    begun = stack.start("backup.full")
    until(
        "pg_dump waits for the table",
        lambda: (
            sql("SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'ledger'::regclass") != "0"
        ),
    )
    return begun


def crashes() -> str:
    """Return what PostgreSQL told of processes that it takes for its own and that ended by a signal."""
    (one,) = containers("web1", PROJECT, "postgres")
    return on(
        "web1", f"docker logs {one.id} 2>&1 | grep -E 'was terminated by|server processes terminated' || true"
    )


def let_go() -> None:
    """End whoever holds the table."""
    sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)%' AND pid <> pg_backend_pid()"
    )


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_backup_that_is_ended_leaves_nothing_running_and_none_listed(stack: Stack, number: int) -> None:
    """Not in the container either, though the dump had not written a byte; the next one works."""
    listed = len(stack.json("backup.list")["data"]["entries"])  # type: ignore[index]
    begun = held(stack)
    try:
        os.kill(begun.pid, number)
        begun.communicate(timeout=120)
        assert begun.returncode == (-number if number == signal.SIGKILL else 128 + number)
        until("no dump is left", lambda: not dumping())
        assert not crashes()
    finally:
        let_go()
    assert len(stack.json("backup.list")["data"]["entries"]) == listed  # type: ignore[index]
    # The lock of the one that was killed is void after a while.
    stack.run("backup.full", "--wait", "60")
    assert len(stack.json("backup.list")["data"]["entries"]) == listed + 1  # type: ignore[index]


def test_a_connection_that_breaks_leaves_nothing_running_and_none_listed(stack: Stack) -> None:
    """The server notices by itself; the operator is told which server was lost."""
    listed = len(stack.json("backup.list")["data"]["entries"])  # type: ignore[index]
    begun = held(stack)
    try:
        on("web1", "for p in $(pgrep -f '^sshd[a-z-]*: root'); do kill $p; done")
        _, told = begun.communicate(timeout=120)
        assert begun.returncode == 6, told
        assert "web1" in told
        until("no dump is left", lambda: not dumping())
        assert not crashes()
    finally:
        let_go()
    assert len(stack.json("backup.list")["data"]["entries"]) == listed  # type: ignore[index]
    stack.run("backup.full", "--wait", "60")


def test_a_full_disk_is_told_and_leaves_nothing(stack: Stack, tmp_path: Path) -> None:
    """The folder has no room for a dump: nothing is listed or left there, and with room the next run works."""
    was = (stack.folder / "ops.toml").read_text()
    stack.edit("ops.toml", lambda text: f'{text}\n[backup.local]\npath = "{tmp_path}"\n')
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "none", tmp_path], check=True)
    try:
        done = stack.run("backup.full", status=1)
        assert "No space left on device" in done.stderr
        assert str(tmp_path) in done.stderr
        assert not [path for path in tmp_path.rglob("*") if path.is_file()]
        subprocess.run(["mount", "-o", "remount,size=50m", tmp_path], check=True)
        stack.run("backup.full")
        (only,) = stack.json("backup.list")["data"]["entries"]  # type: ignore[index]
        assert only["manifest"] is not None
    finally:
        subprocess.run(["umount", tmp_path], check=True)
        (stack.folder / "ops.toml").write_text(was)


def test_two_at_once_are_one_and_a_refusal(stack: Stack) -> None:
    """The second exits 5 with the name of the first."""
    begun = held(stack)
    try:
        refused = stack.run("backup.full", status=5)
        assert "backup.full by" in refused.stderr
    finally:
        let_go()
        begun.communicate(timeout=120)
    assert begun.returncode == 0


def test_no_password_is_in_a_log_a_manifest_the_journal_or_an_argument(stack: Stack) -> None:
    """Nor any that PostgreSQL knows; every process of the server is looked at while it is dumped and restored."""
    looking = "while [ ! -e /run/enough ]; do cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' >> /run/seen; done"
    on("web1", f"rm -f /run/enough /run/seen; setsid sh -c {shlex.quote(looking)} >/dev/null 2>&1 &")
    try:
        told = stack.run("backup.full").stdout
        told += stack.run("restore", "--id", "latest", "--no-safety", "--confirm", "staging").stdout
    finally:
        on("web1", "touch /run/enough")
    seen = on("web1", "cat /run/seen")
    assert "pg_dump -Fc" in seen
    assert "pg_restore" in seen
    told += seen + _logs(stack)
    told += on("web1", "cat /opt/demo/staging/journal.jsonl")
    manifests = list((stack.folder / ".ops/backups").rglob("manifest.json"))
    told += "".join(path.read_text() for path in manifests)
    assert manifests
    assert json.loads(manifests[0].read_text())["format"] == 1
    for secret in ("a-long-enough-password", "reader's own"):
        assert secret not in told

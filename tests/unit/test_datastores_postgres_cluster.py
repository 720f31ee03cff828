"""A cluster is swapped with the live one and back, with real shells and folders, and a Docker that only runs scripts here."""

import json
import os
import shutil
import subprocess

import pytest

from ops.datastores import for_restore
from ops.datastores.base import LOST
from ops.datastores.files import Files
from ops.datastores.postgres import Postgres
from ops.datastores.postgres_cluster import PostgresCluster
from ops.errors import UsageError

pytestmark = pytest.mark.parity("B2")

TAG = "20261122t140300z7c1e"
STORE = PostgresCluster(Postgres("db", "shop", "postgres", "db1"))
# `docker run` runs its script here with its variables; `inspect` knows of no container; whatever else succeeds.
DOCKER = """#!/bin/sh
case $1 in inspect) exit 1 ;; run) ;; *) exit 0 ;; esac
while [ $# -gt 0 ]; do
  case $1 in -e) export "$2"; shift ;; -c) exec sh -c "$2" ;; esac
  shift
done
"""
# The moves of a swap, of which one is the last before the run dies.
MOVE = """#!/bin/sh
n=$(cat "$STEPS"); [ "$n" -gt 0 ] || exit 1
echo $((n - 1)) >"$STEPS"; exec /bin/mv "$@"
"""


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A data directory, and the tools that stand in."""
    tools, found = tmp_path / "tools", tmp_path / "the data"
    tools.mkdir()
    for name, text in (("docker", DOCKER), ("mv", MOVE)):
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    (tmp_path / "steps").write_text("1000")
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    monkeypatch.setenv("STEPS", str(tmp_path / "steps"))
    for name in ("PG_VERSION", "base/1", "it's ü/2", ".hidden"):
        (found / name).parent.mkdir(parents=True, exist_ok=True)
        (found / name).write_text("live")
    return found


def looked(data):
    return STORE.read(f"version\t17.2\ncontainer\tc1\nimage\ti1\nowner\t999:999\nthere\tyes\ndata\t{data}\n")


DETAILS = {
    "moment": "2026-11-22T14:03:00Z",
    "bytes": 1000,
    "increments": {"user": "postgres"},
    "chain": ["/base", "/wal", "/wal@b2"],
    "databases": {},
}


def ran(command, stdin=b""):
    return subprocess.run(
        ["sh", "-c", command.script], input=stdin, capture_output=True, check=False, timeout=60
    )


def held(data):
    """Return what is live, places of restores left out."""
    return {
        path.relative_to(data).as_posix(): path.read_text()
        for path in data.rglob("*")
        if path.is_file() and not path.relative_to(data).parts[0].startswith("pgsql_tmp_ops_")
    }


def beside(data):
    """Restore a cluster beside the live one, and return what it holds."""
    done = ran(STORE.beside(DETAILS, looked(data), TAG))
    assert done.returncode == 0, done.stderr
    (place,) = data.glob("pgsql_tmp_ops_new_*")
    for name in ("PG_VERSION", "base/9"):
        (place / "data" / name).parent.mkdir(exist_ok=True)
        (place / "data" / name).write_text("restored")
    return {"PG_VERSION": "restored", "base/9": "restored"}


def swap(data):
    return ran(STORE.swap(DETAILS, looked(data), TAG)).returncode


def swap_back(data):
    return ran(STORE.swap_back(DETAILS, looked(data), TAG)).returncode


def test_what_was_restored_is_live_behind_a_swap_and_what_was_live_behind_its_undo(data):
    before, after = held(data), beside(data)
    assert swap(data) == 0
    assert held(data) == after
    assert swap_back(data) == 0
    assert held(data) == before
    assert ran(STORE.discard(DETAILS, looked(data), TAG)).returncode == 0
    assert list(data.glob("pgsql_tmp*")) == []


@pytest.mark.parametrize("steps", range(6))
def test_a_swap_that_dies_at_any_move_is_undone(data, tmp_path, steps):
    before = held(data)
    beside(data)
    (tmp_path / "steps").write_text(str(steps))
    swap(data)
    (tmp_path / "steps").write_text("1000")
    assert swap_back(data) == 0
    assert held(data) == before


@pytest.mark.parametrize("steps", range(6))
def test_an_undo_that_dies_at_any_move_is_done_by_the_next(data, tmp_path, steps):
    before = held(data)
    beside(data)
    assert swap(data) == 0
    (tmp_path / "steps").write_text(str(steps))
    swap_back(data)
    (tmp_path / "steps").write_text("1000")
    assert swap_back(data) == 0
    assert held(data) == before


def test_a_swap_that_was_cut_off_stops_the_next_restore(data):
    beside(data)
    (place,) = data.glob("pgsql_tmp_ops_new_*")
    (data / place.name.replace("_new_", "_old_")).with_suffix(".half").mkdir()
    done = ran(STORE.beside(DETAILS, looked(data), TAG))
    assert done.returncode != 0
    assert b"inv restore.undo first" in done.stderr


def test_a_disk_without_the_room_is_told_before_anything_is_made(data):
    done = ran(STORE.beside(DETAILS | {"bytes": 1 << 60}, looked(data), TAG))
    assert done.returncode != 0
    assert b"a second cluster takes" in done.stderr
    assert list(data.glob("pgsql_tmp*")) == []


def test_what_earlier_restores_kept_goes_and_that_of_this_one_stays(data):
    beside(data)
    swap(data)
    (kept,) = data.glob("pgsql_tmp_ops_old_*")
    older = data / kept.name.replace(TAG, "20250101t000000zabcd")
    other = data / f"{kept.name[:-6]}ffffff"  # of another datastore
    older.mkdir()
    other.mkdir()
    assert ran(STORE.forget(DETAILS, looked(data), TAG)).returncode == 0
    assert (kept.exists(), older.exists(), other.exists()) == (True, False, True)


def test_a_kept_cluster_that_is_gone_is_told(data):
    beside(data)
    swap(data)
    assert ran(STORE.lost(DETAILS, looked(data), TAG)).stdout == b""
    (kept,) = data.glob("pgsql_tmp_ops_old_*")
    shutil.rmtree(kept)
    told = ran(STORE.lost(DETAILS, looked(data), TAG))
    assert (told.returncode, told.stdout.decode()) == (0, f"{LOST}{kept}\n")


def test_segments_are_counted_as_they_are_unpacked(data, tmp_path):
    beside(data)
    log = tmp_path / "log"
    log.mkdir()
    for name in ("000000010000000000000002", "000000010000000000000003", "00000002.history"):
        (log / name).write_text("x")
    archive = subprocess.run(["tar", "-C", log, "-c", "."], capture_output=True, check=True).stdout
    parts = STORE.incoming(DETAILS, looked(data), TAG)
    assert [one.part for one in parts] == ["/base", "/wal", "/wal@b2"]
    assert ran(parts[2].command, archive).returncode == 0
    (place,) = data.glob("pgsql_tmp_ops_new_*")
    assert STORE.counted((place / "counts").read_text()) == {"/wal@b2": {"segments": 2}}
    assert sorted(path.name for path in (place / "wal").iterdir()) == sorted(
        path.name for path in log.iterdir()
    )


def test_one_database_of_a_moment_is_refused():
    with pytest.raises(UsageError, match="whole cluster"):
        STORE.narrowed(DETAILS, {}, {"orders"})


def test_a_moment_of_postgresql_alone_is_restored_as_a_cluster():
    files = Files("uploads", "web1", "/x")
    assert for_restore(STORE.store, DETAILS) == STORE
    assert for_restore(STORE.store, {"databases": {}}) == STORE.store
    assert for_restore(files, json.loads('{"moment": "x"}')) == files

"""What MongoDB's tools say, and how they are called, as far as they can be judged without a server."""

import json
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from ops.datastores.base import LOST, Packing
from ops.datastores.mongodb import MongoDB
from ops.errors import ConfigError, FailedUnchanged

TAG = "20260101t000000zabcd"
STORE = MongoDB("documents", "shop-production", "mongodb", "db1", "/opt/shop/production")
PLAIN = {"places": [], "timeseries": []}
# Runs a script of mongosh on databases in a file: as much of a server as renames take.
MONGOSH = """#!/usr/bin/env node
const fs = require("fs"), file = process.env.DATA, data = JSON.parse(fs.readFileSync(file, "utf8"));
class Mongo {
  getDB(db) {
    const here = (data[db] ??= {});
    return {
      getCollectionInfos: ({ name } = {}) => Object.keys(here).filter((one) => !name || one === name).map((name) => ({ name, type: "collection" })),
      createCollection: (name) => { here[name] = []; },
      getCollection: (name) => ({
        insertOne: (one) => here[name].push(one),
        find: () => ({ toArray: () => here[name] ?? [] }),
        drop: () => delete here[name],
      }),
      adminCommand: ({ renameCollection, to }) => {
        const [db, ...from] = renameCollection.split(".");
        data[db][to.slice(db.length + 1)] = data[db][from.join(".")];
        delete data[db][from.join(".")];
      },
    };
  }
}
new Function("Mongo", "print", "require", process.argv.at(-1))(Mongo, console.log, require);
delete data.admin;
fs.writeFileSync(file, JSON.stringify(data));
"""


def looked(databases, store=STORE, **more):
    said = {
        "tool": "100.9.4",
        "container": "c1",
        "image": "mongo:7",
        "server": "7.0.14",
        "router": "",
        **more,
    }
    said["databases"] = json.dumps(databases)
    return store.read("".join(f"{key}\t{value}\n" for key, value in said.items()))


class TestCounts:
    """Of what mongodump says of itself."""

    @pytest.mark.parametrize("quote", ["", "`"])
    def test_are_those_of_each_collection(self, quote):
        when = "2026-11-22T19:06:17.065+0000\t"
        told = "".join(
            f"{when}{line}\n"
            for line in (
                f"writing {quote}shop.orders{quote} to archive on stdout",
                f"done dumping {quote}shop.orders{quote} (5 documents)",
                f"done dumping {quote}shop.a.b (1 document){quote} (1 document)",
                f"done dumping {quote}shop.void{quote} (0 documents)",
                f"done dumping {quote}shop.system.js{quote} (3 documents)",
            )
        )
        assert STORE.counts_of(told) == {"orders": 5, "a.b (1 document)": 1, "void": 0}

    def test_of_what_was_restored_stand_by_database(self):
        text = 'ops-count ["shop","a.b",3]\nnoise\nops-count ["ü","x",0]\n'
        assert STORE.counted(text) == {"shop": {"a.b": 3}, "ü": {"x": 0}}


class TestDumping:
    """One part for each database, without what restores made or kept."""

    def test_leaves_places_out(self):
        found = {"shop": {"places": [f"ops_old_{TAG}.orders"], "timeseries": []}, "ü": PLAIN}
        first, second = STORE.streams(looked(found), Packing(where="none"), "mark")
        assert f"--excludeCollection=ops_old_{TAG}.orders" in first.command.script
        assert (first.part, first.ending, second.ending) == ("shop", "shop.archive", "%C3%BC.archive")

    def test_takes_those_that_are_named_alone(self):
        store = MongoDB("m", "p", "mongodb", "db1", "/opt", ("b",))
        (stream,) = store.streams(looked({"a": PLAIN, "b": PLAIN}, store), Packing(), "mark")
        assert stream.part == "b"

    def test_refuses_a_database_that_is_not_there(self):
        store = MongoDB("m", "p", "mongodb", "db1", "/opt", ("b",))
        with pytest.raises(ConfigError, match="no database 'b'"):
            store.streams(looked({"a": PLAIN}, store), Packing(), "mark")

    def test_refuses_the_router_of_a_cluster(self):
        with pytest.raises(FailedUnchanged, match="router of a cluster"):
            STORE.streams(looked({"a": PLAIN}, router="yes"), Packing(), "mark")


def test_a_database_with_a_time_series_is_not_restored():
    found = looked({"shop": {"places": [], "timeseries": ["readings"]}})
    assert "shop.readings is a time series" in found.warnings[0]
    command = STORE.beside(STORE.details_of(found), found, TAG)
    assert "has a time series" in command.script


def test_the_password_reaches_a_tool_by_a_descriptor_and_whole(tmp_path):
    tools, dump = tmp_path / "tools", tmp_path / "mongodump"
    tools.mkdir()
    docker = '#!/bin/sh\nwhile [ "$1" != sh ]; do shift; done; exec "$@"\n'
    mongodump = f'#!/bin/sh\nprintf "%s\\n" "$@" > {dump}\ncat /dev/fd/9 >> {dump}\n'
    for name, text in (("docker", docker), ("mongodump", mongodump)):
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    (tmp_path / "secret").write_text('it\'s a \\ "key" $HOME: #1\n')
    environment = {"PATH": f"{tools}:{os.environ['PATH']}", "MONGO_INITDB_ROOT_USERNAME": "root"}
    environment["MONGO_INITDB_ROOT_PASSWORD_FILE"] = str(tmp_path / "secret")
    (stream,) = STORE.streams(looked({"shop": PLAIN}), Packing(where="none"), "mark")
    subprocess.run(["sh", "-c", stream.command.script], env=environment, check=True)
    told = dump.read_text()
    assert told.split("\n")[0:2] == ["--config", "/dev/fd/9"]
    assert "password: 'it''s a \\ \"key\" $HOME: #1'\n" in told
    assert told.count("key") == 1


@pytest.mark.skipif(shutil.which("node") is None, reason="no node on this machine")
class TestSwapped:
    """Scripts that rename collections, run by a shell that is not mongosh."""

    @pytest.fixture
    def run(self, tmp_path, monkeypatch):
        """Return what runs a verb on the databases in `data.json`, and returns what it prints."""
        docker = '#!/bin/sh\nwhile [ "$1" != sh ]; do shift; done; case $3 in *mongosh*) exec "$@" ;; esac\n'
        for name, text in (("docker", docker), ("mongosh", MONGOSH)):
            (tmp_path / name).write_text(text)
            (tmp_path / name).chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        monkeypatch.setenv("DATA", str(tmp_path / "data.json"))
        store = replace(STORE, folder=str(tmp_path))
        details = {"databases": {"shop": {}, "new": {}}}

        def run(verb):
            command = getattr(store, verb)(details, looked({}, store), TAG)
            done = subprocess.run(["sh", "-c", command.script], capture_output=True, check=False, text=True)
            assert done.returncode == 0, done.stderr
            return done.stdout

        return run

    @pytest.fixture
    def data(self, tmp_path):
        """Return what reads the databases, or writes others; at first one is live, and both are restored beside."""

        def data(*changed):
            for text in map(json.dumps, changed):
                (tmp_path / "data.json").write_text(text)
            return json.loads((tmp_path / "data.json").read_text())

        fresh = {f"ops_new_{TAG}.orders": [{"_id": "restored"}]}
        data({"shop": {"orders": [{"_id": "live"}], "a.b": [], **fresh}, "new": fresh})
        return data

    def test_nothing_is_lost_behind_a_swap_and_an_undo_brings_back_what_was_live(self, run, data):
        run("swap")
        assert [data()[db]["orders"] for db in ("shop", "new")] == [[{"_id": "restored"}]] * 2
        assert run("lost") == ""
        run("swap_back")
        run("discard")
        assert data() == {"shop": {"orders": [{"_id": "live"}], "a.b": []}, "new": {}}

    @pytest.mark.parametrize("name", [f"ops_old_{TAG}", f"ops_old_{TAG}.orders", f"ops_old_{TAG}.a.b"])
    def test_a_kept_collection_that_is_gone_is_told(self, run, data, name):
        run("swap")
        found = data()
        del found["shop"][name]
        data(found)
        assert run("lost") == f"{LOST}collection {name} of shop\n"
        assert data() == found


class TestIndexes:
    """Left out while documents come, and built once these are counted."""

    ARCHIVE = b"HEAD and all the rest"
    # Keeps what it is to keep of an archive, and reads no more than that.
    KEEPS = (
        'd=$(printf "%s" "$*" | sed -n \'s/.*folder = "\\([^"]*\\)".*/\\1/p\'); '
        'case $* in *"readSync(8"*) mkdir -p "$d/dump"; dd bs=4 count=1 of="$d/head" <&8 2>/dev/null ;; '
    )
    COUNTS = '*countDocuments*) echo \'ops-count ["shop","orders",2]\''
    RESTORES = 'case $* in *--dir=*) ls "${2#--dir=}/.." >&2 ;; *) cat ;; esac'

    @pytest.fixture
    def store(self, tmp_path):
        return replace(STORE, project=str(tmp_path), folder=str(tmp_path))

    @pytest.fixture
    def run(self, store, tmp_path):
        tools = tmp_path / "tools"
        tools.mkdir()
        docker = 'while [ "$1" != sh ]; do shift; done; exec "$@"'

        def run(
            command, stdin=None, mongosh=f"{self.KEEPS} {self.COUNTS} ;; esac", mongorestore=self.RESTORES
        ):
            for name, text in {"docker": docker, "mongosh": mongosh, "mongorestore": mongorestore}.items():
                record = "" if name == "docker" else f'echo "{name} $*" >> {tmp_path}/calls\n'
                (tools / name).write_text(f"#!/bin/sh\n{record}{text}\n")
                (tools / name).chmod(0o755)
            environment = {"PATH": f"{tools}:{os.environ['PATH']}"}
            words = ["sh", "-c", command.script]
            return subprocess.run(words, env=environment, input=stdin, capture_output=True, check=False)

        run.calls = lambda: (tmp_path / "calls").read_text()
        yield run
        subprocess.run(["rm", "-rf", store._kept], check=True)

    def restored(self, store, run, **more):
        found = looked({"shop": PLAIN})
        (coming,) = store.incoming(store.details_of(found), found, TAG)
        return run(coming.command, self.ARCHIVE, **more)

    def counted(self, store, run, **more):
        found = looked({"shop": PLAIN})
        return run(store.count(store.details_of(found), found, TAG), **more)

    def test_an_archive_whose_beginning_was_kept_comes_whole_and_without_them(self, store, run):
        done = self.restored(store, run)
        assert (done.returncode, done.stdout) == (0, self.ARCHIVE)
        assert "--noIndexRestore" in run.calls()
        assert Path(store._kept, "head").read_bytes() == self.ARCHIVE[:4]

    def test_nothing_comes_where_they_could_not_be_kept(self, store, run):
        needing = 'read -r line; [ "$line" ]'
        done = self.restored(store, run, mongosh="echo no room >&2; exit 1", mongorestore=needing)
        assert done.returncode == 1
        assert b"no room" in done.stderr

    def test_they_are_built_once_all_is_counted(self, store, run):
        self.restored(store, run)
        done = self.counted(store, run)
        assert done.returncode == 0
        assert store.counted(done.stdout.decode()) == {"shop": {"orders": 2}}
        assert done.stdout.decode().count("\n") == 1
        counting, _, building = run.calls().rpartition("mongorestore ")
        assert counting.rindex("countDocuments") > counting.rindex("--noIndexRestore")
        assert building == f"--stopOnError --dir={store._kept}/dump\n"

    def test_what_was_kept_is_there_for_that_and_then_no_more(self, store, run):
        self.restored(store, run)
        assert b"head" in self.counted(store, run).stderr
        assert not Path(store._kept).exists()

    def test_one_that_cannot_be_built_fails_what_was_counted(self, store, run):
        self.restored(store, run)
        done = self.counted(store, run, mongorestore="echo E11000 duplicate key >&2; exit 1")
        assert done.returncode == 1
        assert b"E11000" in done.stderr

    def test_none_is_built_of_what_could_not_be_counted(self, store, run):
        self.restored(store, run)
        done = self.counted(store, run, mongosh="exit 1")
        assert done.returncode == 1
        assert "--dir" not in run.calls()

    def test_they_may_take_their_time(self, store):
        found = looked({"shop": PLAIN})
        assert store.count(store.details_of(found), found, TAG).timeout is None

    def test_stores_in_one_container_do_not_share_what_is_kept(self, store):
        assert store._kept != replace(store, name="others")._kept

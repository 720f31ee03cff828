"""What MongoDB's tools say, and how they are called, as far as they can be judged without a server."""

import json
import os
import subprocess

import pytest

from ops.datastores.base import Packing
from ops.datastores.mongodb import MongoDB
from ops.errors import ConfigError, FailedUnchanged

TAG = "20260101t000000zabcd"
STORE = MongoDB("documents", "shop-production", "mongodb", "db1", "/opt/shop/production")
PLAIN = {"places": [], "timeseries": []}


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

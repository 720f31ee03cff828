"""What Qdrant answers, and a backup of a small server that speaks as it does, all of it on this machine."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import ThreadingHTTPServer
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

import pytest

from ops.datastores.base import LOST, Packing
from ops.datastores.qdrant import Qdrant
from ops.errors import FailedUnchanged

pytestmark = pytest.mark.parity("B6")

TAG = "20260101t000000zabcd"
ODD = "it's ü & 100% #1"
FILE = Path(__file__).parents[2] / "ops/sandbox/dockerfiles/qdrant/qdrant"


def said(**more):
    found = {
        "version": {"version": "1.15.4"},
        "collections": {"result": {"collections": [{"name": "b"}, {"name": "a"}]}},
        "aliases": {"result": {"aliases": [{"alias_name": "now", "collection_name": "a"}]}},
        "cluster": {"result": {"status": "disabled"}},
        **more,
    }
    lines = [f"{key}\t{json.dumps(value)}\n" for key, value in found.items()]
    return "".join(["container\tc1\nimage\tqdrant/qdrant\n", *lines])


@pytest.fixture
def store(tmp_path):
    return Qdrant("vectors", "shop-production", "qdrant", "db1", str(tmp_path))


def test_places_of_restores_are_in_no_backup(store):
    names = [{"name": "a"}, {"name": f"ops-new-{TAG}-0"}, {"name": "ops-new-things"}]
    looked = store.read(said(collections={"result": {"collections": names}}))
    assert store.details_of(looked) == {
        "image": "qdrant/qdrant",
        "collections": ["a", "ops-new-things"],
        "aliases": {"now": "a"},
    }


def test_a_node_among_others_is_refused(store):
    looked = store.read(said(cluster={"result": {"status": "enabled", "peers": {"1": {}, "2": {}}}}))
    with pytest.raises(FailedUnchanged, match="one of 2 nodes"):
        store.streams(looked, Packing(), "mark")
    assert "one of 2 nodes" in store.beside({}, looked, TAG).script


def test_points_count_where_nobody_wrote(store):
    assert store.counts_of("ops-count 12\n") == {"points": 12}
    assert store.counts_of("ops-unsettled a\n") == {}
    assert "a was written to" in store.warnings_of("ops-unsettled a\n")[0]
    assert store.counted("ops-count 3 a\nops-count 0 it's ü\n") == {
        "a": {"points": 3},
        "it's ü": {"points": 0},
    }


class TestAgainstTheStandIn:
    """The server of the sandbox's image, in this process."""

    @pytest.fixture
    def qdrant(self, tmp_path, monkeypatch):
        """Return the stand-in's module, serving at the port that its container would have."""
        monkeypatch.setenv("QDRANT__STORAGE__STORAGE_PATH", str(tmp_path / "storage"))
        monkeypatch.setenv("QDRANT__STORAGE__SNAPSHOTS_PATH", str(tmp_path / "snapshots"))
        monkeypatch.setenv("QDRANT__SERVICE__API_KEY", 'k\\"ey')
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        loader = SourceFileLoader("standin_qdrant", str(FILE))
        module = module_from_spec(spec_from_loader("standin_qdrant", loader))
        loader.exec_module(module)
        module.Handler.store = module.Store()
        module.Handler.log_message = lambda *words: None
        server = ThreadingHTTPServer(("127.0.0.1", 0), module.Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        tools = tmp_path / "tools"
        tools.mkdir()
        environment = (
            f'QDRANT__SERVICE__HTTP_PORT={server.server_port}\nQDRANT__SERVICE__API_KEY=k\\"ey\n'
            f"QDRANT__STORAGE__SNAPSHOTS_PATH={tmp_path}/snapshots"
        )
        (tmp_path / "environment").write_text(environment)
        (tools / "docker").write_text(
            f'#!/bin/sh\ncase "$*" in ps*) echo c1;; *Config.Image*) printf "container\\tc1\\nimage\\tq\\n";; *Config.Env*) cat {tmp_path}/environment;; esac\n'
        )
        (tools / "docker").chmod(0o755)
        monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
        yield module.Handler.store
        server.shutdown()
        server.server_close()

    def run(self, command, stdin=b""):
        done = subprocess.run(["sh", "-c", command.script], input=stdin, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return done

    def fill(self, qdrant):
        for name, count in (("notes", 20), (ODD, 3)):
            qdrant.create(name, {"vectors": {"size": 2, "distance": "Dot"}})
            points = {str(n): {"id": n, "vector": [n, 0.5], "payload": {"ü": n}} for n in range(count)}
            qdrant.collections[name]["points"] = points
        qdrant.switch([{"create_alias": {"alias_name": "now", "collection_name": "notes"}}])

    def saved(self, store):
        looked = store.read(self.run(store.look()).stdout.decode())
        parts = {}
        for stream in store.streams(looked, Packing(where="none"), "mark"):
            done = self.run(stream.command)
            parts[stream.part] = (done.stdout, store.counts_of(done.stderr.decode()))
        return looked, store.details_of(looked), parts

    def beside(self, store, looked, details, parts):
        self.run(store.beside(details, looked, TAG))
        for incoming in store.incoming(details, looked, TAG):
            self.run(incoming.command, parts[incoming.part][0])
        return store.counted(self.run(store.count(details, looked, TAG)).stdout.decode())

    def test_a_dump_is_the_snapshot_and_leaves_none_behind(self, store, qdrant, tmp_path):
        self.fill(qdrant)
        _, details, parts = self.saved(store)
        assert {name: counts for name, (_, counts) in parts.items()} == {
            "notes": {"points": 20},
            ODD: {"points": 3},
        }
        assert details["aliases"] == {"now": "notes"}
        assert [path for path in (tmp_path / "snapshots").rglob("*") if path.is_file()] == []

    def test_a_snapshot_that_comes_otherwise_is_no_dump(self, store, qdrant, monkeypatch):
        self.fill(qdrant)
        looked = store.read(self.run(store.look()).stdout.decode())
        described = type(qdrant).described
        wrong = hashlib.sha256(b"").hexdigest()
        monkeypatch.setattr(type(qdrant), "described", lambda *words: described(*words) | {"checksum": wrong})
        stream = store.streams(looked, Packing(where="none"), "mark")[0]
        done = subprocess.run(["sh", "-c", stream.command.script], capture_output=True, check=False)
        assert done.returncode == 1
        assert b"not the one that was taken" in done.stderr

    def test_it_comes_back_and_an_undo_brings_back_what_was_live(self, store, qdrant, tmp_path):
        self.fill(qdrant)
        before = json.dumps([qdrant.collections, qdrant.aliases], sort_keys=True)
        _, details, parts = self.saved(store)
        del qdrant.collections["notes"]["points"]["3"]
        qdrant.drop(ODD)
        qdrant.create(ODD, {"vectors": {"size": 9, "distance": "Dot"}})  # which no snapshot of the other fits
        qdrant.switch([{"delete_alias": {"alias_name": "now"}}])
        qdrant.switch([{"create_alias": {"alias_name": "other", "collection_name": "notes"}}])
        damaged = json.dumps([qdrant.collections, qdrant.aliases], sort_keys=True)
        looked = store.read(self.run(store.look()).stdout.decode())
        counts = self.beside(store, looked, details, parts)
        assert counts == {name: count for name, (_, count) in parts.items()}
        self.run(store.swap(details, looked, TAG))
        assert json.dumps([qdrant.collections, qdrant.aliases], sort_keys=True) == before
        for _ in range(2):
            self.run(store.swap_back(details, looked, TAG))
            self.run(store.discard(details, looked, TAG))
            assert json.dumps([qdrant.collections, qdrant.aliases], sort_keys=True) == damaged
        assert [path for path in (tmp_path / "snapshots").rglob("*") if path.is_file()] == []

    def test_on_a_new_server_it_comes_back_and_an_undo_leaves_that_empty(self, store, qdrant):
        self.fill(qdrant)
        _, details, parts = self.saved(store)
        before = json.dumps(qdrant.collections, sort_keys=True)
        for name in ("notes", ODD):
            qdrant.drop(name)
        looked = store.read(self.run(store.look()).stdout.decode())
        self.beside(store, looked, details, parts)
        self.run(store.swap(details, looked, TAG))
        assert json.dumps(qdrant.collections, sort_keys=True) == before
        assert self.run(store.lost(details, looked, TAG)).stdout == b""  # nothing was there to be kept
        self.run(store.swap_back(details, looked, TAG))
        assert qdrant.collections == {}

    def test_a_kept_snapshot_that_is_gone_is_told(self, store, qdrant, tmp_path):
        self.fill(qdrant)
        looked, details, parts = self.saved(store)
        self.beside(store, looked, details, parts)
        self.run(store.swap(details, looked, TAG))

        def told():
            return self.run(store.lost(details, looked, TAG)).stdout.decode()

        assert told() == ""
        (kept,) = (tmp_path / "snapshots" / "notes").iterdir()
        kept.unlink()
        assert told() == f"{LOST}snapshot {kept.name}\n"
        qdrant.drop("notes")  # its snapshots are on no list any more
        assert told() == ""
        record = tmp_path / f"qdrant-vectors-{TAG}"
        record.unlink()
        assert told() == f"{LOST}{record}\n"

    def test_what_a_restore_kept_goes_with_the_next(self, store, qdrant, tmp_path):
        self.fill(qdrant)
        looked, details, parts = self.saved(store)
        self.beside(store, looked, details, parts)
        self.run(store.swap(details, looked, TAG))
        self.run(store.forget(details, looked, TAG))
        assert len(list((tmp_path / "snapshots").rglob("*.snapshot"))) == 2
        self.run(store.forget(details, looked, "20260102t000000zabcd"))
        assert list((tmp_path / "snapshots").rglob("*.snapshot")) == []

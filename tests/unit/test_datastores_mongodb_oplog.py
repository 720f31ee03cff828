"""MongoDB's increments: what a slice of the oplog is asked for, when none can be taken, and how a chain comes back."""

import json
import os
import subprocess
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from ops.archive.manifest import Manifest, Part, Saved
from ops.archive.moments import as_of, at_moment
from ops.config.backups import MongoDB as Table
from ops.datastores import for_restore
from ops.datastores.base import Packing
from ops.datastores.increments import increments_of, progress_in
from ops.datastores.mongodb import MongoDB
from ops.datastores.mongodb_moment import MongoDBMoment
from ops.errors import ConfigError, UsageError
from ops.storage.base import Stored

pytestmark = [pytest.mark.parity("B2")]

TAG = "20260101t000000zabcd"
FULL, FIRST = "20260101T000000Z-aaaa", "20260101T010000Z-bbbb"
PLAIN = {"places": [], "timeseries": []}
SET = {"set": "rs0", "id": "6565", "oldest": {"t": 100, "i": 1}}
LAST = {"end": {"t": 200, "i": 3}, "term": "1", "id": "6565", "databases": ["shop"], "places": []}
DETAILS = {
    "databases": {"shop": {"timeseries": []}},
    "chain": [f"/indexes@{FULL}", f"shop@{FULL}", f"/oplog@{FULL}", f"/oplog@{FIRST}"],
    "moment": "2026-01-01T00:30:00Z",
    "increments": {"until": "2026-01-01T00:00:10.000Z"},
    "bytes": 1 << 20,
}


@pytest.fixture
def store(tmp_path):
    return MongoDB("documents", "shop-test", "mongodb", "db1", str(tmp_path), increments=True)


def looked(store, oplog=SET, databases=None):
    said = {"tool": "100.9.4", "container": "c1", "image": "mongo:7", "server": "7.0.14", "router": ""}
    said |= {"databases": json.dumps(databases or {"shop": PLAIN})}
    said |= {"oplog": json.dumps(oplog)} if oplog else {}
    return store.read("".join(f"{key}\t{value}\n" for key, value in said.items()))


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """Run shell with docker, mongosh and MongoDB's tools as scripts that are given; each call of one goes into `calls`."""
    folder = tmp_path / "tools"
    folder.mkdir()
    docker = (
        'case $1 in exec) while [ "$1" != sh ] && [ $# -gt 1 ]; do shift; done; exec "$@" ;; '
        "rm) exit ;; df) echo ;; esac"
    )

    def give(**scripts):
        for name, text in {"docker": docker, **scripts}.items():
            record = "" if name == "docker" else f'printf "%s\\n" "{name} $*" >> {tmp_path}/calls\n'
            (folder / name).write_text(f"#!/bin/sh\n{record}{text}\n")
            (folder / name).chmod(0o755)

    def run(command):
        environment = {"PATH": f"{folder}:{os.environ['PATH']}", "MONGO_INITDB_ROOT_USERNAME": "root"}
        environment["MONGO_INITDB_ROOT_PASSWORD"] = "sesame"
        return subprocess.run(
            ["sh", "-c", command.script], env=environment, capture_output=True, text=True, check=False
        )

    run.give, run.calls = give, tmp_path / "calls"
    return run


class TestBeginning:
    """What a chain needs."""

    def test_without_a_replica_set_it_says_what_to_do(self, store):
        with pytest.raises(ConfigError, match="no replica set") as caught:
            store.begin(looked(store, oplog=None))
        assert "--replSet" in caught.value.next_step
        assert "rs.initiate()" in caught.value.next_step
        assert "take increments out" in caught.value.next_step
        with pytest.raises(ConfigError, match="no replica set"):
            store.increment(looked(store, oplog=None), Packing(), "mark", LAST)

    def test_where_no_increments_are_wanted_nothing_is_asked(self, store):
        without = replace(store, increments=False)
        assert without.begin(looked(without, oplog=None)) is None
        assert increments_of(without) is None
        assert "oplog" not in without.look().script
        assert "oplog" in store.look().script

    def test_the_slice_comes_behind_the_dumps(self, store):
        streams = store.base(looked(store), Packing(where="none"), "mark", {"start": {"t": 7, "i": 1}})
        assert [(one.part, one.ending) for one in streams] == [
            ("/indexes", "indexes.json"),
            ("shop", "shop.archive"),
            ("/oplog", "oplog.bson"),
        ]
        assert '{"t": 7, "i": 1}' in streams[-1].command.script

    def test_nothing_is_kept_on_the_server_for_the_next_one(self, store):
        assert store.settled(looked(store), LAST) is None

    def test_increments_are_of_all_databases(self):
        with pytest.raises(ValueError, match="take databases out"):
            Table(service="mongodb", increments=True, databases=("shop",))


class TestTrouble:
    """Why no increment can follow."""

    def test_is_none_where_the_oplog_reaches_back(self, store):
        assert store.trouble(looked(store), LAST) is None
        assert store.trouble(looked(store, oplog={**SET, "oldest": LAST["end"]}), LAST) is None

    @pytest.mark.parametrize(
        ("oplog", "databases", "last", "why"),
        [
            (SET, None, {}, "without increments"),
            (None, None, LAST, "no replica set any more"),
            ({**SET, "id": "7878"}, None, LAST, "rs0 is another one"),
            ({**SET, "oldest": {"t": 200, "i": 4}}, None, LAST, "no longer reaches back"),
            (SET, {"shop": PLAIN, "new": PLAIN}, LAST, "database new came"),
            (SET, {"x": PLAIN}, {**LAST, "databases": ["shop", "x"]}, "database shop went"),
            (SET, {"shop": {**PLAIN, "places": [f"ops_old_{TAG}"]}}, LAST, "there was a restore since"),
        ],
    )
    def test_is_told(self, store, oplog, databases, last, why):
        assert why in store.trouble(looked(store, oplog, databases), last)


class TestSlices:
    """A slice's stdout is the oplog's alone; what it says stands beside."""

    ASKED = 'echo noise; echo \'query {"ts":{"$gt":1}}\'; echo \'ops-progress {"end":{"t":9,"i":1},"until":"U","term":"2"}\''
    CHECKED = "case $* in *settled*) {} ;; esac"
    DUMP = "printf BSON; printf '2026\\tdumped 3 documents\\n' >&2"

    def taken(self, store, tools):
        (stream,) = store.increment(looked(store), Packing(where="none"), "mark", LAST)
        return tools(stream.command)

    def test_it_is_what_lies_between_and_says_how_far_it_goes(self, store, tools):
        tools.give(mongosh=self.CHECKED.format(self.ASKED), mongodump=self.DUMP)
        done = self.taken(store, tools)
        assert (done.returncode, done.stdout) == (0, "BSON")
        assert store.counts_of(done.stderr) == {"oplog.rs": 3}
        told = progress_in(done.stderr)
        assert (told["end"], told["until"], told["term"]) == ({"t": 9, "i": 1}, "U", "2")
        assert (told["id"], told["databases"], told["places"]) == ("6565", ["shop"], [])
        assert "parts" not in told
        (call,) = [line for line in tools.calls.read_text().split("\n") if line.startswith("mongodump")]
        assert '--db=local --collection=oplog.rs --query {"ts":{"$gt":1}} --out=-' in call
        assert "sesame" not in tools.calls.read_text()

    def test_that_of_a_full_backup_says_which_parts_are_for_a_chain(self, store, tools):
        tools.give(mongosh=self.CHECKED.format(self.ASKED), mongodump=self.DUMP)
        *_, stream = store.base(looked(store), Packing(where="none"), "mark", {"start": {"t": 7, "i": 1}})
        told = progress_in(tools(stream.command).stderr)
        assert (told["parts"], told["dumps"]) == (["/indexes", "/oplog"], True)

    def test_one_that_cannot_be_asked_for_gives_the_reason_and_nothing_else(self, store, tools):
        tools.give(mongosh="echo 'rolled back by an election'; exit 1", mongodump=self.DUMP)
        done = self.taken(store, tools)
        assert (done.returncode, done.stdout) == (1, "")
        assert "rolled back by an election" in done.stderr

    def test_one_that_the_oplog_let_go_of_meanwhile_is_none(self, store, tools):
        late = f"case $* in *settled*) {self.ASKED} ;; *) echo 'has let go of entries'; exit 1 ;; esac"
        tools.give(mongosh=late, mongodump=self.DUMP)
        done = self.taken(store, tools)
        assert done.returncode == 1
        assert "has let go of entries" in done.stderr
        assert progress_in(done.stderr) == {}

    def test_a_dump_that_fails_is_none(self, store, tools):
        tools.give(mongosh=self.CHECKED.format(self.ASKED), mongodump=f"{self.DUMP}; exit 1")
        assert self.taken(store, tools).returncode == 1


def manifest(kind, backup, minute, parts, counts, progress):
    saved = Saved(
        "mongodb",
        "db1",
        {"mongodb": "7.0.14"},
        tuple(Part(name, (Stored(f"{backup}/{name}", 1, "aa"),), 1, "aa", "none") for name in parts),
        counts,
        {"databases": {"shop": {"timeseries": []}}, "image": "mongo:7", "increments": progress},
    )
    when = datetime(2026, 1, 1, 0, minute, tzinfo=UTC).isoformat()
    return Manifest(
        id=backup, kind=kind, chain=FULL, after="" if kind == "full" else FULL, stack="shop", environment="test",
        project="shop-test", started_at=when, finished_at=when, tool="opsbook", datastores={"documents": saved},
    )  # fmt: skip


CHAIN = (
    manifest(
        "full", FULL, 1, ("/indexes", "shop", "/oplog"), {"shop": {"orders": 5}, "/oplog": {"oplog.rs": 1}},
        {"parts": ["/indexes", "/oplog"], "dumps": True, "until": "2026-01-01T00:00:10.000Z", "size": 7},
    ),
    manifest("incremental", FIRST, 40, ("/oplog",), {"/oplog": {"oplog.rs": 3}}, {"until": "2026-01-01T00:40:00.000Z"}),
)  # fmt: skip


class TestChains:
    """What of a chain a restore is given."""

    def test_a_moment_takes_the_dumps_and_all_slices_and_counts_the_dumps_apart(self):
        saved = at_moment([CHAIN], datetime(2026, 1, 1, 0, 30, tzinfo=UTC)).datastores["documents"]
        assert [part.name for part in saved.parts] == DETAILS["chain"] == saved.details["chain"]
        assert saved.counts == {
            f"shop@{FULL}": {"orders": 5},
            f"/oplog@{FULL}": {"oplog.rs": 1},
            f"/oplog@{FIRST}": {"oplog.rs": 3},
        }
        assert saved.details["moment"] == "2026-01-01T00:30:00Z"
        assert saved.details["increments"]["until"] == "2026-01-01T00:00:10.000Z"

    def test_a_full_backup_alone_is_its_dumps(self):
        saved = as_of(CHAIN, FULL).datastores["documents"]
        assert [part.name for part in saved.parts] == ["shop"]
        assert saved.counts == {"shop": {"orders": 5}}
        assert "moment" not in saved.details


class TestMoment:
    """Replayed in a throw-away server, then brought beside what is live."""

    def test_is_for_backups_with_a_moment_alone(self, store):
        assert isinstance(for_restore(store, DETAILS), MongoDBMoment)
        assert for_restore(store, {"databases": {}}) is store

    def test_it_may_not_lie_before_the_dumps_by_the_clock_of_the_server(self, store, tools):
        tools.give()
        early = {**DETAILS, "moment": "2026-01-01T00:00:09.999Z"}
        done = tools(MongoDBMoment(store).beside(early, looked(store), TAG))
        assert done.returncode == 1
        assert "its dumps ended at 2026-01-01T00:00:10.000Z" in done.stderr

    def test_the_server_has_no_network_and_what_an_earlier_run_left_goes_first(self, store):
        script = MongoDBMoment(store).beside(DETAILS, looked(store), TAG).script
        made = script.index("docker run --detach")
        assert "--network none" in script[made:]
        assert "ttlMonitorEnabled=false" in script[made:]
        assert 0 < script.index("docker rm -f -v $s") < made
        gone = MongoDBMoment(store).discard(DETAILS, looked(store), TAG).script
        name = script[made:].split("--name ")[1].split(" ")[0]
        assert f"docker rm -f -v {name}" in gone

    def test_indexes_are_built_behind_the_oplog(self, store):
        coming = MongoDBMoment(store).incoming(DETAILS, looked(store), TAG)
        assert [one.part for one in coming] == DETAILS["chain"]
        assert "--noIndexRestore" in coming[1].command.script
        assert all("cat >" in coming[n].command.script for n in (0, 2, 3))

    def test_one_database_is_replayed_with_all_and_comes_back_alone(self, store):
        both = {**DETAILS, "databases": {"shop": {"timeseries": []}, "other": {"timeseries": []}}}
        details, counts = MongoDBMoment(store).narrowed(both, {f"other@{FULL}": {"x": 1}}, {"shop"})
        assert list(details["databases"]) == ["shop"]
        assert counts == {f"other@{FULL}": {"x": 1}}
        with pytest.raises(UsageError, match="holds no database"):
            MongoDBMoment(store).narrowed(both, {}, {"nothing"})


class TestReplay:
    """Counted before, in the throw-away server, and beside the live collections."""

    SHELL = (
        "case $* in *SCAN*writeFileSync*) echo 'ops-count [\"shop@F\",\"orders\",5]'; echo 'limit {limit}' ;; "
        '*timeseries*) echo \'ops-count ["shop","orders",4]\' ;; *ops_new*) echo \'ops-count ["shop","orders",{live}]\' ;; esac'
    )
    DUMP = "printf archive"
    RESTORE = "cat >/dev/null; case $* in *oplogReplay*) exit 0 ;; esac"

    def counted(self, store, tools, *, limit="9:1", live=4, **scripts):
        given = {"mongodump": self.DUMP, "mongorestore": self.RESTORE, **scripts}
        tools.give(mongosh=self.SHELL.replace("{limit}", limit).replace("{live}", str(live)), **given)
        return tools(MongoDBMoment(store).count(DETAILS, looked(store), TAG))

    def test_ends_before_the_first_entry_behind_the_moment(self, store, tools):
        done = self.counted(store, tools)
        assert done.returncode == 0, done.stderr
        assert store.counted(done.stdout) == {"shop@F": {"orders": 5}, "shop": {"orders": 4}}
        calls = tools.calls.read_text()
        assert (
            "mongorestore --oplogReplay --oplogFile=/opsbook/oplog --oplogLimit=9:1 --dir=/opsbook/dump"
            in calls
        )
        assert f"--nsFrom=shop.$c$ --nsTo=shop.ops_new_{TAG}.$c$" in calls

    @pytest.mark.parametrize("fraction", ["001", "009", "115", "555", "999", "999999"])
    def test_takes_the_moment_to_the_very_millisecond(self, store, fraction):
        at = {**DETAILS, "moment": f"2026-11-22T14:03:07.{fraction}Z"}
        script = MongoDBMoment(store).count(at, looked(store), TAG).script
        assert f"const until = 1795356187{fraction[:3]};" in script

    def test_indexes_come_last_on_the_live_server(self, store, tools, tmp_path):
        store = replace(store, project=str(tmp_path))
        kept = store._kept
        keeps = (
            f'case $* in *"readSync(8"*) mkdir -p {kept}; dd bs=4 count=1 of={kept}/head <&8; exit ;; esac; '
        )
        tools.give(
            mongosh=keeps + self.SHELL.replace("{limit}", "").replace("{live}", "4"),
            mongodump=self.DUMP,
            mongorestore='case $* in *nsFrom*) [ "$(cat)" = archive ] ;; esac',
        )
        done = tools(MongoDBMoment(store).count(DETAILS, looked(store), TAG))
        assert done.returncode == 0, done.stderr
        restores = [line for line in tools.calls.read_text().split("\n") if line.startswith("mongorestore")]
        assert [("--noIndexRestore" in line, "--dir" in line) for line in restores] == [
            (False, True),
            (True, False),
            (False, True),
        ]
        assert f"--dir={kept}/dump" in restores[-1]

    def test_of_a_whole_chain_has_no_limit(self, store, tools):
        assert self.counted(store, tools, limit="").returncode == 0
        assert "--oplogLimit" not in tools.calls.read_text()

    def test_refuses_what_is_other_beside_the_live_collections(self, store, tools):
        done = self.counted(store, tools, live=3)
        assert done.returncode == 1
        assert "is not what the replay came to" in done.stderr

    @pytest.mark.parametrize(
        "broken",
        [
            {"mongodump": "printf arch; exit 1"},
            {"mongorestore": "cat >/dev/null; case $* in *nsFrom*) exit 1 ;; esac"},
            {"mongorestore": "cat >/dev/null; case $* in *oplogReplay*) exit 1 ;; esac"},
        ],
    )
    def test_fails_where_any_tool_does(self, store, tools, broken):
        assert self.counted(store, tools, **broken).returncode != 0

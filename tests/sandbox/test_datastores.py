"""What every kind of datastore in a container promises to a backup and to a restore, one row for each kind."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import signal
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote as quoted

import pytest
from fleets import containers, emptied, on, until
from stacks import SERVERS, Stack

from ops import sandbox as boxes
from ops.datastores.mongodb_indexes import passing
from ops.datastores.mongodb_moment import SCAN

pytestmark = [pytest.mark.parity("B1"), pytest.mark.parity("B5"), pytest.mark.parity("B6")]

PROJECT = "stores-test"
PASSWORD = 'pass\'word $1 "quoted"'
COMPOSE = """\
services:
  redis:
    image: redis:7
    restart: unless-stopped
    command: ["redis-server", "--enable-debug-command", "yes", "--save", ""]
    volumes: ["redis:/data"]
  redis-aof:
    image: redis:7
    restart: unless-stopped
    environment:
      REDIS_PASSWORD: ${PASSWORD}
    command: ["sh", "-c", 'exec docker-entrypoint.sh redis-server --enable-debug-command yes --appendonly yes --requirepass "$$REDIS_PASSWORD"']
    volumes: ["redis-aof:/data"]
  qdrant:
    image: qdrant/qdrant:v1.15.4
    restart: unless-stopped
    environment:
      QDRANT__SERVICE__API_KEY: ${PASSWORD}
    volumes: ["qdrant:/qdrant/storage", "qdrant-snapshots:/qdrant/snapshots"]
  mongodb:
    image: mongo:7
    restart: unless-stopped
    environment:
      MONGO_INITDB_ROOT_USERNAME: root
      MONGO_INITDB_ROOT_PASSWORD: ${PASSWORD}
    volumes: ["mongodb:/data/db"]
volumes:
  mongodb:
  redis:
  redis-aof:
  qdrant:
  qdrant-snapshots:
"""
TOML = """
stack = "stores"
ssh_config = "{ssh_config}"
[lock]
heartbeat = 1
stale_after = 5
[environments.test.servers.web1]
address = "{address}"
[datastores.redis.redis]
service = "redis"
[datastores.redis.redis-aof]
service = "redis-aof"
[datastores.qdrant.qdrant]
service = "qdrant"
[datastores.mongodb.mongodb]
service = "mongodb"
"""
# Stands before a tool of the server: it kills the shell that calls it with certain words, once, or from then on. Given an
# expression of sed instead, it changes the words, and with `always` does nothing from then on.
CUT = """\
#!/bin/sh
if [ -e /run/ops-cut ]; then
  { read -r times; IFS= read -r word; } < /run/ops-cut
  hit=
  case $word in
  s/*)
    [ ! -e /run/ops-cut.hit ] || exit 1
    for one; do
      other=$(printf %s "$one" | sed "$word")
      [ "$other" = "$one" ] || touch /run/ops-cut.hit
      set -- "$@" "$other"; shift
    done
    [ "$times" = always ] || [ ! -e /run/ops-cut.hit ] || rm -f /run/ops-cut /run/ops-cut.hit
    exec /usr/bin/{tool} "$@" ;;
  esac
  case "^$* " in *"$word"*) hit=yes ;; esac
  if [ "$hit" ] || [ -e /run/ops-cut.hit ]; then
    touch /run/ops-cut.hit
    [ "$times" = always ] || rm -f /run/ops-cut /run/ops-cut.hit
    kill -9 $PPID
    exit 1
  fi
fi
exec /usr/bin/{tool} "$@"
"""
# Ends what is over by an index with a time to live, as a server does; the stand-in's does not.
MONITOR = """
while (!require("fs").existsSync("/tmp/enough")) {
  for (const name of base("shop").getCollectionNames()) {
    const one = base("shop").getCollection(name);
    try {
      for (const { key, expireAfterSeconds } of one.getIndexes()) if (expireAfterSeconds !== undefined)
        one.deleteMany({ [Object.keys(key)[0]]: { $lt: new Date(Date.now() - 1000 * expireAfterSeconds) } });
    } catch (error) {}  // it was renamed, or is gone
  }
  sleep(50);
}
"""


@dataclass(frozen=True)
class Kind:
    """A row: how one is filled with what is awkward, what it holds then, an accident, and where a swap is cut off.

    `begin` makes what it has while it is empty. `filled` are the counts of what `fill` wrote, by part. `cuts` are in the
    words of calls of `tool` on the server, behind a `^`.
    """

    name: str
    fill: Callable[[], object]
    everything: Callable[[], str]
    damage: Callable[[], object]
    filled: Mapping[str, Mapping[str, int]]
    tool: str
    cuts: tuple[str, ...]
    begin: Callable[[], object] = lambda: None


def container(service: str) -> str:
    """Return the id of a service's container."""
    (one,) = containers("web1", PROJECT, service)
    return one.id


def redis(service: str, *commands: str) -> str:
    """Return what Redis answers to commands, one after another."""
    login = 'export REDISCLI_AUTH="$REDIS_PASSWORD"; exec redis-cli'
    text = "".join(f"{command}\n" for command in commands)
    return on("web1", f"docker exec -i {container(service)} sh -c '{login}'", stdin=text.encode()).strip()


def redis_row(name: str) -> Kind:
    """Return the row of one of the two: all types, binary keys and values, several databases, times that come and one that is over."""

    def fill() -> None:
        redis(
            name,
            *(
                "flushall",
                'set "a key with \'quotes\' \\"and\\" ü" "\\x00\\xff\\r\\n"',
                'set "\\x00\\xfe" binary',
            ),
            *(
                "hset hash field value other 2",
                "rpush list a b c",
                "sadd set 1 2 three",
                "zadd zset 1.5 a 2 b",
            ),
            *("xadd stream 1-1 field value", "xgroup create stream readers 0", "setrange big 300000 end"),
            *("set later value", "pexpireat later 4000000000000"),
            *("debug set-active-expire 0", "set soon gone px 1"),
            *(f"set many:{number} {'x' * 10}" for number in range(1000)),
            *("select 3", "set other database", "select 15", "set last one"),
        )

    def everything() -> str:
        return redis(name, "get soon", "debug digest", "pexpiretime later").strip()

    def damage() -> None:
        redis(name, "del hash list", "set zset overwritten", "set since new", "select 3", "flushdb")

    counts = {"rdb": {"keys": 1012, "db 0": 1010, "db 3": 1, "db 15": 1}}
    cuts = ("^stop ", "^run ", "^start ") if name == "redis" else ("^start ",)
    return Kind(name, fill, everything, damage, counts, "docker", cuts)


ODD = "it's ü & 100% #1"


def qdrant(*requests: tuple[str, str, object]) -> list[Any]:
    """Return what Qdrant answers to requests (verb, path, body) in turn, asked through its container's address at one go."""
    (address,) = json.loads(on("web1", f"docker inspect {container('qdrant')}"))[0]["NetworkSettings"][
        "Networks"
    ].values()
    configs = [
        "silent\nshow-error\n"
        + "".join(
            f"{key} = {json.dumps(value, ensure_ascii=False)}\n"
            for key, value in (
                ("url", f"http://{address['IPAddress']}:6333{quoted(path, safe='/?=&')}"),
                ("request", verb),
                ("header", f"api-key: {PASSWORD}"),
                ("data-binary", json.dumps(body) if body is not None else ""),
                ("write-out", "\n"),
            )
        )
        for verb, path, body in requests
    ]
    told = on("web1", "/usr/bin/curl -sS -K -", stdin="next\n".join(configs).encode())
    results = [json.loads(line)["result"] for line in told.split("\n") if line]
    assert len(results) == len(requests), told
    return results


def qdrant_row() -> Kind:
    """Return the row of Qdrant: an odd name, payloads in unicode, aliases, a collection that is made anew."""
    vectors = {"vectors": {"size": 3, "distance": "Dot"}}
    points = [
        {"id": n, "vector": [n, 0.25, -1.5], "payload": {"name": f"ü{n}", "odd": 'it\'s "q"'}}
        for n in range(1, 51)
    ]
    alias = {"create_alias": {"alias_name": "current", "collection_name": "notes"}}

    renewed: list[tuple[str, str, object]] = [
        request
        for name in ("notes", ODD)
        for request in (
            ("DELETE", f"/collections/{name}", None),
            ("PUT", f"/collections/{name}", vectors),
        )
    ]
    renewed.append(("DELETE", "/collections/since", None))

    def begin() -> None:
        qdrant(*renewed)

    def fill() -> None:
        qdrant(
            *renewed,
            ("PUT", "/collections/notes/points?wait=true", {"points": points}),
            ("PUT", f"/collections/{ODD}/points?wait=true", {"points": points[:7]}),
            ("POST", "/collections/aliases", {"actions": [alias]}),
        )

    def everything() -> str:
        notes, odd, of_notes, of_odd, all_of_them, aliases = qdrant(
            *(("POST", f"/collections/{name}/points/scroll", {"limit": 99}) for name in ("notes", ODD)),
            *(("GET", f"/collections/{name}", None) for name in ("notes", ODD)),
            ("GET", "/collections", None),
            ("GET", "/aliases", None),
        )
        assert len(all_of_them["collections"]) <= 3  # nothing is left beside
        found, sizes = {"notes": notes, ODD: odd}, {"notes": of_notes["config"], ODD: of_odd["config"]}
        return json.dumps([found, sizes, aliases], sort_keys=True)

    def damage() -> None:
        again = {"create_alias": {"alias_name": "current", "collection_name": "since"}}
        qdrant(
            ("POST", "/collections/notes/points/delete?wait=true", {"points": [1, 2, 3]}),
            ("PUT", "/collections/since", vectors),
            ("POST", "/collections/aliases", {"actions": [again]}),
            ("DELETE", f"/collections/{ODD}", None),
            ("PUT", f"/collections/{ODD}", {"vectors": {"size": 2, "distance": "Dot"}}),
            ("PUT", f"/collections/{ODD}/points?wait=true", {"points": [{"id": 1, "vector": [1, 2]}]}),
        )

    counts = {"notes": {"points": 50}, ODD: {"points": 7}}
    return Kind(
        "qdrant",
        fill,
        everything,
        damage,
        counts,
        "mv",
        (".part /opt/stores/test/qdrant-", ".half /opt"),
        begin,
    )


def mongo(script: str, options: str = "") -> str:
    """Return what a script of mongosh prints in the container; `base` gives a database."""
    connect = (
        "const e = process.env, mongo = new Mongo(`mongodb://root:${encodeURIComponent(e.MONGO_INITDB_ROOT_PASSWORD)}"
        "@127.0.0.1/?authSource=admin&directConnection=true`), base = (name) => mongo.getDB(name);\n"
    )
    shell = f"docker exec {options} {container('mongodb')} mongosh --nodb --norc --quiet --eval {shlex.quote(connect + script)}"
    return on("web1", shell).strip()


def mongo_row() -> Kind:
    """Return the row of MongoDB: two databases, odd names, types, indexes, a collection that is empty."""

    def begin() -> None:
        mongo(
            'for (const name of ["shop", "ünder"]) { base(name).dropDatabase(); base(name).createCollection("void"); }'
        )

    def fill() -> None:
        mongo(
            'for (const name of ["shop", "ünder"]) { base(name).dropDatabase(); base(name).createCollection("void"); }'
            'base("shop").getCollection("a.b (1 document)").insertMany([...Array(300).keys()].map((n) => '
            '({ _id: n, at: new Date(n), bytes: BinData(0, "AP8="), ü: NumberLong(n), price: NumberDecimal("1.5") })));'
            'base("shop").getCollection("it\'s \\"odd\\" ü").insertOne({ _id: "ü", x: /re/i });'
            'base("shop").orders.createIndex({ number: 1 }, { unique: true });'
            'base("shop").orders.createIndex({ at: 1 }, { expireAfterSeconds: 3600 });'
            'base("shop").orders.insertOne({ _id: 1, number: 1, big: "x".repeat(300000) });'
            'base("ünder").y.insertMany([{ _id: 1 }, { _id: 2 }]);'
        )

    def everything() -> str:
        return mongo(
            'print(EJSON.stringify(["shop", "ünder"].map((name) => base(name).getCollectionNames()'
            ".filter((one) => !/^ops_old_/.test(one)).sort().map((one) => [one, base(name).getCollection(one).getIndexes()"
            ".map(({ name, key, unique, expireAfterSeconds }) => ({ name, key, unique, expireAfterSeconds })), "
            "base(name).getCollection(one).find().sort({ _id: 1 }).toArray()]))))"
        )

    def damage() -> None:
        mongo(
            'base("shop").getCollection("a.b (1 document)").deleteMany({ _id: { $gt: 9 } }); base("shop").orders.drop();'
            'base("shop").since.insertOne({ _id: 1 }); base("ünder").y.updateOne({ _id: 1 }, { $set: { a: 1 } });'
            'base("ünder").void.insertOne({ _id: 1 });'
        )

    shop = {"a.b (1 document)": 300, 'it\'s "odd" ü': 1, "orders": 1, "void": 0}
    counts = {"shop": shop, "ünder": {"void": 0, "y": 2}}
    cuts = ("s/move(db, part, half);/quit(9);/", "s/move(db, half, done);/quit(9);/")
    return Kind("mongodb", fill, everything, damage, counts, "docker", cuts, begin)


KINDS = (redis_row("redis"), redis_row("redis-aof"), qdrant_row(), mongo_row())
rows = pytest.mark.parametrize("kind", [pytest.param(kind, id=kind.name) for kind in KINDS])


@pytest.fixture(scope="module")
def stack(sandbox: boxes.Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """One of each kind on one server, empty."""
    boxes.up(SERVERS, also=("qdrant/qdrant", "mongo"), say=lambda text: None)
    there = emptied("web1")
    folder = tmp_path_factory.mktemp("stores") / "stores"
    folder.mkdir()
    (folder / "ops.toml").write_text(
        TOML.format(ssh_config=there.ssh_config, address=f"{SERVERS[0]}.sandbox")
    )
    on(
        "web1",
        f"export PASSWORD={shlex.quote(PASSWORD)}; docker compose -p {PROJECT} -f - up -d --quiet-pull --wait 2>&1",
        stdin=COMPOSE.encode(),
    )
    return Stack(folder, "test")


@pytest.fixture(scope="module")
def empty(stack: Stack) -> str:
    """The id of a backup of all of them while they were empty; they are filled behind it."""
    for kind in KINDS:
        kind.begin()
    taken = stack.json("backup.full")["data"]["id"]  # type: ignore[index]
    for kind in KINDS:
        kind.fill()
    return str(taken)


@pytest.fixture(scope="module")
def backed(stack: Stack, empty: str) -> Stack:
    """The stack with everything filled and in a backup, which is the newest."""
    stack.run("backup.full")
    return stack


@pytest.fixture
def cut() -> Iterator[Callable[..., None]]:
    """Arm the tool of a kind to cut off the swap at a word."""

    def arm(kind: Kind, word: str, times: str = "once") -> None:
        tool = CUT.replace("{tool}", kind.tool)
        on(
            "web1",
            f"cat > /usr/local/bin/{kind.tool}; chmod +x /usr/local/bin/{kind.tool}",
            stdin=tool.encode(),
        )
        on("web1", f"printf '%s\\n' {times} {shlex.quote(word)} > /run/ops-cut")

    yield arm
    disarm()


def disarm() -> None:
    """Let all tools of the server be as they were."""
    on("web1", "rm -f /run/ops-cut*; for t in docker mv; do rm -f /usr/local/bin/$t; done")


def restored(stack: Stack, kind: Kind, *, backup: str = "latest", status: int = 0) -> str:
    """Restore one datastore and return what was said."""
    done = stack.run(
        *("restore", "--id", backup, "--only", kind.name, "--confirm", "test", "--no-safety"), status=status
    )
    return done.stdout + done.stderr


def undone(stack: Stack) -> None:
    """Undo the last restore."""
    stack.run("restore.undo", "--confirm", "test")


@rows
def test_what_was_saved_comes_back_and_an_undo_brings_back_what_was_since(backed: Stack, kind: Kind) -> None:
    """Counted as the dump says, in the container that was there; a second time is refused."""
    kind.fill()
    before, ran = kind.everything(), container(kind.name)
    entries = backed.json("backup.list")["data"]["entries"]  # type: ignore[index]
    assert entries[-1]["manifest"]["datastores"][kind.name]["counts"] == kind.filled
    kind.damage()
    damaged = kind.everything()
    assert damaged != before
    restored(backed, kind)
    assert kind.everything() == before
    undone(backed)
    assert kind.everything() == damaged
    assert container(kind.name) == ran
    assert "no restore to undo" in backed.run("restore.undo", "--confirm", "test", status=2).stderr


@rows
def test_an_empty_one_comes_back_empty(backed: Stack, empty: str, kind: Kind) -> None:
    """And an undo of that brings back all that there was."""
    before = kind.everything()
    restored(backed, kind, backup=empty)
    assert kind.everything() != before
    undone(backed)
    assert kind.everything() == before


@rows
def test_a_swap_that_is_cut_off_anywhere_is_taken_back(
    backed: Stack, kind: Kind, cut: Callable[..., None]
) -> None:
    """The shell on the server is killed at one step after another; the live data is as it was each time."""
    kind.fill()
    kind.damage()
    damaged = kind.everything()
    for word in kind.cuts:
        cut(kind, word)
        restored(backed, kind, status=3)
        assert kind.everything() == damaged, word


@rows
def test_one_that_stays_cut_off_is_undone_by_a_later_run(
    backed: Stack, kind: Kind, cut: Callable[..., None]
) -> None:
    """Also with the server standing still in the middle of it."""
    kind.fill()
    kind.damage()
    damaged = kind.everything()
    cut(kind, kind.cuts[-1], "always")
    restored(backed, kind, status=4)
    disarm()
    undone(backed)
    assert kind.everything() == damaged


def test_a_dump_that_is_killed_leaves_nothing_running_in_the_container(backed: Stack) -> None:
    """A save that takes long is waited for by nobody once the run is gone, and the next backup works."""
    redis("redis", "config set rdb-key-save-delay 8000")  # microseconds for each of a thousand keys
    begun = backed.start("backup.full", "--only", "redis")
    try:
        until("the dump waits for the save", lambda: at_work("redis"))
        os.kill(begun.pid, signal.SIGKILL)
        begun.communicate(timeout=60)
        until("nothing of the dump is left", lambda: not at_work("redis"))
    finally:
        redis("redis", "config set rdb-key-save-delay 0")
    backed.run("backup.full", "--only", "redis", "--wait", "60")


def at_work(service: str) -> str:
    """Return the processes of a run in a container."""
    script = "grep -lz ^OPS_RUN= /proc/[0-9]*/environ 2>/dev/null"
    return on("web1", f"docker exec {container(service)} sh -c '{script}' || true").strip()


def test_all_of_them_come_back_at_once_and_no_password_is_in_an_argument_or_a_log(backed: Stack) -> None:
    """Every process of the server is looked at while a backup and a restore are at work."""
    for kind in KINDS:
        kind.fill()
    before = [kind.everything() for kind in KINDS]
    watch = (
        "rm -f /run/seen; while [ ! -e /run/enough ]; do "
        "grep -aH '' /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' >> /run/seen; sleep 0.05; done"
    )
    on("web1", f"rm -f /run/enough; setsid sh -c {shlex.quote(watch)} >/dev/null 2>&1 &")
    try:
        told = backed.run("backup.full").stdout
        for kind in KINDS:
            kind.damage()
        told += backed.run("restore", "--id", "latest", "--confirm", "test", "--no-safety").stdout
    finally:
        on("web1", "touch /run/enough")
    assert [kind.everything() for kind in KINDS] == before
    told += "".join(path.read_text() for path in (Path(backed.folder) / ".ops/logs").iterdir())
    seen = on("web1", "cat /run/seen")
    assert all(tool in seen for tool in ("mongodump", "mongorestore", "curl -sS"))
    # What the tests and the stack's own start call have it; no tool of ours has.
    ours = [line for line in seen.split("\n") if "OPS_RUN" in line or "curl" in line or "--archive" in line]
    assert not [line for line in ours if PASSWORD in line]
    assert PASSWORD not in told


def test_an_index_that_cannot_be_built_ends_a_restore_before_the_swap(
    backed: Stack, cut: Callable[..., None]
) -> None:
    """The live data is as it was, and nothing is left beside it."""
    kind = mongo_row()
    kind.fill()
    kind.damage()
    damaged = kind.everything()
    twice = 'mongo.getDB("shop").getCollection(`ops_new_${tag}.orders`).insertOne({ number: 1 });'
    cut(kind, f"s/^databases.forEach((db) => {{$/{twice} &/")
    assert "E11000" in restored(backed, kind, status=1)
    assert kind.everything() == damaged
    assert "opsbook-" not in on("web1", f"docker exec {container('mongodb')} ls /tmp")


def test_what_is_over_by_a_time_to_live_is_counted_and_ends_behind_that(backed: Stack) -> None:
    """However soon the server looks for it."""
    kind = mongo_row()
    kind.fill()
    mongo(
        'base("shop").orders.insertMany([...Array(50).keys()].map((n) => ({ number: 2 + n, at: new Date(n) })))'
    )
    taken = str(backed.json("backup.full", "--only", "mongodb")["data"]["id"])  # type: ignore[index]
    mongo(MONITOR, "--detach")
    try:
        count = 'print(base("shop").orders.countDocuments({}))'
        until("what is over has ended", lambda: mongo(count) == "1")
        restored(backed, kind, backup=taken)
        until("what came back has ended as well", lambda: mongo(count) == "1")
    finally:
        on("web1", f"docker exec {container('mongodb')} touch /tmp/enough")


def test_what_an_archive_says_of_its_collections_is_kept_and_all_of_it_goes_on(stack: Stack) -> None:
    """With the order of keys; a clustered collection is made without its time to live."""
    index = '{"key":{"b":{"$numberInt":"1"},"0":{"$numberInt":"1"}},"name":"b_1_0_1"}'
    long = "ж" * 60
    options = {
        "events": '"clusteredIndex":{"key":{"_id":{"$numberInt":"1"}},"unique":true},"expireAfterSeconds":{"$numberLong":"3600"}',
        "plain ü/+%": "",
        long: "",
    }
    said = {
        name: f'{{"options":{{{one}}},"indexes":[{index}],"collectionName":"{name}"}}'
        for name, one in options.items()
    }
    described = [
        document(text("db", "kept"), text("collection", name), text("metadata", one), (18, "size", bytes(8)))
        for name, one in said.items()
    ]
    head = document((16, "concurrent_collections", bytes(4)), text("version", "0.1"))
    archive = b"\x6d\xe2\x99\x81" + head + b"".join(described) + b"\xff" * 4 + bytes(range(256)) * 4096
    tag, folder = "20260101t000000zabcd", "/tmp/kept"
    given = f'const database = "kept", tag = "{tag}", folder = "{folder}";\n'
    inside = f"docker exec -i {container('mongodb')} sh -c"

    hashed = on("web1", f"{inside} {shlex.quote(passing(given, folder))} | md5sum", stdin=archive)

    assert hashed.split()[0] == hashlib.md5(archive).hexdigest()
    assert json.loads(on("web1", f"{inside} 'cat {folder}/clustered/kept'")) == [
        [f"ops_new_{tag}.events", {"$numberLong": "3600"}]
    ]
    assert mongo('print(base("kept").getCollectionNames())') == f"[ 'ops_new_{tag}.events' ]"
    for name in ("events", "plain ü/+%"):
        path = f"{folder}/dump/kept/ops_new_{tag}.{quoted(name, safe='')}.metadata.json"
        assert on("web1", f"{inside} {shlex.quote(f'cat {path}')}") == said[name]
    shortened = on("web1", f"{inside} 'cat {folder}/dump/kept/*%24*'")
    assert json.loads(shortened)["collectionName"] == quoted(f"ops_new_{tag}.{long}", safe="")
    mongo('base("kept").dropDatabase()')
    on("web1", f"{inside} 'rm -r {folder}'")


@pytest.mark.parity("B2")
def test_increments_of_a_server_without_an_oplog_are_refused(stack: Stack, tmp_path: Path) -> None:
    """Before anything is dumped, and with what to do."""
    text = (stack.folder / "ops.toml").read_text()
    (tmp_path / "ops.toml").write_text(f"{text}increments = true\n")
    told = Stack(tmp_path, "test").run("backup.full", status=2).stderr
    assert "no replica set" in told
    assert "rs.initiate()" in told
    assert not list(tmp_path.glob(".ops/backups/**/*.zst"))


def document(*fields: tuple[int, str, bytes]) -> bytes:
    """Return a document as BSON, of fields that are each a type, a name and a value as it is written."""
    body = b"".join(bytes([kind]) + name.encode() + b"\0" + value for kind, name, value in fields)
    return struct.pack("<i", len(body) + 5) + body + b"\0"


def text(name: str, value: str) -> tuple[int, str, bytes]:
    """Return a field that is a text."""
    written = value.encode() + b"\0"
    return 2, name, struct.pack("<i", len(written)) + written


def entry(seconds: int, wall: int) -> bytes:
    """Return an entry of an oplog, as BSON with all that may stand before and behind what counts."""
    made = document
    stamp, date = (17, "ts", struct.pack("<II", 7, seconds)), (9, "wall", struct.pack("<q", wall))
    text = struct.pack("<i", 3) + b"\xc3\xbc\0"
    return made(
        *((2, "ns", text), (3, "o", made((9, "wall", struct.pack("<q", 1 << 50)), (17, "ts", bytes(8)))), (4, "a", made())),
        *((5, "ui", struct.pack("<iB", 16, 4) + bytes(16)), (11, "re", b"^x\0i\0"), (12, "ref", text + bytes(12)), (10, "n", b"")),
        *((1, "d", bytes(8)), (7, "id", bytes(12)), (8, "b", b"\1"), (16, "i", bytes(4)), (18, "t", bytes(8)), (19, "m", bytes(16))),
        *(stamp, date, (13, "js", text), (15, "scope", struct.pack("<i", 16) + text + made()), (255, "min", b"")),
    )  # fmt: skip


@pytest.mark.parity("B2")
def test_a_replay_ends_before_the_first_entry_past_its_moment_and_counts_each_slice(stack: Stack) -> None:
    """Found by the container's own shell; what was cut off is no oplog."""
    first, second = entry(1, 1000) + entry(2, 2000), entry(3, 3000)
    ends = [len(first), len(first), len(first + second)]

    def scanned(until: int) -> str:
        given = f'"/tmp/oplog", {json.dumps(ends)}, {until}'
        script = f'const scan = new Function("fs", "path", "ends", "until", {json.dumps(SCAN)}); print(JSON.stringify(scan(require("fs"), {given})))'
        words = f"mongosh --nodb --norc --quiet --eval {shlex.quote(script)} 2>&1 || true"
        return on("web1", f"docker exec {container('mongodb')} {words}").strip()

    writing = f"docker exec -i {container('mongodb')} sh -c 'cat > /tmp/oplog'"
    on("web1", writing, stdin=first + second)
    assert json.loads(scanned(1999)) == {"counts": [2, 0, 1], "limit": "2:7"}
    assert json.loads(scanned(3000)) == {"counts": [2, 0, 1], "limit": None}
    on("web1", writing, stdin=(first + second)[:-1])
    assert "the oplog is cut off" in scanned(1999)


@pytest.mark.parity("B10")
def test_all_kinds_prove_themselves_in_throw_away_places(stack: Stack) -> None:
    """Their own tools read them, and engines of their own come up with what they hold; nothing is left of that."""
    for kind in KINDS:
        kind.fill()
    stack.run("backup.full")
    before = on("web1", "docker ps -aq | sort; docker volume ls -q | sort")
    for level in (2, 3):
        (found,) = stack.json("backup.verify", "--id", "latest", "--level", str(level))["data"]  # type: ignore[misc]
        assert (found["verified"]["level"], found["verified"]["fault"]) == (level, None)
    assert on("web1", "docker ps -aq | sort; docker volume ls -q | sort") == before

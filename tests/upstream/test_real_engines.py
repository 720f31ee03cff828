"""What real engines alone prove: MongoDB's oplog as increments and back to a moment, its TTL; searches of Qdrant behind a restore."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from fleets import containers, emptied, on, own_name, until
from stacks import SERVERS, Stack

from ops import sandbox as boxes
from ops.sandbox.layout import layout

pytestmark = [pytest.mark.parity("B1"), pytest.mark.parity("B2"), pytest.mark.parity("B6")]

PROJECT = "engines-test"
# A replica set with accounts wants a key that its members share; there is one member. It looks often for what is over.
COMPOSE = """\
services:
  mongodb:
    image: mongo:7
    environment:
      MONGO_INITDB_ROOT_USERNAME: root
      MONGO_INITDB_ROOT_PASSWORD: open sesame
    command:
      - bash
      - -c
      - >-
        head -c 300 /dev/urandom | base64 -w 0 > /data/configdb/key && chmod 400 /data/configdb/key &&
        chown mongodb /data/configdb/key && exec docker-entrypoint.sh mongod --replSet rs0 --keyFile /data/configdb/key --bind_ip_all
        --setParameter ttlMonitorSleepSecs=1
    volumes: ["mongodb:/data/db"]
  alone:
    image: mongo:7
    volumes: ["alone:/data/db"]
  qdrant:
    image: qdrant/qdrant:v1.15.4
    volumes: ["qdrant:/qdrant/storage", "qdrant-snapshots:/qdrant/snapshots"]
volumes:
  mongodb:
  alone:
  qdrant:
  qdrant-snapshots:
"""
TOML = """
stack = "engines"
ssh_config = "{ssh_config}"
[environments.test.servers.web1]
address = "{address}"
[datastores.mongodb.documents]
service = "mongodb"
increments = true
[datastores.qdrant.vectors]
service = "qdrant"
"""
CONNECT = (
    "const mongo = new Mongo('mongodb://root:open%20sesame@127.0.0.1/?authSource=admin&directConnection=true'), "
    'admin = mongo.getDB("admin"), shop = mongo.getDB("shop"), base = (name) => mongo.getDB(name);\n'
)
# Numbers one after another, each with the sum of all before it: a state between two of its transactions shows.
WRITER = """
const session = mongo.startSession(), own = session.getDatabase("shop");
for (let n = 0; n < 100000 && !shop.stop.findOne(); n++) {
  session.startTransaction();
  own.numbers.insertOne({ _id: n });
  own.sums.updateOne({ _id: 1 }, { $inc: { sum: n, count: 1 } });
  session.commitTransaction();
  shop.moving.updateOne({ at: n % 50 }, { $set: { at: -1 } });
  shop.moving.updateOne({ at: -1 }, { $set: { at: n % 50 } });
}
"""
# One index of each kind that there is, and documents that are over by the time they come back.
INDEXED = """
for (const name of ["shop", "ünder"]) base(name).dropDatabase();
base("ünder").y.insertOne({ _id: 1 });
shop.sessions.insertMany([...Array(5000).keys()].map((n) => ({ _id: n, at: new Date(n) })));
shop.sessions.createIndex({ at: 1 }, { expireAfterSeconds: 1, partialFilterExpression: { at: { $exists: true } } });
shop.createCollection("tokens", { clusteredIndex: { key: { _id: 1 }, unique: true }, expireAfterSeconds: 1 });
shop.tokens.insertMany([...Array(5000).keys()].map((n) => ({ _id: new Date(n) })));
shop.createCollection("words", { collation: { locale: "de", strength: 1 } });
shop.words.createIndex({ word: 1 }, { collation: { locale: "simple" }, name: "simple" });
shop.words.createIndex({ word: 1 }, { name: "as the collection" });
shop.createCollection("log", { capped: true, size: 4096 });
shop.kinds.insertOne({ _id: 1, a: 1, text: "ü", place: { type: "Point", coordinates: [1, 2] } });
shop.kinds.createIndex({ a: 1, b: -1 }, { unique: true, sparse: true });
shop.kinds.createIndex({ text: "text", more: "text" }, { weights: { more: 3 }, default_language: "german" });
shop.kinds.createIndex({ place: "2dsphere" });
shop.kinds.createIndex({ c: "hashed" });
shop.kinds.createIndex({ d: 1 }, { hidden: true });
shop.kinds.createIndex({ "$**": 1 }, { wildcardProjection: { e: 1 } });
"""


def container(service: str) -> str:
    """Return the id of a service's container."""
    (one,) = containers("web1", PROJECT, service)
    return one.id


def mongo(script: str) -> str:
    """Return what a script of mongosh prints in the container."""
    words = f"mongosh --nodb --norc --quiet --eval {_quoted(CONNECT + script)}"
    return on("web1", f"docker exec {container('mongodb')} {words}").strip()


def now() -> str:
    """Return a moment behind all that was written, and before whatever comes."""
    return mongo("sleep(50); print(new Date().toISOString()); sleep(50)")


def everything() -> Any:
    """Return what the databases hold, with their indexes."""
    return json.loads(
        mongo(
            'print(EJSON.stringify(["shop", "ünder"].map((name) => base(name).getCollectionInfos()'
            ".filter((one) => !/^(system[.]|ops_old_)/.test(one.name)).map((one) => one.name).sort().map((one) => [one, "
            "base(name).getCollection(one).getIndexes().map((i) => i.name).sort(), "
            "base(name).getCollection(one).find().sort({ _id: 1 }).toArray()]))))"
        )
    )


def indexed() -> Any:
    """Return the options and indexes of all collections."""
    return json.loads(
        mongo(
            "print(EJSON.stringify(shop.getCollectionInfos().filter((one) => !/^(system[.]|ops_old_)/.test(one.name))"
            ".sort((one, other) => (one.name < other.name ? -1 : 1)).map(({ name, options }) => [name, options, "
            "shop.getCollection(name).getIndexes().sort((one, other) => (one.name < other.name ? -1 : 1))])))"
        )
    )


def expired() -> bool:
    """Return whether what is over has ended."""
    return mongo("print(shop.sessions.countDocuments({}) + shop.tokens.countDocuments({}))") == "0"


def expiring(enabled: bool) -> None:
    """Let the server end what is over, or leave it."""
    mongo(f"admin.adminCommand({{ setParameter: 1, ttlMonitorEnabled: {json.dumps(enabled)} }})")


def written() -> int:
    """Return how many numbers are written by now."""
    return int(mongo("print(shop.sums.findOne().count)"))


def holds_together() -> int:
    """Return how many numbers were written, which all have to be there, and no other."""
    found: dict[str, int] = json.loads(
        mongo(
            "const { sum, count } = shop.sums.findOne(); print(JSON.stringify({ sum, count, there: shop.numbers.countDocuments({}), "
            "last: shop.numbers.find().sort({ _id: -1 }).limit(1).toArray()[0]._id, moving: shop.moving.countDocuments({}) }))"
        )
    )
    assert found["there"] == found["count"] == found["last"] + 1
    assert found["moving"] == 50
    assert found["sum"] == found["last"] * (found["last"] + 1) // 2
    return found["count"]


def qdrant(verb: str, path: str, body: object = None) -> Any:
    """Return what Qdrant answers."""
    (network,) = json.loads(on("web1", f"docker inspect {container('qdrant')}"))[0]["NetworkSettings"][
        "Networks"
    ].values()
    given = f" -H 'Content-Type: application/json' -d {_quoted(json.dumps(body))}" if body is not None else ""
    return json.loads(on("web1", f"curl -fsS -X {verb}{given} http://{network['IPAddress']}:6333{path}"))[
        "result"
    ]


@pytest.fixture(scope="module")
def stack(sandbox: boxes.Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """A replica set of one server, a MongoDB server that is none, and Qdrant."""
    there = emptied("web1")
    folder = tmp_path_factory.mktemp("engines") / "engines"
    folder.mkdir()
    (folder / "ops.toml").write_text(
        TOML.format(ssh_config=there.ssh_config, address=f"{SERVERS[0]}.sandbox")
    )
    up = f"docker compose -p {PROJECT} -f - up -d --quiet-pull --wait 2>&1"
    on("web1", up, stdin=COMPOSE.encode())
    hello = "docker exec {} mongosh --nodb --norc --quiet --eval {}"
    primary = _quoted(f"{CONNECT}quit(admin.hello().isWritablePrimary ? 0 : 1)")
    initiated = _quoted(
        f'{CONNECT}try {{ admin.adminCommand({{ replSetInitiate: {{ _id: "rs0", members: [{{ _id: 0, host: "127.0.0.1:27017" }}] }} }}) }} '
        'catch (error) { if (error.codeName !== "AlreadyInitialized") throw error }'
    )
    until("it is a set", lambda: _works(hello.format(container("mongodb"), initiated)))
    until("it has a primary", lambda: _works(hello.format(container("mongodb"), primary)))
    return Stack(folder, "test")


@pytest.fixture
def writing(stack: Stack) -> Callable[[], None]:
    """Writes go on beside the test until what is returned is called."""
    mongo(
        'for (const name of ["shop", "ünder"]) base(name).dropDatabase(); shop.sums.insertOne({ _id: 1, sum: 0, count: 0 }); '
        'shop.createCollection("numbers"); shop.moving.createIndex({ at: 1 }, { unique: true }); '
        "shop.moving.insertMany([...Array(50).keys()].map((at) => ({ at, padding: 'x'.repeat(10000) }))); base('ünder').y.insertOne({ _id: 1 })"
    )
    words = ["docker", "exec", "-i", container("mongodb"), "mongosh", "--nodb", "--norc", "--quiet", "--eval"]
    process = subprocess.Popen(
        ["docker", "exec", "-i", layout().container(own_name("web1")), *words, CONNECT + WRITER],
        stdin=subprocess.DEVNULL,
    )
    until("it writes", lambda: written() > 20)

    def stop() -> None:
        mongo("shop.stop.insertOne({})")
        assert process.wait(timeout=60) == 0

    return stop


def restored(stack: Stack, *words: str, status: int = 0) -> str:
    """Restore without a safety backup, and return what was told."""
    done = stack.run(
        "restore", *words, "--only", "documents", "--no-safety", "--confirm", "test", status=status
    )
    return done.stdout + done.stderr


def test_a_chain_that_was_taken_while_writers_ran_comes_back_to_a_moment(
    stack: Stack, writing: Callable[[], None]
) -> None:
    """Dumps, transactions and indexes alike; an undo brings back all, and a full backup has to come behind either."""
    stack.run("backup.full")
    stack.run("backup.incremental")
    mongo(
        'shop.orders.insertMany([...Array(300).keys()].map((n) => ({ _id: n, price: NumberDecimal("1.5") }))); '
        "shop.orders.createIndex({ price: 1 }); shop.orders.createIndex({ gone: 1 }); shop.orders.dropIndex('gone_1'); "
        "shop.orders.deleteMany({ _id: { $lt: 100 } }); base('ünder').y.updateOne({ _id: 1 }, { $set: { 'a.b': 'ü' } })"
    )
    writing()
    count, before, moment = holds_together(), everything(), now()
    mongo("shop.orders.drop(); shop.numbers.deleteMany({}); base('ünder').y.insertOne({ _id: 2 })")
    stack.run("backup.incremental")
    mongo("shop.since.insertOne({ _id: 1 })")
    damaged = everything()

    told = restored(stack, "--at", moment)

    assert everything() == before
    assert holds_together() == count
    assert "inv backup.full" in told
    assert "there was a restore since" in stack.run("backup.incremental", status=1).stderr
    stack.run("restore.undo", "--confirm", "test")
    assert everything() == damaged
    assert "a full backup" in stack.run("backup.incremental", status=1).stderr
    stack.run("backup.full")
    stack.run("backup.incremental")
    assert on("web1", "docker ps -aq --filter label=opsbook.restore").strip() == ""


def test_a_moment_in_the_midst_of_transactions_is_between_two_of_them(
    stack: Stack, writing: Callable[[], None]
) -> None:
    """Whatever was committed by then is there, whole."""
    stack.run("backup.full")
    moment = now()
    begun = written()
    until("more is written", lambda: written() > begun + 20)
    stack.run("backup.incremental")
    writing()
    last = holds_together()
    restored(stack, "--at", moment)
    assert 20 < holds_together() <= begun < last


def test_what_is_over_by_a_time_to_live_is_counted_and_ends_behind_that(stack: Stack) -> None:
    """Out of a dump and out of a replay; all indexes and options are those that were backed up."""
    expiring(False)
    mongo(INDEXED)
    before = indexed()
    full = stack.json("backup.full")["data"]["id"]  # type: ignore[index]
    moment = now()
    stack.run("backup.incremental")
    expiring(True)
    for words in (("--id", str(full)), ("--at", moment)):
        until("what is over has ended", expired)
        mongo("shop.kinds.drop(); shop.words.dropIndexes()")
        restored(stack, *words)
        assert indexed() == before
    until("what came back has ended as well", expired)


def test_a_moment_outside_and_a_server_without_an_oplog_are_refused(stack: Stack) -> None:
    """With what is possible, and with what to do."""
    stack.run("backup.full")
    assert "possible are" in restored(stack, "--at", "2020-01-01T00:00:00Z", status=2)
    stack.edit("ops.toml", lambda text: text.replace('"mongodb"', '"alone"'))
    try:
        assert "--replSet" in stack.run("backup.full", status=2).stderr
    finally:
        stack.edit("ops.toml", lambda text: text.replace('"alone"', '"mongodb"'))


def test_what_qdrant_finds_is_what_it_found_when_the_backup_was_taken(stack: Stack) -> None:
    """The same points, nearest first, with the same scores; an undo finds what was since."""
    qdrant("DELETE", "/collections/notes")
    qdrant("PUT", "/collections/notes", {"vectors": {"size": 4, "distance": "Cosine"}})
    points = [{"id": n, "vector": [n, n % 7, n % 11, 1], "payload": {"ü": n}} for n in range(1, 2001)]
    qdrant("PUT", "/collections/notes/points?wait=true", {"points": points})
    asked = {"query": [3, 5, 8, 1], "limit": 20, "with_payload": True}

    def search() -> Any:
        return qdrant("POST", "/collections/notes/points/query", asked)

    before = search()
    stack.run("backup.full", "--only", "vectors")
    qdrant("POST", "/collections/notes/points/delete?wait=true", {"points": [before["points"][0]["id"]]})
    damaged = search()
    assert damaged != before
    stack.run("restore", "--id", "latest", "--only", "vectors", "--no-safety", "--confirm", "test")
    assert search() == before
    stack.run("restore.undo", "--confirm", "test")
    assert search() == damaged


def _works(script: str) -> bool:
    words = ["docker", "exec", layout().container(own_name("web1")), "sh", "-c", script]
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"

"""MongoDB's increments: slices of a replica set's oplog, behind dumps that a slice makes whole.

Dumps are of no one moment. The slice that a full backup takes of the oplog, from before the first to behind the last of
them, makes one of them, as that of `mongodump --oplog` does. A slice begins with the oldest transaction that is open, and
ends with an entry before which all others have come: entries are numbered before they are written, and one that is read
backwards may stand behind a gap (mongodump/oplog_dump.go of the tools; oplog visibility in the server's documentation).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ops.commands import quote
from ops.datastores.base import Looked
from ops.datastores.increments import PROGRESS
from ops.datastores.mongodb_shell import LOGIN, TOOL, shell
from ops.errors import ConfigError

__all__ = [
    "ENTRIES",
    "FACTS",
    "INDEXES",
    "OPLOG",
    "beginning",
    "check_set",
    "describing",
    "slicing",
    "trouble",
]

INDEXES, OPLOG = "/indexes", "/oplog"  # parts of a backup beside those that bear the name of a database
ENTRIES = "oplog.rs"  # the collection, and what a slice counts
_OPLOG = """
const oplog = mongo.getDB("local").getCollection("oplog.rs");
const edge = (way) => oplog.find().sort({ $natural: way }).limit(1).toArray()[0];
const plain = (stamp) => JSON.parse(EJSON.stringify(stamp)).$timestamp;
const later = (one, other) => one.t > other.t || (one.t === other.t && one.i > other.i);
const refuse = (why) => { print(`${why}: ${term === null ? "take this backup again" : "take a full backup"}`); quit(1); };
"""
FACTS = f"""{_OPLOG}
if (hello.setName) {{
  const {{ config }} = admin.adminCommand({{ replSetGetConfig: 1 }});
  const found = {{ set: hello.setName, id: String(config.settings.replicaSetId), oldest: plain(edge(1).ts) }};
  print(`oplog\\t${{JSON.stringify(found)}}`);
}}
"""
# A note of its own ends a slice behind the time that it tells, however quiet the server is. A secondary takes none, and
# gets one of its primary's every ten seconds.
_SETTLED = """
const settled = () => {
  try { admin.adminCommand({ appendOplogNote: 1, data: { opsbook: "backup" } }); } catch (error) {}
  const newest = edge(-1);
  for (let n = 0; !oplog.findOne({ ts: newest.ts }); n++) {
    if (n > 600) refuse("writes before the oplog's newest entry do not come to an end");
    sleep(100);
  }
  return newest;
};
"""
_BEGIN = """
const newest = settled();
const open = { state: { $in: ["prepared", "inProgress"] } };
const [oldest] = mongo.getDB("config").getCollection("transactions").find(open).sort({ startOpTime: 1 }).limit(1).toArray();
let size = 0;
for (const db of databases) size += Number(mongo.getDB(db).stats().storageSize);
print(TOLD + JSON.stringify({ start: plain(oldest ? oldest.startOpTime.ts : newest.ts), size }));
"""
# Names and options as mongodump's own metadata has them, for mongorestore to build the indexes behind the oplog.
_INDEXES = """
for (const db of databases) for (const { name, options } of infos(db).filter((one) => one.type === "collection" && !place.test(one.name))) {
  let indexes;
  try {
    indexes = mongo.getDB(db).getCollection(name).getIndexes();
  } catch (error) {
    if (error.codeName === "NamespaceNotFound") continue;
    throw error;
  }
  print(EJSON.stringify({ db, name, options, indexes }, { relaxed: false }));
}
"""
_KEPT = """
if (later(plain(edge(1).ts), from)) refuse("the oplog is too small for what is written, and has let go of entries that are in no backup");
"""
# mongorestore applies a rename, and then builds the indexes where the collection was (mongorestore/oplog.go: its catalog of
# indexes does not follow).
_SLICE = """
const last = settled();
if (term !== null) {
  const [kept] = oplog.find({ ts: EJSON.parse(JSON.stringify({ $timestamp: from })) }).toArray();
  if (!kept || String(kept.t) !== term) refuse("what the last backup ended with was rolled back by an election");
}
const span = { [term === null ? "$gte" : "$gt"]: { $timestamp: from }, $lte: { $timestamp: plain(last.ts) } };
const own = { $regularExpression: { pattern: "^(?!(admin|config|local)[.])", options: "" } };
const renamed = oplog.findOne(EJSON.parse(JSON.stringify({ ts: span, op: "c", "o.renameCollection": own })));
if (renamed) refuse(`${renamed.o.renameCollection} was renamed since to ${renamed.o.to}, which MongoDB's tools cannot follow`);
const there = { $exists: true };
const together = [{ "o.applyOps.ns": own }, { "o.commitTransaction": there }, { "o.abortTransaction": there }];
const query = { ts: span, op: { $ne: "n" }, $or: [{ ns: own }, { ns: "admin.$cmd", $or: together }] };
print(`query ${JSON.stringify(query)}`);
print(TOLD + JSON.stringify({ end: plain(last.ts), term: String(last.t), until: last.wall.toISOString() }));
"""


def check_set(name: str, server: str, looked: Looked) -> None:
    """Raise ConfigError where the server has no oplog."""
    if not looked.facts["oplog"]:
        raise ConfigError(
            f"datastore {name}: increments are slices of the oplog, and this server has none: it is no replica set",
            target=server,
            next_step="start mongod with --replSet rs0 (and --keyFile, where it has accounts) and call rs.initiate() once, also for a single server; or take increments out",
        )


def trouble(looked: Looked, last: Mapping[str, Any]) -> str | None:
    """Return why the oplog cannot be followed from where a backup ended, None where it can."""
    if "end" not in last:
        return "the last full backup was taken without increments"
    if not looked.facts["oplog"]:
        return "the server is no replica set any more"
    oplog = json.loads(looked.facts["oplog"])
    if oplog["id"] != last["id"]:
        return f"replica set {oplog['set']} is another one than the one that was backed up"
    databases, places = _there(looked)
    if databases != last["databases"]:
        differ = sorted(set(databases) ^ set(last["databases"]))
        return f"database {differ[0]} {'came' if differ[0] in databases else 'went'} since the last backup"
    if places != last["places"]:
        return "there was a restore since, or its undo: collections were renamed, which MongoDB's tools cannot follow"
    if _moment(oplog["oldest"]) > _moment(last["end"]):
        return "the oplog no longer reaches back to the last backup: take increments more often, or let it grow (replSetResizeOplog)"
    return None


def beginning(looked: Looked) -> str:
    """Return the script that prints from where the oplog has to be kept for dumps that are about to be taken."""
    return shell(_given(databases=_there(looked)[0], TOLD=PROGRESS, term=None) + _OPLOG + _SETTLED + _BEGIN)


def describing(looked: Looked) -> str:
    """Return the script whose stdout is a line of JSON for each collection, with its options and indexes."""
    return shell(_given(databases=_there(looked)[0]) + _INDEXES)


def slicing(looked: Looked, start: Mapping[str, int], term: str | None) -> str:
    """Return the script whose stdout is what the oplog has from a timestamp to now, as BSON, and that says how far it goes.

    With the `term` of the entry at `start`, of an increment, that entry has to be there still and is left out.
    """
    given = _given(TOLD=PROGRESS, **{"from": dict(start), "term": term}) + _OPLOG
    databases, places = _there(looked)
    oplog = json.loads(looked.facts["oplog"])
    progress = {"set": oplog["set"], "id": oplog["id"], "databases": databases, "places": places}
    whole = {"parts": [INDEXES, OPLOG], "dumps": True} if term is None else {}
    refused = "|| { printf '%s\\n' \"$told\" >&2; exit 1; }"
    return (
        f"told=$({shell(given + _KEPT + _SETTLED + _SLICE)}) {refused}; asked=$told; "
        "query=$(printf '%s\\n' \"$asked\" | sed -n 's/^query //p') && [ -n \"$query\" ] || exit 1; "
        f'( {LOGIN}{TOOL}tool mongodump --db=local --collection={ENTRIES} --query "$query" --out=- ) || exit 1; '
        f"told=$({shell(given + _KEPT)}) {refused}; "
        f"printf '%s\\n' \"$asked\" {quote(PROGRESS + json.dumps({**progress, **whole}))} | sed -n '/^{PROGRESS}/p' >&2"
    )


def _there(looked: Looked) -> tuple[list[str], list[str]]:
    """Return the databases, and what restores keep in them."""
    found = json.loads(looked.facts["databases"])
    return sorted(found), sorted(f"{name}.{place}" for name, one in found.items() for place in one["places"])


def _given(**values: Any) -> str:
    """Return the constants of a script."""
    return "".join(f"const {name} = {json.dumps(value)};\n" for name, value in values.items())


def _moment(stamp: Mapping[str, int]) -> tuple[int, int]:
    return stamp["t"], stamp["i"]

"""MongoDB's databases at a moment: dumps and slices of the oplog, replayed in a throw-away server, then brought beside the live.

mongorestore replays on whole databases alone, by their own names. So that is done in a container of the live one's image, by
itself and without a network, whose volumes go with it. From there on it is a dump like any other: restored beside the live
collections, counted, swapped by their names, undone in the same way.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from ops.commands import Command, quote, quote_all
from ops.datastores.at_moment import AtMoment
from ops.datastores.base import Counts, Incoming, Looked, Scratch
from ops.datastores.mongodb import COUNT, MongoDB
from ops.datastores.mongodb_indexes import DESCRIBE
from ops.datastores.mongodb_oplog import ENTRIES, INDEXES, OPLOG
from ops.datastores.mongodb_shell import shell
from ops.datastores.shell import restoring

__all__ = ["SCAN", "MongoDBMoment"]

_FOLDER = "/opsbook"
_ROOM = 2.2  # of what the databases take: once in the throw-away server, once beside the live
# A server of its own would take half of the memory that the live one has its half of, and end what is over since.
_SERVER = "mongod --bind_ip 127.0.0.1 --wiredTigerCacheSizeGB 0.5 --setParameter ttlMonitorEnabled=false"
# Of each entry its time alone is read. mongosh rewrites what it is given so that each call may wait, which takes a hundred
# times as long; what is made of text runs as it stands.
SCAN = r"""
const file = fs.openSync(path, "r"), size = fs.fstatSync(file).size, head = Buffer.alloc(4), counts = [];
const fixed = { 1: 8, 6: 0, 7: 12, 8: 1, 9: 8, 10: 0, 16: 4, 17: 8, 18: 8, 19: 16, 127: 0, 255: 0 };
let at = 0, count = 0, limit = null;
const ended = () => { for (; ends[counts.length] === at; count = 0) counts.push(count); };
for (ended(); at < size; ended()) {
  fs.readSync(file, head, 0, 4, at);
  const length = head.readInt32LE(0);
  if (length < 5 || at + length > size) throw new Error("the oplog is cut off");
  const entry = Buffer.allocUnsafe(length);
  fs.readSync(file, entry, 0, length, at);
  let stamp, wall;
  for (let p = 4; entry[p] !== 0;) {
    const type = entry[p], end = entry.indexOf(0, p + 1), name = entry.latin1Slice(p + 1, end);
    p = end + 1;
    if (name === "ts") stamp = `${entry.readUInt32LE(p + 4)}:${entry.readUInt32LE(p)}`;
    if (name === "wall") wall = Number(entry.readBigInt64LE(p));
    if (type in fixed) p += fixed[type];
    else if (type === 3 || type === 4 || type === 15) p += entry.readInt32LE(p);
    else if (type === 11) p = entry.indexOf(0, entry.indexOf(0, p) + 1) + 1;
    else p += 4 + entry.readInt32LE(p) + (type === 5 ? 1 : type === 12 ? 12 : 0);
  }
  if (limit === null && wall > until) limit = stamp;
  at += length, count++;
}
if (counts.length !== ends.length) throw new Error("the oplog's slices are not those that came");
return { counts, limit };
"""
_PREPARE = """
for (const [part, db] of dumps) for (const { name } of infos(db).filter((one) => one.type !== "view"))
  print(COUNT + JSON.stringify([part, name, mongo.getDB(db).getCollection(name).countDocuments({})]));
fs.mkdirSync(`${folder}/dump`);
fs.readFileSync(`${folder}/indexes`, "utf8").split("\\n").filter((line) => line).forEach((line, n) => {
  const { db, name, options, indexes } = JSON.parse(line);
  describe(db, name, JSON.stringify({ options, indexes, type: "collection" }), n);
});
const ends = fs.readFileSync(`${folder}/ends`, "utf8").split("\\n").filter((line) => line).map(Number);
const { counts, limit } = new Function("fs", "path", "ends", "until", SCAN)(fs, `${folder}/oplog`, ends, until);
slices.forEach((part, n) => print(COUNT + JSON.stringify([part, ENTRIES, counts[n]])));
print(`limit ${limit || ""}`);
"""
_REPLAYED = """
for (const db of databases) {
  drop(db, (name) => place.test(name));
  for (const { name, type } of infos(db)) {
    if (type === "timeseries") { print(`${db}.${name} is a time series, which cannot be renamed: restore it by hand`); quit(1); }
    if (type !== "view") print(COUNT + JSON.stringify([db, name, mongo.getDB(db).getCollection(name).countDocuments({})]));
  }
}
"""


@dataclass(frozen=True)
class MongoDBMoment(AtMoment[MongoDB]):
    """A MongoDB server whose databases come back as they were at a moment."""

    def look(self) -> Command:
        return self.store.look()

    def read(self, text: str) -> Looked:
        return self.store.read(text)

    def scratch(self, details: Mapping[str, Any], tag: str, folder: str) -> Scratch:
        made = self.store.scratch(details, tag, folder)
        assert isinstance(made.store, MongoDB)
        return replace(made, store=MongoDBMoment(made.store))

    def narrowed(
        self, details: Mapping[str, Any], counts: Counts, wanted: Collection[str]
    ) -> tuple[Mapping[str, Any], Counts]:
        """All of it is replayed whatever is wanted of it, so all of it is counted."""
        return self.store.narrowed(details, {}, wanted)[0], counts

    def beside(self, details: Mapping[str, Any], looked: Looked, tag: str) -> Command:
        made = self.store.beside(details, looked, tag)
        begun = details["increments"]["until"]
        if datetime.fromisoformat(details["moment"]) < datetime.fromisoformat(begun):
            # By the clock of the server, which need not be that of the manifest.
            reason = f"by the server's clock its dumps ended at {begun}: choose that moment, or a later one"
            return replace(made, script=f"echo {quote(reason)} >&2; exit 1")
        name, label = quote(self._name(tag)), restoring(self._key)
        need = int(details["bytes"] * _ROOM) >> 10
        ping = quote("db.adminCommand({ ping: 1 })")
        return replace(
            made,
            script=f"{made.script} && s=$(docker ps -aq --filter label={label}) && "
            '{ [ -z "$s" ] || docker rm -f -v $s >/dev/null; } && i=$(docker inspect -f \'{{.Image}}\' "$c") && '
            f"docker run --detach --name {name} --label {label} --network none --user 0 -v /data/db -v {_FOLDER} "
            f'"$i" {_SERVER} >/dev/null || exit 1; '
            f"n=0; until docker exec {name} mongosh --norc --quiet --eval {ping} >/dev/null 2>&1; do n=$((n + 1)); "
            f"[ $n -le 300 ] || {{ docker logs --tail 5 {name} >&2; exit 1; }}; sleep 0.2; done; "
            f"free=$(docker exec {name} df -Pk /data/db | awk 'NR == 2 {{ print $4 }}'); "
            f'[ "$free" -ge {need} ] || {{ echo "the disk has $((free >> 10)) MB free, and a replay of the oplog takes {need >> 10} MB" >&2; exit 1; }}',
            title=f"make a throw-away server beside {self.store.service}",
        )

    def incoming(self, details: Mapping[str, Any], looked: Looked, tag: str) -> tuple[Incoming, ...]:
        def taken(called: str) -> Incoming:
            part = called.rpartition("@")[0]
            if part == INDEXES:
                script = f"cat > {_FOLDER}/indexes"
            elif part == OPLOG:
                script = f"cat >> {_FOLDER}/oplog && stat -c %s {_FOLDER}/oplog >> {_FOLDER}/ends"
            else:
                # Indexes come last: in a dump of no one moment, two documents may have what only one may.
                script = "exec mongorestore --archive --stopOnError --noIndexRestore"
            return Incoming(
                called,
                Command(
                    f"docker exec -i {quote(self._name(tag))} sh -c {quote(script)}",
                    changes="a throw-away container",
                    timeout=None,
                    title=f"restore {part.strip('/')} of {self.store.service} into a throw-away server",
                ),
            )

        return tuple(map(taken, details["chain"]))

    def count(self, details: Mapping[str, Any], looked: Looked, tag: str) -> Command:
        """What is counted are the dumps, the slices, and last of all what they came to, in both places."""
        chain = [(called, called.rpartition("@")[0]) for called in details["chain"]]
        given = {
            "folder": _FOLDER,
            "COUNT": COUNT,
            "ENTRIES": ENTRIES,
            "SCAN": SCAN,
            "databases": list(details["databases"]),
            "dumps": [one for one in chain if one[1] not in (INDEXES, OPLOG)],
            "slices": [called for called, part in chain if part == OPLOG],
            "until": _milliseconds(details["moment"]),
        }
        constants = "".join(f"const {name} = {json.dumps(value)};\n" for name, value in given.items())
        replay = (
            f"exec mongorestore --oplogReplay --oplogFile={_FOLDER}/oplog "
            f'${{OPS_LIMIT:+"--oplogLimit=$OPS_LIMIT"}} --dir={_FOLDER}/dump'
        )
        asked = self.store.count(details, looked, tag)
        return replace(
            asked,
            script=f"t={quote(self._name(tag))}; {_told('was', shell(constants + DESCRIBE + _PREPARE))}; printf '%s\\n' \"$was\"; "
            "export OPS_LIMIT; OPS_LIMIT=$(printf '%s\\n' \"$was\" | sed -n 's/^limit //p'); "
            f'docker exec -e OPS_LIMIT "$t" sh -c {quote(replay)} </dev/null >&2 || exit 1; '
            f"{_told('was', shell(constants + _REPLAYED))}; {self._over(details, looked, tag)}"
            f"now=$({asked.script}) || exit 1; "
            '[ "$(printf \'%s\\n\' "$was" | LC_ALL=C sort)" = "$(printf \'%s\\n\' "$now" | LC_ALL=C sort)" ] || '
            "{ echo 'what came beside the live collections is not what the replay came to' >&2; exit 1; }; "
            'printf \'%s\\n\' "$now"; docker rm -f -v "$t" >/dev/null',
            changes="collections",
            timeout=None,
            title=f"replay the oplog of {self.store.service} to {details['moment']}, and count",
        )

    def swap(self, details: Mapping[str, Any], looked: Looked, tag: str) -> Command:
        return self.store.swap(details, looked, tag)

    def swap_back(self, details: Mapping[str, Any], looked: Looked, tag: str) -> Command:
        return self.store.swap_back(details, looked, tag)

    def lost(self, details: Mapping[str, Any], looked: Looked, tag: str) -> Command:
        return self.store.lost(details, looked, tag)

    def forget(self, details: Mapping[str, Any], looked: Looked, tag: str) -> Command:
        return self.store.forget(details, looked, tag)

    def discard(self, details: Mapping[str, Any], looked: Looked, tag: str) -> Command:
        gone = self.store.discard(details, looked, tag)
        return replace(
            gone, script=f"docker rm -f -v {quote(self._name(tag))} >/dev/null 2>&1; {gone.script}"
        )

    def _over(self, details: Mapping[str, Any], looked: Looked, tag: str) -> str:
        """Return shell that brings each database from the throw-away server beside the live one; sh knows no pipefail."""
        pipes = []
        plain = {"databases": details["databases"]}
        for one in self.store.incoming(plain, looked, tag):
            assert one.command is not None
            words = quote_all(("mongodump", "--archive", f"--db={one.part}"))
            dump = f'docker exec "$t" sh -c {quote(f"exec {words}")}'
            pipes.append(
                f"s=$( {{ {{ {dump} </dev/null; echo $? >&9; }} | {{ ( {one.command.script} ) >&2; echo $? >&9; }}; }} 9>&1 ); "
                '[ "$(echo $s)" = "0 0" ] || exit 1; '
            )
        return "".join(pipes)


def _milliseconds(moment: str) -> int:
    """Return a moment as MongoDB's dates have it."""
    return (datetime.fromisoformat(moment) - datetime.fromtimestamp(0, UTC)) // timedelta(milliseconds=1)


def _told(variable: str, script: str) -> str:
    """Return shell that sets a variable to what a script prints in the throw-away server; where that fails, it is told."""
    return (
        f'{variable}=$(docker exec "$t" sh -c {quote(script)} </dev/null) || '
        f"{{ printf '%s\\n' \"${variable}\" >&2; exit 1; }}"
    )

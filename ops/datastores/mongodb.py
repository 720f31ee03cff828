"""MongoDB: mongodump of each database, counted by what it says of itself, and on the way back a swap of names.

Increments are in mongodb_oplog.py, the way back to a moment in mongodb_moment.py, that of indexes in mongodb_indexes.py.

A rename across databases copies, one within a database does not. So what is restored stands beside in the same database, as
`ops_new_TAG.COLLECTION`, and the swap is renames alone. They go through the names of a collection that tells how far a swap
came, and lists what is kept: `ops_part_TAG`, some of the live collections are called `ops_old_TAG.COLLECTION`; `ops_half_TAG`,
all of them are, and some of the restored are live; `ops_old_TAG`, the swap is done.

The tools and the shell are those of the container. They get the password through a descriptor and their environment.
Users and roles stay as they are: they are of the server, not of a database.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote as percent

from ops.commands import Command, quote, quote_all
from ops.datastores import mongodb_indexes as indexes
from ops.datastores import mongodb_oplog as oplog
from ops.datastores.base import LOST, Counts, Incoming, Looked, Packing, Scratch, Stream, chosen, read_lines
from ops.datastores.mongodb_shell import LOGIN, TOOL, shell
from ops.datastores.shell import alone, ending, finding, inside, store_key, through_zstd, thrown_away
from ops.errors import ConfigError, FailedUnchanged, UsageError

__all__ = ["COUNT", "MongoDB"]

COUNT = "ops-count "
# A name that somebody took in the moment between two renames is of no use to anybody: `dropTarget`.
_MOVING = """
const move = (db, from, to) => {
  const [one] = mongo.getDB(db).getCollectionInfos({ name: from });
  if (one.type === "view") {
    const { viewOn, pipeline, ...options } = one.options;
    if (!names(db).includes(to)) mongo.getDB(db).createView(to, viewOn, pipeline, options);
    mongo.getDB(db).getCollection(from).drop();
    return;
  }
  admin.adminCommand({ renameCollection: `${db}.${from}`, to: `${db}.${to}`, dropTarget: true });
};
const fresh = `ops_new_${tag}.`, kept = `ops_old_${tag}.`;
const [part, half, done] = ["part", "half", "old"].map((word) => `ops_${word}_${tag}`);
const lives = (name) => !place.test(name);
const swap = (db) => {
  mongo.getDB(db).createCollection(part);
  names(db).filter(lives).forEach((name) => move(db, name, kept + name));
  mongo.getDB(db).getCollection(part).insertOne({ kept: names(db).filter((name) => name.startsWith(kept)) });
  move(db, part, half);
  names(db).filter((name) => name.startsWith(fresh)).forEach((name) => move(db, name, name.slice(fresh.length)));
  move(db, half, done);
};
const back = (db) => {
  if (names(db).includes(done)) move(db, done, half);
  if (names(db).includes(half)) {
    names(db).filter(lives).forEach((name) => {
      if (names(db).includes(fresh + name)) mongo.getDB(db).getCollection(name).drop();
      else move(db, name, fresh + name);
    });
    move(db, half, part);
  }
  if (names(db).includes(part)) {
    names(db).filter((name) => name.startsWith(kept)).forEach((name) => move(db, name, name.slice(kept.length)));
    mongo.getDB(db).getCollection(part).drop();
  }
};
"""
_LOST = """
const done = `ops_old_${tag}`;
for (const db of databases) {
  const there = names(db), [list] = mongo.getDB(db).getCollection(done).find().toArray();
  const wanted = [done, ...(list ? list.kept : [])];
  for (const name of wanted.filter((one) => !there.includes(one))) print(`LOSTcollection ${name} of ${db}`);
}
""".replace("LOST", LOST)
_LOOKING = """
const hello = admin.adminCommand({ hello: 1 }), told = {};
for (const { name } of admin.adminCommand({ listDatabases: 1, nameOnly: true }).databases) {
  if (["admin", "config", "local"].includes(name)) continue;
  const found = infos(name);
  told[name] = {
    places: found.map((one) => one.name).filter((one) => place.test(one)),
    timeseries: found.filter((one) => one.type === "timeseries").map((one) => one.name),
  };
}
print(`server\\t${admin.version()}\\nrouter\\t${hello.msg === "isdbgrid" ? "yes" : ""}\\ndatabases\\t${JSON.stringify(told)}`);
"""


@dataclass(frozen=True)
class MongoDB:
    """A MongoDB server in a container of a compose project; `folder` is one of the server's that all runs have in common."""

    name: str
    project: str
    service: str
    server: str
    folder: str
    databases: tuple[str, ...] = ()
    increments: bool = False

    @property
    def kind(self) -> str:
        return "mongodb"

    def look(self) -> Command:
        asked = (
            "for t in mongodump mongorestore mongosh; do command -v $t >/dev/null || "
            '{ echo "the container has no $t" >&2; exit 1; }; done; '
            "printf 'tool\\t%s\\n' \"$(mongodump --version | sed -n 's/^mongodump version: //p')\"; "
            f"{shell(_LOOKING + (oplog.FACTS if self.increments else ''))}"
        )
        return Command(
            f"{finding(self.project, self.service)}command -v zstd >/dev/null && printf 'zstd\\tyes\\n'; "
            "docker inspect -f 'container\t{{.Id}}\nimage\t{{.Config.Image}}' \"$c\" || exit 1; "
            f'docker exec "$c" sh -c {quote(asked)} </dev/null',
            title=f"look at {self.service}: databases, versions",
        )

    def read(self, text: str) -> Looked:
        said = read_lines(text)
        there: dict[str, dict[str, list[str]]] = json.loads(said["databases"])
        wanted = {name: one for name, one in there.items() if not self.databases or name in self.databases}
        missing = [name for name in self.databases if name not in there]
        return Looked(
            versions={"mongodb": said["server"], "mongodump": said["tool"]},
            engine=False,
            server="zstd" in said,
            facts={
                "container": said["container"],
                "image": said["image"],
                "router": said["router"],
                "oplog": said.get("oplog", ""),
                "missing": "".join(missing[:1]),
                "databases": json.dumps(wanted),
            },
            warnings=tuple(
                f"{name}.{one} is a time series: it is in the backup, and a restore refuses databases with one"
                for name, found in wanted.items()
                for one in found["timeseries"]
            ),
        )

    def details_of(self, looked: Looked) -> Mapping[str, Any]:
        found = json.loads(looked.facts["databases"])
        databases = {name: {"timeseries": one["timeseries"]} for name, one in found.items()}
        return {"image": looked.facts["image"], "databases": databases}

    def streams(self, looked: Looked, packing: Packing, mark: str) -> tuple[Stream, ...]:
        if looked.facts["missing"]:
            raise ConfigError(
                f"datastore {self.name}: there is no database {looked.facts['missing']!r}", target=self.server
            )
        if looked.facts["router"]:
            raise FailedUnchanged(
                f"datastore {self.name}: {self.service} is the router of a cluster, which mongodump cannot hold at one point",
                target=self.server,
            )
        return tuple(
            self._stream(name, found["places"], looked, packing, mark)
            for name, found in json.loads(looked.facts["databases"]).items()
        )

    def begin(self, looked: Looked) -> Command | None:
        if not self.increments:
            return None
        oplog.check_set(self.name, self.server, looked)
        return Command(
            f'c={quote(looked.facts["container"])}; docker exec "$c" sh -c {quote(oplog.beginning(looked))} </dev/null',
            timeout=600,
            title=f"ask how far the oplog of {self.service} has come",
        )

    def base(
        self, looked: Looked, packing: Packing, mark: str, begun: Mapping[str, Any]
    ) -> tuple[Stream, ...]:
        """The slice comes last, and reaches from before the dumps to behind them."""
        start = begun.get("start", {"t": 0, "i": 0})
        return (
            self._packed(
                oplog.INDEXES,
                oplog.describing(looked),
                "indexes.json",
                f"list indexes of {self.service}",
                looked,
                packing,
                mark,
            ),
            *self.streams(looked, packing, mark),
            self._slice(looked, packing, mark, start, None),
        )

    def increment(
        self, looked: Looked, packing: Packing, mark: str, last: Mapping[str, Any]
    ) -> tuple[Stream, ...]:
        oplog.check_set(self.name, self.server, looked)
        return (self._slice(looked, packing, mark, last["end"], last["term"]),)

    def trouble(self, looked: Looked, last: Mapping[str, Any]) -> str | None:
        return oplog.trouble(looked, last)

    def settled(self, looked: Looked, now: Mapping[str, Any]) -> Command | None:
        return None

    def counts_of(self, told: str) -> Mapping[str, int]:
        if sliced := re.search(r"\tdumped (\d+) documents?$", told, re.MULTILINE):
            return {oplog.ENTRIES: int(sliced[1])}
        found = re.findall(r"\tdone dumping `?[^.]+\.(.+?)`? \((\d+) documents?\)$", told, re.MULTILINE)
        return {name: int(count) for name, count in found if not name.startswith("system.")}

    def warnings_of(self, told: str) -> tuple[str, ...]:
        return ()

    def reading(self, details: Mapping[str, Any], part: str) -> Command | None:
        return None  # mongorestore reads an archive for a server alone

    def scratch(self, details: Mapping[str, Any], tag: str, folder: str) -> Scratch:
        name, project = f"opsbook-scratch-{tag}-{self.name}", f"{self.project}-scratch-{tag}"
        ping = quote("db.adminCommand({ ping: 1 })")
        ready = f"docker exec {quote(name)} mongosh --norc --quiet --eval {ping} >/dev/null 2>&1"
        hold = thrown_away(details, name, project, self.service, ready)
        return Scratch(replace(self, project=project), hold)

    def narrowed(
        self, details: Mapping[str, Any], counts: Counts, wanted: Collection[str]
    ) -> tuple[Mapping[str, Any], Counts]:
        databases = details["databases"]
        if unknown := [name for name in wanted if name not in databases]:
            raise UsageError(
                f"{self.name} holds no database {unknown[0]!r}; it holds: {', '.join(sorted(databases))}"
            )
        kept = {name: one for name, one in databases.items() if name in wanted}
        return {**details, "databases": kept}, {name: rows for name, rows in counts.items() if name in wanted}

    def beside(self, details: Mapping[str, Any], looked: Looked, tag: str) -> Command:
        series = [name for name, one in details["databases"].items() if one["timeseries"]]
        if series:
            reason = f"database {series[0]} has a time series, which cannot be renamed: restore it by hand"
            return self._command(f"echo {quote(reason)} >&2; exit 1", "make room beside", looked)
        script = """
for (const db of databases) if (names(db).some((name) => /^ops_(part|half)_/.test(name) && place.test(name))) {
  print("the swap of an earlier restore was cut off: inv restore.undo first");
  quit(1);
}
for (const db of databases) drop(db, (name) => name.startsWith("ops_new_") && place.test(name));
"""
        script += indexes.FORGET
        return self._script(script, details, looked, tag, "remove what is left beside the collections")

    def incoming(self, details: Mapping[str, Any], looked: Looked, tag: str) -> tuple[Incoming, ...]:
        return tuple(Incoming(name, self._restore(name, looked, tag)) for name in details["databases"])

    def count(self, details: Mapping[str, Any], looked: Looked, tag: str) -> Command:
        """What is counted is there without its indexes; they are built next."""
        script = """
const fresh = `ops_new_${tag}.`;
for (const db of databases) for (const { name } of infos(db).filter((one) => one.type !== "view" && one.name.startsWith(fresh)))
  print("COUNT" + JSON.stringify([db, name.slice(fresh.length), mongo.getDB(db).getCollection(name).countDocuments({})]));
""".replace("COUNT", COUNT)
        made = self._script(
            script + indexes.EXPIRE,
            details,
            looked,
            tag,
            "count and index what is beside the collections",
            then=indexes.building(self._kept),
        )
        return replace(made, timeout=None)

    def counted(self, text: str) -> Counts:
        found: dict[str, dict[str, int]] = {}
        for line in text.split("\n"):
            if line.startswith(COUNT):
                database, name, count = json.loads(line.removeprefix(COUNT))
                found.setdefault(database, {})[name] = count
        return found

    def swap(self, details: Mapping[str, Any], looked: Looked, tag: str) -> Command:
        script = "try { databases.forEach(swap); } catch (error) { databases.forEach(back); throw error; }"
        return self._script(_MOVING + script, details, looked, tag, "rename the collections")

    def swap_back(self, details: Mapping[str, Any], looked: Looked, tag: str) -> Command:
        return self._script(
            f"{_MOVING}databases.forEach(back);", details, looked, tag, "rename back the collections"
        )

    def lost(self, details: Mapping[str, Any], looked: Looked, tag: str) -> Command:
        # It ends nothing that is left of a swap, as the scripts that change something do.
        asked = shell(self._given(tag, databases=list(details["databases"])) + _LOST)
        return Command(
            f"docker exec {quote(looked.facts['container'])} sh -c {quote(asked)} </dev/null",
            title=f"look for the collections that {self.service} had",
        )

    def forget(self, details: Mapping[str, Any], looked: Looked, tag: str) -> Command:
        script = """
const own = (name) => name === `ops_old_${tag}` || name.startsWith(`ops_old_${tag}.`);
for (const db of databases) drop(db, (name) => name.startsWith("ops_old_") && place.test(name) && !own(name));
"""
        return self._script(script, details, looked, tag, "remove what earlier restores kept")

    def discard(self, details: Mapping[str, Any], looked: Looked, tag: str) -> Command:
        script = "for (const db of databases) drop(db, (name) => name.startsWith(`ops_new_${tag}.`));\n"
        return self._script(
            script + indexes.FORGET, details, looked, tag, "remove what is beside the collections"
        )

    def _stream(self, name: str, places: list[str], looked: Looked, packing: Packing, mark: str) -> Stream:
        left_out = [f"--excludeCollection={place}" for place in places]
        words = quote_all(("mongodump", "--archive", f"--db={name}", *left_out))
        title = f"mongodump {name} of {self.service}"
        ending = f"{percent(name, safe='')}.archive"
        return self._packed(name, f"{LOGIN}{TOOL}tool {words}", ending, title, looked, packing, mark)

    def _slice(
        self, looked: Looked, packing: Packing, mark: str, start: Mapping[str, int], term: str | None
    ) -> Stream:
        title = f"mongodump the oplog of {self.service}"
        # No database is called so: a name holds no dot.
        return self._packed(
            oplog.OPLOG, oplog.slicing(looked, start, term), "oplog.bson", title, looked, packing, mark
        )

    def _packed(
        self, part: str, script: str, ending: str, title: str, looked: Looked, packing: Packing, mark: str
    ) -> Stream:
        """Return the part that is what a script writes in the container, compressed on the server where it can be."""
        where = chosen(packing, engine=False, server=looked.server)
        body = inside(script, mark)
        if where == "server":
            body = through_zstd(body, packing)
        return Stream(
            part,
            Command(f"c={quote(looked.facts['container'])}; {body}", timeout=None, title=title),
            ending if where == "none" else f"{ending}.zst",
            where,
        )

    def _restore(self, name: str, looked: Looked, tag: str) -> Command:
        words = quote_all(
            (
                *("mongorestore", "--archive", "--stopOnError", "--noIndexRestore"),
                *(f"--nsExclude={name}.system.*", f"--nsFrom={name}.$c$", f"--nsTo={name}.ops_new_{tag}.$c$"),
            )
        )
        script = f"{LOGIN}{TOOL}{indexes.passing(self._given(tag, database=name), self._kept)} | tool {words}"
        return Command(
            f"c={quote(looked.facts['container'])}; {inside(script, tag, stdin=True)}",
            changes="collections",
            timeout=None,
            title=f"mongorestore {name} of {self.service}",
        )

    def _script(
        self,
        script: str,
        details: Mapping[str, Any],
        looked: Looked,
        tag: str,
        title: str,
        *,
        then: str = "",
    ) -> Command:
        """Return the command that runs a script in the container, behind what an earlier one of this restore left running.

        `then` is shell that goes on where the script succeeds.
        """
        asked = shell(self._given(tag, databases=list(details["databases"])) + script)
        mark = f"{tag}s"
        run = inside(f"{LOGIN}{TOOL}( {asked} ) && {then}" if then else asked, mark)
        body = f'docker exec "$c" sh -c {quote(ending(mark))}; {run}'
        return self._command(f"{alone(self.folder)}{body}", f"{title} of {self.service}", looked)

    @property
    def _kept(self) -> str:
        """The folder in the container that holds what dumps say of their collections until the indexes are built."""
        # Docker gives each container this one in memory, also where nothing else of it can be written.
        return f"/dev/shm/opsbook-{store_key(f'{self.project}/{self.name}')}"

    def _given(self, tag: str, **more: str | list[str]) -> str:
        """Return the constants of a script of a restore."""
        given: dict[str, str | list[str]] = {"tag": tag, "folder": self._kept, **more}
        return "".join(f"const {name} = {json.dumps(value)};\n" for name, value in given.items())

    def _command(self, script: str, title: str, looked: Looked) -> Command:
        container = quote(looked.facts["container"])
        return Command(f"c={container}; {script}", changes="collections", timeout=3600, title=title)

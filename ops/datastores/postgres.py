"""PostgreSQL: pg_dump of each database from a snapshot in which its rows are counted as well, and the roles.

psql opens the transaction, exports its snapshot and runs, while it holds it, pg_dump and a count of all tables side by
side (PostgreSQL's manual, "Snapshot Synchronization Functions"). So the counts are those of the dump, whatever is
written meanwhile.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote as percent

from ops.commands import Command, quote
from ops.datastores import postgres_wal as wal
from ops.datastores.base import (
    LOST,
    Compression,
    Counts,
    Incoming,
    Looked,
    Packing,
    Scratch,
    Stream,
    chosen,
    read_lines,
)
from ops.datastores.postgres_sql import (
    cluster_place,
    creation,
    dropping,
    identifier,
    is_place,
    kept_before,
    literal,
    missing_roles,
    place_names,
    renamings,
    setting,
)
from ops.datastores.shell import TAG, finding, image_of, inside, through_zstd, thrown_away
from ops.errors import ConfigError, UsageError

__all__ = ["COUNTING", "PSQL", "Postgres"]

ROLES = ""  # the part of what belongs to the cluster: a name that no database can have
_PART = "ops-part "
_COUNT = "ops-count "
_SETTINGS = "ops-settings "
_TOOLS = {ROLES: "pg_dumpall", wal.BASE: "pg_basebackup", wal.WAL: "write-ahead log"}
PSQL = "psql -X -q -At -v ON_ERROR_STOP=1"
_VERSION = "SELECT 'server' || E'\\t' || current_setting('server_version')"
_DATABASES = (
    "SELECT 'databases' || E'\\t' || jsonb_agg(to_jsonb(d) || jsonb_build_object("
    "'owner', pg_get_userbyid(datdba), 'encoding', pg_encoding_to_char(encoding), "
    "'acl', (SELECT jsonb_agg(jsonb_build_array(privilege_type, CASE WHEN grantee <> 0 THEN pg_get_userbyid(grantee) END, is_grantable)) "
    "FROM aclexplode(datacl))) ORDER BY datname) FROM pg_database d WHERE NOT datistemplate"
)
# Tables of extensions come back with the extension; partitions are counted, the table above them is not.
_TABLES = (
    "SELECT format('SELECT %L || json_build_array(%L, count(*)) FROM %I.%I', "
    f"'{_COUNT}', nspname || '.' || relname, nspname, relname) "
    "FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace "
    "WHERE relkind = 'r' AND relpersistence <> 't' AND nspname !~ '^pg_' AND nspname <> 'information_schema' "
    "AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.classid = 'pg_class'::regclass AND deptype = 'e') "
    "UNION ALL SELECT format('SELECT %L || json_build_array(%L, count(*)) FROM pg_largeobject_metadata', "
    f"'{_COUNT}', 'large objects')"
)
COUNTING = _TABLES + " \\gexec"
_ROLES = "SELECT 'roles' || E'\\t' || jsonb_agg(rolname ORDER BY rolname) FROM pg_roles"
# They may hold keys (those of PostgREST do), so they go into a part, which may be encrypted, and not into the manifest.
_SET = (
    f"SELECT '{_SETTINGS}' || jsonb_agg(jsonb_build_array(datname, CASE WHEN setrole <> 0 THEN pg_get_userbyid(setrole) END, setconfig))::text "
    "FROM pg_db_role_setting JOIN pg_database d ON d.oid = setdatabase HAVING count(*) > 0"
)


@dataclass(frozen=True)
class Postgres:
    """A PostgreSQL server in a container of a compose project.

    With `point_in_time` its log is held back, by `wal_keep` at most. `slot_shared` says that another datastore of the
    same service wants that.
    """

    name: str
    project: str
    service: str
    server: str
    user: str = ""
    databases: tuple[str, ...] = ()
    point_in_time: bool = False
    wal_keep: str = "4GB"
    slot_shared: bool = False

    @property
    def kind(self) -> str:
        return "postgres"

    def look(self) -> Command:
        asked = (
            f"{self.entry()} tool=$(pg_dump --version) || exit 1; printf 'tool\\t%s\\n' \"$tool\"; "
            # What it cannot compress with, it says before it looks for a server.
            "PGHOST=/nowhere pg_dump -Fc -Z zstd:1 2>&1 | grep -qi compress || printf 'engine\\tzstd\\n'; "
            f"{wal.replication(PSQL) if self.point_in_time else ''}"
            f"{PSQL} -d template1 -c {quote(_VERSION)} -c {quote(_DATABASES)} -c {quote(_ROLES)} -c {quote(wal.SLOT_ROW)}"
            f"{f' -c {quote(wal.FACTS)}' if self.point_in_time else ''}"
        )
        return Command(
            f"{finding(self.project, self.service)}"
            "command -v zstd >/dev/null && printf 'zstd\\tyes\\n'; printf 'container\\t%s\\n' \"$c\"; "
            "printf 'image\\t%s\\n' \"$(docker inspect --format '{{.Config.Image}}' \"$c\")\"; "
            f'docker exec "$c" sh -c {quote(asked)} </dev/null',
            title=f"look at {self.service}: databases, versions",
        )

    def read(self, text: str) -> Looked:
        said = read_lines(text)
        tool = re.sub(r"^\S+ \(PostgreSQL\) ", "", said["tool"]).split()[0]
        rows = [row for row in json.loads(said["databases"]) if not is_place(row["datname"])]
        wanted = [row for row in rows if not self.databases or row["datname"] in self.databases]
        closed = [row["datname"] for row in wanted if not row["datallowconn"]]
        missing = [name for name in self.databases if name not in {row["datname"] for row in rows}]
        facts = {
            "container": said["container"],
            "image": said["image"],
            "roles": said["roles"],
            "missing": "".join(missing[:1]),
        }
        facts["databases"] = json.dumps([row for row in wanted if row["datallowconn"]])
        facts |= {key: said[key] for key in ("slot", "wal", "replication") if key in said}
        return Looked(
            versions={"postgres": said["server"], "pg_dump": tool},
            engine="engine" in said,
            server="zstd" in said,
            facts=facts,
            warnings=tuple(
                f"database {name!r} lets nobody connect, and is not in the backup" for name in closed
            ),
        )

    def details_of(self, looked: Looked) -> Mapping[str, Any]:
        databases = {row["datname"]: row for row in json.loads(looked.facts["databases"])}
        return {"image": looked.facts["image"], "databases": databases}

    def streams(self, looked: Looked, packing: Packing, mark: str) -> tuple[Stream, ...]:
        if looked.facts["missing"]:
            raise ConfigError(
                f"datastore {self.name}: there is no database {looked.facts['missing']!r}", target=self.server
            )
        return (
            self._roles(looked, packing, mark),
            *(self._database(name, looked, packing, mark) for name in self.details_of(looked)["databases"]),
        )

    @property
    def increments(self) -> bool:
        return self.point_in_time

    def begin(self, looked: Looked) -> Command | None:
        if self.point_in_time:
            wal.check_settings(self.name, self.server, looked)
            script = wal.beginning(self.entry(), PSQL, looked, wal.megabytes(self.wal_keep))
            return self._inside(script, looked, "hold back the log", changes="a replication slot")
        if looked.facts.get("slot") and not self.slot_shared:
            script = wal.letting_go(self.entry(), PSQL)
            return self._inside(script, looked, "hold back the log no more", changes="a replication slot")
        return None

    def base(
        self, looked: Looked, packing: Packing, mark: str, begun: Mapping[str, Any]
    ) -> tuple[Stream, ...]:
        """The log is read right behind the base backup: the fewer segments, the sooner a restore is there."""
        base = self._cluster(wal.BASE, wal.copying(self.entry(), PSQL), looked, packing, mark)
        return (
            base,
            self._log(looked, packing, mark, begun.get("start", "0/0")),
            *self.streams(looked, packing, mark),
        )

    def increment(
        self, looked: Looked, packing: Packing, mark: str, last: Mapping[str, Any]
    ) -> tuple[Stream, ...]:
        wal.check_settings(self.name, self.server, looked)
        return (self._log(looked, packing, mark, last["end"]),)

    def settled(self, looked: Looked, now: Mapping[str, Any]) -> Command:
        sql = f"SELECT pg_replication_slot_advance({literal(wal.SLOT)}, {literal(now['end'])}) \\g /dev/null"
        return self._sql([sql], looked, "let go of the log that is stored", changes="a replication slot")

    def trouble(self, looked: Looked, last: Mapping[str, Any]) -> str | None:
        return wal.trouble(looked, last)

    def counts_of(self, told: str) -> Mapping[str, int]:
        rows = (line.removeprefix(_COUNT) for line in told.split("\n") if line.startswith(_COUNT))
        return dict(json.loads(row) for row in rows)

    def warnings_of(self, told: str) -> tuple[str, ...]:
        return tuple(line for line in told.split("\n") if line.startswith("pg_dump: warning"))

    def reading(self, details: Mapping[str, Any], part: str) -> Command | None:
        if part == ROLES:
            return None
        if part.startswith("/"):
            return Command("tar --list --file=- >/dev/null", timeout=None, title=f"tar --list of {part}")
        image = quote(image_of(details))
        return Command(
            f"docker run --rm -i --network none --entrypoint pg_restore {image} --file=/dev/null",
            changes="a throw-away container",
            timeout=None,
            title=f"pg_restore --file=/dev/null of {part}",
        )

    def scratch(self, details: Mapping[str, Any], tag: str, folder: str) -> Scratch:
        name, project = f"opsbook-scratch-{tag}-{self.name}", f"{self.project}-scratch-{tag}"
        # It listens on its loopback once it is initialised.
        ready = f"docker exec {quote(name)} pg_isready -q -h 127.0.0.1"
        user = quote(f"POSTGRES_USER={self.user or 'postgres'}")
        options = f"--network none --env POSTGRES_HOST_AUTH_METHOD=trust --env {user}"
        hold = thrown_away(details, name, project, self.service, ready, options)
        return Scratch(replace(self, project=project), hold)

    def narrowed(
        self, details: Mapping[str, Any], counts: Counts, wanted: Collection[str]
    ) -> tuple[Mapping[str, Any], Counts]:
        databases = details["databases"]
        if unknown := [name for name in wanted if name not in databases]:
            raise UsageError(
                f"{self.name} holds no database {unknown[0]!r}; it holds: {', '.join(sorted(databases))}"
            )
        return {**details, "databases": {name: databases[name] for name in databases if name in wanted}}, {
            name: rows for name, rows in counts.items() if name in wanted
        }

    def beside(self, details: Mapping[str, Any], looked: Looked, tag: str) -> Command:
        stale = dropping(self.name)
        names = place_names(self.name, details, "new", tag)
        made = [
            line for name, beside in names.items() for line in creation(beside, details["databases"][name])
        ]
        return self._sql([stale, *made], looked, "make databases beside the live ones", changes="databases")

    def incoming(self, details: Mapping[str, Any], looked: Looked, tag: str) -> tuple[Incoming, ...]:
        there = tuple(json.loads(looked.facts["roles"]))
        places = place_names(self.name, details, "new", tag)

        def roles(text: str) -> Command | None:
            lines = missing_roles(text, there)
            if not lines:
                return None
            return self._sql(
                ["BEGIN;", *lines, "COMMIT;"], looked, "make the roles that are missing", changes="roles"
            )

        def settings(text: str) -> Command | None:
            found = [line.removeprefix(_SETTINGS) for line in text.split("\n") if line.startswith(_SETTINGS)]
            rows = [row for line in found for row in json.loads(line)]
            lines = [line for name, *row in rows if name in places for line in setting(places[name], *row)]
            if not lines:
                return None
            return self._sql(lines, looked, "set what databases are set to", changes="databases")

        return (
            Incoming(ROLES, make=roles, first=True),
            *(Incoming(name, self._restore(name, place, looked, tag)) for name, place in places.items()),
            Incoming(ROLES, make=settings),
        )

    def count(self, details: Mapping[str, Any], looked: Looked, tag: str) -> Command:
        lines = []
        for name, beside in place_names(self.name, details, "new", tag).items():
            lines += [
                f"\\connect {beside}",
                f"SELECT {literal(_PART)} || to_json({literal(name)}::text);",
                COUNTING,
            ]
        return self._sql(lines, looked, "count the rows", timeout=None)

    def counted(self, text: str) -> Counts:
        parts = re.split(rf"^{_PART}(.*)$", text, flags=re.MULTILINE)
        return {
            json.loads(name): self.counts_of(rows)
            for name, rows in zip(parts[1::2], parts[2::2], strict=True)
        }

    def swap(self, details: Mapping[str, Any], looked: Looked, tag: str) -> Command:
        live, new = {name: name for name in details["databases"]}, place_names(self.name, details, "new", tag)
        lines = renamings(live, place_names(self.name, details, "old", tag), new, must=True)
        return self._sql(lines, looked, "swap the databases", changes="databases")

    def swap_back(self, details: Mapping[str, Any], looked: Looked, tag: str) -> Command:
        live, old = {name: name for name in details["databases"]}, place_names(self.name, details, "old", tag)
        lines = renamings(live, place_names(self.name, details, "new", tag), old, must=False)
        return self._sql(lines, looked, "swap the databases back", changes="databases")

    def lost(self, details: Mapping[str, Any], looked: Looked, tag: str) -> Command:
        lines = [
            f"SELECT {literal(f'{LOST}database {old} ({name})')} "
            f"WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = {literal(old)});"
            for name, old in place_names(self.name, details, "old", tag).items()
        ]
        return self._sql(lines, looked, "look for what was live")

    def forget(self, details: Mapping[str, Any], looked: Looked, tag: str) -> Command:
        """The server drops them behind the end of the run: DROP DATABASE begins with a checkpoint.

        What fails then is in its own log, and the next restore tries it again.
        """
        # Those that are there now, by name: none of a restore that comes meanwhile.
        asked = kept_before(self.name, tuple(place_names(self.name, details, "old", tag).values()))
        asking = self._sql(
            [asked], looked, "remove what earlier restores kept", changes="databases", timeout=600
        )
        # Clusters too: they were live before a restore to a moment. An image may know its folder by its entrypoint alone.
        places = f'"$PGDATA"/{cluster_place(self.project, self.name, "old", TAG)}'
        clusters = f'[ -z "$PGDATA" ] || for p in {places}; do case $p in *_{tag}_*) ;; *) rm -rf -- "$p" ;; esac; done'
        look = f"{self.entry()} {PSQL} -d template1 && {{ {clusters}; }}"
        drop = f'{self.entry()} for d do {PSQL} -d template1 -c "DROP DATABASE IF EXISTS $d"; done'
        container = quote(looked.facts["container"])
        script = (
            f"{{ d=$(docker exec -i {container} sh -c {quote(look)}); s=$?; "
            f'[ -z "$d" ] || docker exec -d {container} sh -c {quote(drop)} sh $d || s=1; [ $s = 0 ]; }}'
        )
        return replace(asking, script=script)

    def discard(self, details: Mapping[str, Any], looked: Looked, tag: str) -> Command:
        names = place_names(self.name, details, "new", tag).values()
        return self._sql(
            [f"DROP DATABASE IF EXISTS {identifier(name)};" for name in names],
            looked,
            "remove the databases beside the live ones",
            changes="databases",
        )

    def _restore(self, name: str, beside: str, looked: Looked, tag: str) -> Command:
        script = (
            f"{self.entry()} exec pg_restore --exit-on-error --no-password --dbname={beside} --format=custom"
        )
        return Command(
            f"c={quote(looked.facts['container'])}; {inside(script, tag, stdin=True)}",
            changes="databases",
            timeout=None,
            title=f"pg_restore {name} of {self.service}",
        )

    def _log(self, looked: Looked, packing: Packing, mark: str, start: str) -> Stream:
        script = wal.shipping(self.entry(), PSQL, looked, start)
        return self._cluster(wal.WAL, script, looked, packing, mark)

    def _cluster(self, part: str, script: str, looked: Looked, packing: Packing, mark: str) -> Stream:
        where = chosen(packing, engine=False, server=looked.server)
        if where == "engine":  # which packs dumps alone
            where = "server" if looked.server else "operator"
        return self._stream(part, f"{part.strip('/')}.tar", script, where, looked, packing, mark)

    def _inside(self, script: str, looked: Looked, title: str, *, changes: str) -> Command:
        return Command(
            f"docker exec {quote(looked.facts['container'])} sh -c {quote(script)} </dev/null",
            changes=changes,
            title=f"{title} of {self.service}",
        )

    def _sql(
        self,
        lines: Sequence[str],
        looked: Looked,
        title: str,
        *,
        changes: str | None = None,
        timeout: float | None = 120.0,
    ) -> Command:
        """Return the command that runs SQL, which travels on stdin, from a database that no backup renames."""
        script = f"{self.entry()} exec {PSQL} -d template1"
        return Command(
            f"docker exec -i {quote(looked.facts['container'])} sh -c {quote(script)}",
            stdin="".join(f"{line}\n" for line in lines).encode(),
            changes=changes,
            timeout=timeout,
            title=f"{title} of {self.service}",
        )

    def entry(self) -> str:
        """Return what each script in the container begins with. Its own environment says how to log in; no password leaves it."""
        user = quote(self.user) if self.user else '"${POSTGRES_USER:-postgres}"'
        return (
            # Limits of a role or a database are for the application: a count or a restore takes the time it takes.
            "export PGOPTIONS='-c statement_timeout=0 -c lock_timeout=0 -c idle_in_transaction_session_timeout=0 "
            "-c default_transaction_read_only=off'; "
            f"export PGUSER={user}; "
            '[ -z "$POSTGRES_PASSWORD_FILE" ] || POSTGRES_PASSWORD=$(cat "$POSTGRES_PASSWORD_FILE"); '
            'export PGPASSWORD="$POSTGRES_PASSWORD"; unset PGDATABASE PGHOST PGPORT; '
        )

    def _roles(self, looked: Looked, packing: Packing, mark: str) -> Stream:
        where = chosen(packing, engine=False, server=looked.server)
        script = (
            f"{self.entry()} pg_dumpall --globals-only -l template1 && {PSQL} -d template1 -c {quote(_SET)}"
        )
        return self._stream(ROLES, "roles.sql", script, where, looked, packing, mark)

    def _database(self, name: str, looked: Looked, packing: Packing, mark: str) -> Stream:
        where = chosen(packing, engine=looked.engine, server=looked.server)
        packed = f"-Z zstd:{packing.level}" if where == "engine" else "-Z 0"
        # psql itself is what runs beside the dump, and what is killed with it: no shell around it that would leave it behind.
        count = "\n".join(
            (
                f"{PSQL} -v ops=\"$OPS_SNAPSHOT\" >&2 <<'OPS_COUNT' & c=$!",
                "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;",
                "SET TRANSACTION SNAPSHOT :'ops';",
                COUNTING,
                "OPS_COUNT",
            )
        )
        work = (
            f'{count}\npg_dump -Fc {packed} --snapshot="$OPS_SNAPSHOT"; d=$?; '
            "[ $d = 0 ] || kill $c 2>/dev/null; wait $c || d=1; echo $d >&3"
        )
        session = "\n".join(
            (
                "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;",
                "SELECT pg_export_snapshot() AS ops \\gset",
                "\\setenv OPS_SNAPSHOT :ops",
                '\\! sh -c "$OPS_WORK" </dev/null',
            )
        )
        script = (
            f"{self.entry()} export PGDATABASE={quote(name)} OPS_WORK={quote(work)}; exec 4>&1; "
            f"s=$(printf '%s\\n' {quote(session)} | {PSQL} 3>&1 >&4); [ \"$s\" = 0 ]"
        )
        return self._stream(name, f"{percent(name, safe='')}.dump", script, where, looked, packing, mark)

    def _stream(
        self,
        part: str,
        ending: str,
        script: str,
        where: Compression,
        looked: Looked,
        packing: Packing,
        mark: str,
    ) -> Stream:
        dump = inside(script, mark)
        body = through_zstd(dump, packing) if where == "server" else dump
        return Stream(
            part,
            Command(
                f"c={quote(looked.facts['container'])}; {body}",
                timeout=None,
                title=f"{_TOOLS.get(part, f'pg_dump {part}')} of {self.service}",
            ),
            ending if where in ("engine", "none") else f"{ending}.zst",
            where,
        )

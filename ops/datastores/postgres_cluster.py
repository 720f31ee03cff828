"""A whole PostgreSQL cluster at a moment: base backup and log, recovered beside the live one, then swapped by renaming.

A throw-away container of the same image, without a network, shares the volumes of the live one. The place beside is a
folder in the data directory, so that the swap is renames within one filesystem; its name begins with `pgsql_tmp`, which
base backups leave out (PostgreSQL's manual, "Streaming Replication Protocol", BASE_BACKUP). The moves go through three
names, as those of ops/datastores/files.py, so that whoever comes after a swap that was cut off knows how far it came.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from ops.commands import Command, quote
from ops.datastores.at_moment import AtMoment
from ops.datastores.base import Counts, Incoming, Looked, Scratch, read_lines
from ops.datastores.postgres import COUNTING, PSQL, Postgres
from ops.datastores.postgres_sql import cluster_place
from ops.datastores.postgres_wal import BASE
from ops.datastores.shell import TAG, finding, restoring, unless_kept
from ops.errors import UsageError

__all__ = ["PostgresCluster"]

_ROOM = 1.1  # of what base and log come to: recovery writes, too
# Roles that are live keep today's passwords: the application has them.
_PASSWORDS = (
    "SELECT format('DO $ops$ BEGIN ALTER ROLE %I PASSWORD %L; EXCEPTION WHEN undefined_object THEN END $ops$;', rolname, rolpassword) "
    "FROM pg_authid WHERE rolpassword IS NOT NULL"
)
_COUNT_ALL = (
    f'{PSQL} -d template1 -c "SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate ORDER BY 1" > "$P/databases" && '
    "while IFS= read -r d; do printf '%s\\n' \"SELECT 'ops-part ' || to_json(current_database()::text);\" "
    f'{quote(COUNTING)} | PGDATABASE="$d" {PSQL} || exit 1; done < "$P/databases"'
)


@dataclass(frozen=True)
class PostgresCluster(AtMoment[Postgres]):
    """A PostgreSQL server whose whole cluster is restored; whether it runs, or can, does not matter before the swap."""

    def look(self) -> Command:
        asked = (
            'postgres --version | { read -r _ _ v _; printf "version\\t%s\\n" "$v"; }; '
            'printf "owner\\t%s\\n" "$(stat -c %u:%g "$D")"; [ ! -s "$D/PG_VERSION" ] || printf "there\\tyes\\n"'
        )
        service = self.store.service
        return Command(
            f"{finding(self.store.project, service, stopped=True)}"
            "command -v zstd >/dev/null && printf 'zstd\\tyes\\n'; printf 'container\\t%s\\n' \"$c\"; "
            "i=$(docker inspect -f '{{.Image}}' \"$c\"); printf 'image\\t%s\\n' \"$i\"; "
            # Not all of the environment: there are passwords in it.
            "d=$(docker inspect -f '{{range .Config.Env}}{{println .}}{{end}}' \"$c\" | sed -n 's/^PGDATA=//p'); "
            f'[ -n "$d" ] || {{ echo "the image of {service} sets no PGDATA: where its data is, is not known" >&2; exit 1; }}; '
            "printf 'data\\t%s\\n' \"$d\"; "
            f'docker run --rm --network none --volumes-from "$c" --user 0 -e D="$d" --entrypoint sh "$i" -c {quote(asked)}',
            title=f"look at the cluster of {service}",
        )

    def read(self, text: str) -> Looked:
        said = read_lines(text)
        return Looked(
            {"postgres": said["version"]},
            engine=False,
            server="zstd" in said,
            facts={key: said[key] for key in ("container", "image", "data", "owner")},
            there="there" in said,
        )

    def narrowed(
        self, details: Mapping[str, Any], counts: Counts, wanted: Collection[str]
    ) -> tuple[Mapping[str, Any], Counts]:
        raise UsageError(
            f"{self.store.name} comes back to a moment as a whole cluster, not as one database",
            next_step="--id with a full backup restores one database alone",
        )

    def scratch(self, details: Mapping[str, Any], tag: str, folder: str) -> Scratch:
        """A cluster that was just made is as good as any to be swapped."""
        made = self.store.scratch(details, tag, folder)
        assert isinstance(made.store, Postgres)
        return Scratch(PostgresCluster(made.store), made.hold)

    def beside(self, details: Mapping[str, Any], looked: Looked, tag: str) -> Command:
        places = self._places("new")
        cut = f'"$D"/{self._places("old")}'
        need = int(details["bytes"] * _ROOM) >> 10
        script = (
            f'for p in {cut}.part {cut}.half; do [ ! -e "$p" ] || '
            "{ echo 'the swap of an earlier restore was cut off: inv restore.undo first' >&2; exit 1; }; done; "
            f'rm -rf -- "$D"/{places}; '
            "free=$(df -Pk \"$D\" | awk 'NR == 2 { print $4 }'); "
            f'[ "$free" -ge {need} ] || {{ echo "the disk has $((free >> 10)) MB free, and a second cluster takes {need >> 10} MB" >&2; exit 1; }}; '
            'mkdir -m 700 -- "$P" "$P/data" "$P/wal"'
        )
        stale = f"docker ps -aq --filter label={restoring(self._key)}"
        return self._command(
            f's=$({stale}) && {{ [ -z "$s" ] || docker rm -f $s >/dev/null; }} || exit 1; {self._run(script, looked, tag)}',
            "make a folder beside the live cluster",
        )

    def incoming(self, details: Mapping[str, Any], looked: Looked, tag: str) -> tuple[Incoming, ...]:
        def unpacked(part: str) -> Incoming:
            if part == BASE:
                script = 'exec tar -x -p -f - -C "$P/data"'
            else:
                named = f"ops-part {json.dumps(part)}"
                script = (
                    'mkdir -- "$P/in" && tar -x -f - -C "$P/in" && '
                    "n=$(ls \"$P/in\" | grep -cxE '[0-9A-F]{24}') && "
                    f'printf \'%s\\nops-count ["segments", %s]\\n\' {quote(named)} "$n" >> "$P/counts" && '
                    'mv -- "$P/in"/* "$P/wal/" && rmdir -- "$P/in"'
                )
            return Incoming(
                part,
                Command(
                    self._run(script, looked, tag, stdin=True),
                    changes="files",
                    timeout=None,
                    title=f"unpack {part.strip('/')} beside {self.store.service}",
                ),
            )

        return tuple(unpacked(part) for part in details["chain"])

    def count(self, details: Mapping[str, Any], looked: Looked, tag: str) -> Command:
        """Recovery comes with it: a cluster can be counted once it has come to the moment."""
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": "/tmp",
            "restore_command": 'cp "../wal/%f" "%p"',
            "recovery_target_time": details["moment"].replace("T", " ").replace("Z", "+00"),
            "recovery_target_action": "promote",
            "recovery_target_inclusive": "on",
            "recovery_target_timeline": "current",
            # What the live server was started with does not bind one that nobody reads from meanwhile.
            "hot_standby": "off",
            "archive_mode": "off",
            "logging_collector": "off",
            "log_destination": "stderr",
            "ssl": "off",
            "shared_buffers": "128MB",
            "huge_pages": "off",
            "max_wal_senders": "0",
        }
        given = " ".join(f"-c {quote(f'{key}={value}')}" for key, value in settings.items())
        script = (
            'printf \'local all all trust\\n\' > "$P/hba"; : > "$P/data/recovery.signal"; '
            f"export PGHOST=/tmp PGUSER={quote(details['increments']['user'])}; "
            f'postgres -D "$P/data" -c hba_file="$P/hba" {given} </dev/null >"$P/log" 2>&1 & p=$!; '
            f"until [ \"$({PSQL} -d template1 -c 'SELECT pg_is_in_recovery()' 2>/dev/null)\" = f ]; do "
            'kill -0 $p 2>/dev/null || { grep -E "FATAL|PANIC" "$P/log" >&2 || tail -n 5 "$P/log" >&2; exit 1; }; sleep 0.2; done; '
            f"{PSQL} -d template1 -f - >/dev/null && {{ {_COUNT_ALL}; }} || exit 1; "
            'cat "$P/counts"; pg_ctl -D "$P/data" -m fast -w -t 3600 stop >&2 && wait $p; '
            'rm -rf -- "$P/wal" "$P/hba" "$P/log" "$P/counts" "$P/databases"'
        )
        asked = f"{self.store.entry()} {PSQL} -d template1 -c {quote(_PASSWORDS)}"
        passwords = (
            f"docker exec {quote(looked.facts['container'])} sh -c {quote(asked)} </dev/null 2>/dev/null"
        )
        return Command(
            f"{{ {passwords} || true; }} | {self._run(script, looked, tag, stdin=True)}",
            changes="files",
            timeout=None,
            title=f"recover {self.store.service} beside the live one to {details['moment']}, and count",
        )

    def swap(self, details: Mapping[str, Any], looked: Looked, tag: str) -> Command:
        old = f'"$D"/{self._place("old", tag)}'
        script = (
            f'[ -d "$P/data" ] && mkdir -m 700 -- {old}.part && {_move("$D", f"{old}.part")} && '
            f'mv -- {old}.part {old}.half && {_move("$P/data", "$D")} && mv -- {old}.half {old} && rm -rf -- "$P"'
        )
        user = f"PGUSER={quote(details['increments']['user'])}; "
        return self._while_stopped(script, looked, tag, f"swap the cluster of {self.store.service}", user)

    def swap_back(self, details: Mapping[str, Any], looked: Looked, tag: str) -> Command:
        old = f'"$D"/{self._place("old", tag)}'
        script = (
            f"[ ! -d {old} ] || mv -- {old} {old}.half || exit 1; "
            f'if [ -d {old}.half ]; then mkdir -p -m 700 -- "$P" "$P/data" && {_move("$D", "$P/data")} && mv -- {old}.half {old}.part || exit 1; fi; '
            f"if [ -d {old}.part ]; then {_move(f'{old}.part', '$D')} && rmdir -- {old}.part || exit 1; fi"
        )
        return self._while_stopped(script, looked, tag, f"swap back the cluster of {self.store.service}", "")

    def lost(self, details: Mapping[str, Any], looked: Looked, tag: str) -> Command:
        facts = looked.facts
        old = f"{facts['data']}/{self._place('old', tag)}"
        script = unless_kept(old, old)
        # Without the name of what a swap runs in: a dry run may look while that is at work.
        return Command(
            f"docker run --rm --network none --volumes-from {quote(facts['container'])} --user {quote(facts['owner'])} "
            f"--entrypoint sh {quote(facts['image'])} -c {quote(script)}",
            title=f"look for the cluster that {self.store.service} had",
        )

    def forget(self, details: Mapping[str, Any], looked: Looked, tag: str) -> Command:
        databases = self.store.forget(details, looked, tag)
        kept = f'"$D"/{self._place("old", tag)}'
        script = f'for p in "$D"/{self._places("old")}; do [ "$p" = {kept} ] || rm -rf -- "$p"; done'
        return Command(
            f"{self._run(script, looked, tag)} && {databases.script}",
            stdin=databases.stdin,
            changes="files",
            timeout=600,
            title=databases.title,
        )

    def discard(self, details: Mapping[str, Any], looked: Looked, tag: str) -> Command:
        name, removing = quote(self._name(tag)), 'rm -rf -- "$P"'
        return self._command(
            f"docker rm -f {name} >/dev/null 2>&1; {self._run(removing, looked, tag)}",
            "remove what is beside the live cluster",
        )

    def _place(self, word: str, tag: str) -> str:
        return cluster_place(self.store.project, self.store.name, word, tag)

    def _places(self, word: str) -> str:
        return self._place(word, TAG)

    def _run(self, script: str, looked: Looked, tag: str, *, stdin: bool = False) -> str:
        """Return shell that runs a script as the data's owner in a container beside the live one, `P` being the place."""
        facts = looked.facts
        variables = {
            "D": facts["data"],
            "P": f"{facts['data']}/{self._place('new', tag)}",
        }
        given = " ".join(f"-e {quote(f'{key}={value}')}" for key, value in variables.items())
        return (
            f"docker run --rm {'-i ' if stdin else ''}--name {quote(self._name(tag))} --label {restoring(self._key)} "
            f"--network none --volumes-from {quote(facts['container'])} --user {quote(facts['owner'])} {given} "
            f"--entrypoint sh {quote(facts['image'])} -c {quote(script)}"
        )

    def _while_stopped(self, script: str, looked: Looked, tag: str, title: str, user: str) -> Command:
        """Return the command that moves folders while the server stands still, and waits until it answers again."""
        c, name = quote(looked.facts["container"]), quote(self._name(tag))
        asked = f"{self.store.entry()} {user}{PSQL} -d template1 -c 'SELECT 1'"
        return self._command(
            # One that is still at work, as of a run whose connection broke, is waited for.
            f"while docker inspect {name} >/dev/null 2>&1; do docker wait {name} >/dev/null 2>&1; sleep 0.2; done; "
            f"docker stop -t 120 {c} >/dev/null && {self._run(script, looked, tag)} && docker start {c} >/dev/null || exit 1; "
            f"n=0; until docker exec {c} sh -c {quote(asked)} >/dev/null 2>&1 </dev/null; do n=$((n + 1)); "
            f"[ $n -le 600 ] || {{ docker logs --tail 5 {c} >&2; exit 1; }}; sleep 0.2; done",
            title,
        )

    def _command(self, script: str, title: str) -> Command:
        return Command(script, changes="files", timeout=900, title=title)


def _move(source: str, target: str) -> str:
    """Return shell that moves what lies in a folder, but for places of restores and what belongs to a filesystem."""
    source, target = (text if text.startswith('"') else f'"{text}"' for text in (source, target))
    return (
        f"find {source} -mindepth 1 -maxdepth 1 ! -name 'pgsql_tmp_ops_*' ! -name lost+found "
        f'-exec sh -c \'t=$1; shift; mv -- "$@" "$t/"\' sh {target} {{}} +'
    )

"""PostgreSQL's increments: a slot that holds the write-ahead log back, a base backup, and the log's segments behind it.

The slot is made before the first base backup, and moves on only once the manifest of what was taken is stored. How much
it may hold back is bounded by the server itself (max_slot_wal_keep_size, PostgreSQL 13), so that a disk never fills
because increments fail: the slot is then lost, and only a full backup begins anew.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ops.commands import quote
from ops.datastores.base import Looked
from ops.datastores.increments import PROGRESS
from ops.errors import ConfigError

__all__ = [
    "BASE",
    "FACTS",
    "SLOT",
    "SLOT_ROW",
    "WAL",
    "Wal",
    "beginning",
    "check_settings",
    "copying",
    "letting_go",
    "megabytes",
    "replication",
    "shipping",
    "trouble",
]

SLOT = "opsbook"
BASE, WAL = "/base", "/wal"  # parts of a backup beside those that bear the name of a database
_MINIMUM = 130000
_TIME = '\'YYYY-MM-DD"T"HH24:MI:SS.US"Z"\''
_NOW = f"to_char(clock_timestamp() AT TIME ZONE 'UTC', {_TIME})"
SLOT_ROW = f"SELECT 'slot' || E'\\t' || to_jsonb(s) FROM pg_replication_slots s WHERE slot_name = '{SLOT}'"
FACTS = (
    "SELECT 'wal' || E'\\t' || jsonb_build_object('version', current_setting('server_version_num')::int, "
    "'level', current_setting('wal_level'), 'standby', pg_is_in_recovery(), "
    "'system', (SELECT system_identifier::text FROM pg_control_system()), "
    "'segment', pg_size_bytes(current_setting('wal_segment_size')), "
    "'timeline', CASE WHEN NOT pg_is_in_recovery() THEN left(pg_walfile_name(pg_current_wal_lsn()), 8) END, "
    "'tablespaces', (SELECT count(*) FROM pg_tablespace WHERE spcname NOT IN ('pg_default', 'pg_global')), "
    "'keep', (SELECT setting::bigint FROM pg_settings WHERE name = 'max_slot_wal_keep_size'))"
)


@dataclass(frozen=True)
class Wal:
    """Where a server's log stands: the cluster and its timeline (8 hex digits), bytes of a segment, and how much of it
    a slot may hold back, in MB (-1: without bound). `slot` is our slot's row, empty where there is none."""

    version: int
    level: str
    standby: bool
    system: str
    segment: int
    timeline: str | None
    tablespaces: int
    keep: int | None
    slot: Mapping[str, Any]

    @staticmethod
    def of(looked: Looked) -> Wal:
        """Return what a look at the server said."""
        return Wal(**json.loads(looked.facts["wal"]), slot=json.loads(looked.facts.get("slot") or "{}"))

    @property
    def lost(self) -> bool:
        """True when the slot had to let go of what it held: the bound was reached."""
        return bool(self.slot) and (self.slot["restart_lsn"] is None or self.slot.get("wal_status") == "lost")


def check_settings(name: str, server: str, looked: Looked) -> None:
    """Raise ConfigError where the server, as it is set, cannot give back a point in time."""
    wal = Wal.of(looked)
    why = step = None
    if wal.version < _MINIMUM:
        why = f"PostgreSQL {looked.versions['postgres']} cannot bound what a slot holds back"
        step = "point_in_time needs PostgreSQL 13 or newer"
    elif wal.standby:
        why, step = "this server is a standby", "name the primary's service"
    elif wal.level == "minimal":
        why = "wal_level is minimal: the log says too little to restore from it"
        step = "set wal_level = replica and max_wal_senders = 10, and restart the service"
    elif wal.tablespaces:
        why = f"{wal.tablespaces} tablespace(s) lie outside the data directory, which a base backup here does not hold"
        step = "move what is in them to pg_default, or take point_in_time out"
    elif not _can_replicate(looked.facts["replication"]):
        why = f"its superuser may not connect for replication through the socket: {looked.facts['replication'].strip()}"
        step = 'add the line "local replication all trust" to pg_hba.conf, and reload'
    if why is not None:
        raise ConfigError(f"datastore {name}: {why}", target=server, next_step=step)


def trouble(looked: Looked, last: Mapping[str, Any]) -> str | None:
    """Return why the log cannot be followed from where a backup ended, None where it can."""
    wal = Wal.of(looked)
    if "end" not in last:
        return "the last full backup was taken without point_in_time"
    if wal.system != last["system"]:
        return "this is another cluster than the one that was backed up"
    if wal.timeline != last["timeline"]:
        return f"the log went over to timeline {wal.timeline} (a restore, or a failover), and the last backup is of {last['timeline']}"
    if not wal.slot:
        return f"the replication slot {SLOT} is gone, and with it what the log held since the last backup"
    if wal.lost:
        return (
            "the log was lost: increments failed for so long that the server let go of it, "
            "as wal_keep in ops.toml tells it to before a disk fills"
        )
    if _number(wal.slot["restart_lsn"]) > _number(last["end"]):
        return f"the slot {SLOT} has moved on past the last backup"
    return None


def beginning(entry: str, psql: str, looked: Looked, keep: int) -> str:
    """Return the script that has the log held back from now on, by `keep` MB at most, and prints where it stands.

    A bound that is set already and lower stays. A slot that is there and holds stays too, for the chain before: it moves
    on when this backup is stored.
    """
    bound = (
        f"SELECT setting::bigint BETWEEN 0 AND {keep} FROM pg_settings WHERE name = 'max_slot_wal_keep_size'"
    )
    making = (
        f"SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '{SLOT}' AND NOT active "
        "AND (restart_lsn IS NULL OR wal_status = 'lost') \\g /dev/null\n"
        f"SELECT pg_create_physical_replication_slot('{SLOT}', true) "
        f"WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = '{SLOT}') \\g /dev/null\n"
        f"SELECT '{PROGRESS}' || json_build_object('start', pg_current_wal_lsn())\n"
    )
    setting = f"ALTER SYSTEM SET max_slot_wal_keep_size = '{keep}MB'"
    return (
        f'{entry} bounded() {{ [ "$({psql} -d template1 -c {quote(bound)})" = t ]; }}; '
        f"bounded || {psql} -d template1 -c {quote(setting)} "
        "-c 'SELECT pg_reload_conf()' >/dev/null || exit 1; "
        # Each connection reads what the server has read by then.
        "n=0; until bounded; do n=$((n + 1)); [ $n -le 50 ] || { echo 'max_slot_wal_keep_size cannot be set: is it on the command line?' >&2; exit 1; }; sleep 0.1; done; "
        f"printf '%s' {quote(making)} | {psql} -d template1"
    )


def letting_go(entry: str, psql: str) -> str:
    """Return the script that drops a slot that nobody wants any more."""
    sql = f"SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '{SLOT}' AND NOT active"
    return f"{entry} {psql} -d template1 -c {quote(sql)} >/dev/null"


def replication(psql: str) -> str:
    """Return shell that prints whether a base backup could connect: the cluster and its timeline, or the refusal."""
    return f"printf 'replication\\t%s\\n' \"$({psql} -d replication=yes -c IDENTIFY_SYSTEM 2>&1 | tr '\\n' ' ')\"; "


def copying(entry: str, psql: str) -> str:
    """Return the script whose stdout is a base backup as a tar, and that says when it ended."""
    sql = f"SELECT '{PROGRESS}' || json_build_object('from', {_NOW}, 'parts', json_build_array('{BASE}', '{WAL}'), 'user', current_user, 'size', (SELECT sum(pg_database_size(oid)) FROM pg_database))"
    return (
        f"{entry} pg_basebackup -Ft -X none -D - -c fast --no-password --label={SLOT} && "
        f"{psql} -d template1 -c {quote(sql)} >&2"
    )


def shipping(entry: str, psql: str, looked: Looked, start: str) -> str:
    """Return the script whose stdout is a tar of the log's segments from `start` to now, and that says how far they go.

    The log is ended at the moment whose time is told, behind a commit of its own: a restore to that time finds a later
    commit to stop before, however quiet the database was.
    """
    wal = Wal.of(looked)
    first = _segment(wal, _number(start))
    from_first = _lsn(_number(start) // wal.segment * wal.segment)
    between = (
        f"left(name, 8) = '{wal.timeline}' AND length(name) = 24 "
        f"AND name COLLATE \"C\" BETWEEN '{first}' AND :'last'"
    )
    held = (
        f"FROM pg_replication_slots WHERE slot_name = '{SLOT}' AND wal_status <> 'lost' "
        f"AND restart_lsn <= '{_lsn(_number(start))}'"
    )
    end = f"ceil(pg_wal_lsn_diff(:'switched', '0/0') / {wal.segment}) * {wal.segment}"
    sql = (
        f"SELECT count(*) = 1 AS held {held} \\gset\n"
        "\\if :held\n\\else\n\\warn 'the log is not held back any more'\n\\quit\n\\endif\n"
        f"SELECT {_NOW} AS until \\gset\n"
        f"SELECT pg_logical_emit_message(true, '{SLOT}', 'increment') \\g /dev/null\n"
        "SELECT pg_switch_wal() AS switched \\gset\n"
        "SELECT pg_walfile_name(:'switched') AS last \\gset\n"
        f"SELECT format('%s/%s', to_hex(div({end}, 4294967296)::bigint), to_hex(mod({end}, 4294967296)::bigint)) AS end \\gset\n"
        f"SELECT count(*) AS found, count(*) = ceil(pg_wal_lsn_diff(:'switched', '{from_first}') / {wal.segment}) AS whole, "
        "json_build_object('until', :'until', 'end', upper(:'end'), 'system', "
        f"'{wal.system}', 'timeline', '{wal.timeline}', 'bytes', count(*) * {wal.segment}) AS told FROM pg_ls_waldir() WHERE {between} \\gset\n"
        f"\\if :whole\n\\else\n\\warn 'segments of the log are missing behind {first}'\n\\quit\n\\endif\n"
        f"SELECT name FROM pg_ls_waldir() WHERE ({between}) OR name ~ '^[0-9A-F]{{8}}\\.history$' ORDER BY name;\n"
        f"\\warn '{PROGRESS}' :told\n"
        "\\warn 'ops-count [\"segments\",' :found ']'\n"
    )
    still = f"SELECT count(*) = 1 {held}"
    return (
        f"{entry} data=$({psql} -d template1 -c 'SHOW data_directory') || exit 1; "
        f"names=$(printf '%s' {quote(sql)} | {psql} -d template1) && [ -n \"$names\" ] || exit 1; "
        f'printf \'%s\\n\' "$names" | tar -C "$data/pg_wal" -c -f - -T - || exit 1; '
        # What was let go of while it was read is no longer what it was.
        f"[ \"$({psql} -d template1 -c {quote(still)})\" = t ] || {{ echo 'the log was lost while it was read' >&2; exit 1; }}"
    )


def megabytes(size: str) -> int:
    """Return a size such as `4GB` in MB."""
    return int(size[:-2]) * {"MB": 1, "GB": 1 << 10, "TB": 1 << 20}[size[-2:]]


def _can_replicate(said: str) -> bool:
    system, _, rest = said.partition("|")
    return system.isdigit() and bool(rest)


def _number(lsn: str) -> int:
    high, _, low = lsn.partition("/")
    return (int(high, 16) << 32) + int(low, 16)


def _lsn(number: int) -> str:
    return f"{number >> 32:X}/{number & 0xFFFFFFFF:X}"


def _segment(wal: Wal, lsn: int) -> str:
    """Return the name of the segment that holds a place in the log (PostgreSQL: XLogFileName)."""
    number, per = lsn // wal.segment, (1 << 32) // wal.segment
    return f"{wal.timeline}{number // per:08X}{number % per:08X}"

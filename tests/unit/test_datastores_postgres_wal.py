"""When PostgreSQL's log can be followed, and when it is refused, as far as that can be judged without a server."""

import json

import pytest

from ops.datastores.base import Packing
from ops.datastores.postgres import Postgres
from ops.datastores.postgres_wal import megabytes
from ops.errors import ConfigError

pytestmark = pytest.mark.parity("B2")

STORE = Postgres("db", "shop", "postgres", "db1", point_in_time=True)
STATE = {
    "version": 170000,
    "level": "replica",
    "standby": False,
    "system": "77",
    "segment": 16 << 20,
    "timeline": "00000001",
    "tablespaces": 0,
    "keep": -1,
}
SLOT = {"restart_lsn": "0/3000000", "wal_status": "reserved"}
LAST = {"system": "77", "timeline": "00000001", "end": "0/3000000"}


def looked(state=None, slot=SLOT, replication="77|1|0/3000000|", store=STORE):
    said = {
        "tool": "pg_dump (PostgreSQL) 17.2",
        "server": "17.2",
        "container": "c1",
        "image": "postgres:17",
        "roles": "[]",
        "databases": "[]",
        "wal": json.dumps(STATE | (state or {})),
        "replication": replication,
    }
    if slot is not None:
        said["slot"] = json.dumps(slot)
    return store.read("".join(f"{key}\t{value}\n" for key, value in said.items()))


def test_nothing_is_wrong_with_a_slot_that_holds():
    assert STORE.trouble(looked(), LAST) is None


@pytest.mark.parametrize(
    ("found", "last", "said"),
    [
        (looked(), {}, "without point_in_time"),
        (looked({"system": "78"}), LAST, "another cluster"),
        (looked({"timeline": "00000002"}), LAST, "timeline 00000002"),
        (looked(slot=None), LAST, "slot opsbook is gone"),
        (looked(slot={"restart_lsn": None, "wal_status": "lost"}), LAST, "log was lost"),
        (looked(slot={"restart_lsn": "0/2000000", "wal_status": "lost"}), LAST, "log was lost"),
        (looked(slot={"restart_lsn": "1/0", "wal_status": "reserved"}), LAST, "moved on past"),
    ],
)
def test_a_log_that_cannot_be_followed_says_why(found, last, said):
    assert said in STORE.trouble(found, last)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (looked({"version": 120004}), "cannot bound"),
        (looked({"standby": True}), "standby"),
        (looked({"level": "minimal"}), "wal_level is minimal"),
        (looked({"tablespaces": 2}), "2 tablespace"),
        (looked(replication="FATAL:  no pg_hba.conf entry "), "no pg_hba.conf entry"),
    ],
)
def test_a_server_that_cannot_give_back_a_point_in_time_is_refused(found, said):
    for refused in (lambda: STORE.begin(found), lambda: STORE.increment(found, Packing(), "m", LAST)):
        with pytest.raises(ConfigError, match=said) as failure:
            refused()
        assert failure.value.next_step


def test_an_increment_begins_at_the_segment_that_the_last_one_ended_before():
    (stream,) = STORE.increment(looked(), Packing(), "m", LAST | {"end": "A/FF000000"})
    assert "000000010000000A000000FF" in stream.command.script


def test_a_base_backup_comes_right_before_its_log():
    parts = STORE.base(looked(), Packing("none"), "m", {"start": "0/2000028"})
    assert [(part.part, part.ending) for part in parts] == [
        ("/base", "base.tar"),
        ("/wal", "wal.tar"),
        ("", "roles.sql"),
    ]
    assert "000000010000000000000002" in parts[1].command.script


def test_packing_by_the_engine_is_for_dumps_alone():
    parts = STORE.base(looked(), Packing("engine"), "m", {})
    assert [part.compression for part in parts[:2]] == ["operator", "operator"]


class TestSwitchedOff:
    """A slot that nobody wants any more must not hold the log for ever."""

    OFF = Postgres("db", "shop", "postgres", "db1")

    def test_it_is_dropped_before_the_next_full_backup(self):
        command = self.OFF.begin(looked(store=self.OFF))
        assert "pg_drop_replication_slot" in command.script
        assert command.changes

    def test_nothing_is_done_where_there_is_none(self):
        assert self.OFF.begin(looked(slot=None, store=self.OFF)) is None

    def test_that_of_another_datastore_of_the_service_stays(self):
        shared = Postgres("db", "shop", "postgres", "db1", slot_shared=True)
        assert shared.begin(looked(store=shared)) is None


@pytest.mark.parametrize(("size", "number"), [("512MB", 512), ("4GB", 4096), ("1TB", 1 << 20)])
def test_sizes_are_understood(size, number):
    assert megabytes(size) == number

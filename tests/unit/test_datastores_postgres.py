"""The SQL and the shell of PostgreSQL's backups, as far as they can be judged without a server."""

import json

import pytest

from ops.datastores.base import LOST, Packing
from ops.datastores.postgres import Postgres
from ops.datastores.postgres_sql import (
    creation,
    identifier,
    is_place,
    literal,
    missing_roles,
    place_names,
    renamings,
    setting,
)
from ops.errors import ConfigError

DUMPED = '''\
--
-- Roles
--
\\restrict abc
CREATE ROLE app;
ALTER ROLE app WITH NOSUPERUSER LOGIN PASSWORD 'SCRAM-SHA-256$4096:x';
CREATE ROLE "it's; odd ""one""";
ALTER ROLE "it's; odd ""one""" WITH NOLOGIN;
ALTER ROLE app SET search_path TO 'a', 'b';
CREATE ROLE postgres;
ALTER ROLE postgres WITH SUPERUSER PASSWORD 'SCRAM-SHA-256$4096:y';
GRANT "it's; odd ""one""" TO app WITH INHERIT TRUE GRANTED BY postgres;
GRANT app TO postgres;
'''
ROW = {
    "datname": "shop",
    "owner": "app",
    "encoding": "UTF8",
    "datcollate": "C.UTF-8",
    "datctype": "C.UTF-8",
    "datconnlimit": -1,
    "acl": None,
    "datallowconn": True,
}


def test_roles_that_are_there_keep_their_passwords():
    made = missing_roles(DUMPED, ("postgres", "app"))
    assert made == [
        'CREATE ROLE "it\'s; odd ""one""";',
        'ALTER ROLE "it\'s; odd ""one""" WITH NOLOGIN;',
    ]


def test_roles_that_are_missing_come_with_password_settings_and_memberships():
    made = missing_roles(DUMPED, ("postgres",))
    assert "ALTER ROLE app WITH NOSUPERUSER LOGIN PASSWORD 'SCRAM-SHA-256$4096:x';" in made
    assert "ALTER ROLE app SET search_path TO 'a', 'b';" in made
    assert 'GRANT "it\'s; odd ""one""" TO app WITH INHERIT TRUE;' in made
    assert not any("postgres" in line for line in made)


def test_nothing_is_made_where_all_roles_are_there():
    assert missing_roles(DUMPED, ("postgres", "app", 'it\'s; odd "one"')) == []


def test_a_database_is_made_as_it_was():
    (made,) = creation("new", ROW)
    assert made == (
        'CREATE DATABASE "new" TEMPLATE template0 OWNER "app" ENCODING \'UTF8\' '
        "LC_COLLATE 'C.UTF-8' LC_CTYPE 'C.UTF-8';"
    )


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"datlocprovider": "i", "daticulocale": "de"}, "LOCALE_PROVIDER icu ICU_LOCALE 'de'"),
        ({"datlocprovider": "b", "datlocale": "C"}, "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C'"),
        ({"datconnlimit": 5}, "CONNECTION LIMIT 5"),
    ],
)
def test_its_locale_and_limit_are_those_it_had(row, said):
    assert said in creation("new", {**ROW, **row})[0]


def test_its_rights_come_back():
    row = {**ROW, "acl": [["CONNECT", None, False], ["CREATE", "app", True]]}
    assert creation("new", row)[1:] == [
        'REVOKE ALL ON DATABASE "new" FROM PUBLIC;',
        'GRANT CONNECT ON DATABASE "new" TO PUBLIC;',
        'GRANT CREATE ON DATABASE "new" TO "app" WITH GRANT OPTION;',
    ]


def test_its_settings_come_back():
    assert setting("new", None, ["work_mem=64MB", 'search_path="$user", public', "app.jwt=a=b"]) == [
        'ALTER DATABASE "new" SET "work_mem" TO \'64MB\';',
        'ALTER DATABASE "new" SET "search_path" TO "$user", public;',
        'ALTER DATABASE "new" SET "app"."jwt" TO \'a=b\';',
    ]
    assert setting("new", "app", ["lock_timeout=5s"]) == [
        'ALTER ROLE "app" IN DATABASE "new" SET "lock_timeout" TO \'5s\';'
    ]


@pytest.mark.parametrize(
    ("text", "written"), [("a", "'a'"), ("it's", "'it''s'"), ("a\\b'", " E'a\\\\b'''"), ("", "''")]
)
def test_texts_are_written_so_that_they_stay_what_they_are(text, written):
    assert literal(text) == written


def test_names_are_quoted():
    assert identifier('my "db"') == '"my ""db"""'


TAG = "20260101t000000z0001"


def test_places_beside_fit_into_a_name_whatever_the_database_is_called():
    names = place_names("db", {"databases": {"ü" * 31: {}, "a": {}}}, "new", TAG)
    assert list(names) == ["a", "ü" * 31]
    assert all(is_place(name) and len(name) < 64 for name in names.values())


def test_places_of_two_datastores_on_one_server_are_apart():
    one, two = (place_names(store, {"databases": {"a": {}}}, "new", TAG)["a"] for store in ("one", "two"))
    assert one != two


@pytest.mark.parametrize("name", ["ops_old_crm", "ops-new_shop", "ops_new_1", f"ops_new_{TAG}_abcdef_1x"])
def test_databases_of_a_person_are_no_places(name):
    assert not is_place(name)


def test_databases_are_renamed_in_one_transaction():
    lines = renamings({"a": "a", "b": "b"}, {"a": "old0", "b": "old1"}, {"a": "new0", "b": "new1"}, must=True)
    begun, ended = lines.index("BEGIN;"), lines.index("COMMIT;")
    assert [line for line in lines[begun:ended] if "RENAME" in line] == [
        'ALTER DATABASE "a" RENAME TO "old0";',
        'ALTER DATABASE "new0" RENAME TO "a";',
        'ALTER DATABASE "b" RENAME TO "old1";',
        'ALTER DATABASE "new1" RENAME TO "b";',
    ]
    assert not any("RENAME" in line for line in [*lines[:begun], *lines[ended:]])


def looked(*names, engine=True, store=None, closed=()):
    rows = [{**ROW, "datname": name, "datallowconn": name not in closed} for name in names]
    said = {
        "tool": "pg_dump (PostgreSQL) 17.2 (Debian 1)",
        "server": "17.2 (Debian)",
        "container": "c0ffee",
        "image": "postgres:17",
    }
    said |= {"databases": json.dumps(rows), "roles": "[]", "zstd": "yes"} | (
        {"engine": "zstd"} if engine else {}
    )
    return (store or STORE).read("".join(f"{key}\t{value}\n" for key, value in said.items()))


STORE = Postgres("db", "shop-production", "postgres", "db1")


def test_all_databases_are_dumped_but_those_that_a_restore_keeps():
    streams = STORE.streams(looked("shop", "ops_old_20260101t000000z0001_abcdef_0", "a b"), Packing(), "run")
    assert [(stream.part, stream.ending) for stream in streams] == [
        ("", "roles.sql.zst"),
        ("shop", "shop.dump"),
        ("a b", "a%20b.dump"),
    ]


def test_databases_that_are_named_are_dumped_alone():
    store = Postgres("db", "shop-production", "postgres", "db1", databases=("shop",))
    found = store.streams(looked("shop", "other", store=store), Packing(), "run")
    assert [stream.part for stream in found] == ["", "shop"]
    with pytest.raises(ConfigError, match="no database 'shop'"):
        store.streams(looked("other", store=store), Packing(), "run")


def test_a_database_that_lets_nobody_in_is_told():
    found = looked("shop", "shut", closed=("shut",))
    assert list(STORE.details_of(found)["databases"]) == ["shop"]
    assert "'shut' lets nobody connect" in found.warnings[0]


@pytest.mark.parametrize(
    ("engine", "wanted", "where"),
    [
        (True, "auto", "engine"),
        (False, "auto", "server"),
        (True, "operator", "operator"),
        (True, "none", "none"),
    ],
)
def test_a_dump_is_packed_as_near_to_the_data_as_can_be(engine, wanted, where):
    stream = STORE.streams(looked("shop", engine=engine), Packing(wanted), "run")[1]
    assert stream.compression == where
    assert ("-Z zstd:3" in stream.command.script) == (where == "engine")


def test_each_database_that_was_kept_and_is_gone_is_told():
    details = {"databases": {"shop": {}, "it's": {}}}
    old = place_names("db", details, "old", TAG)
    command = STORE.lost(details, looked("shop"), TAG)
    assert command.changes is None
    assert command.stdin.decode().splitlines() == [
        f"SELECT {literal(f'{LOST}database {old[name]} ({name})')} "
        f"WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = '{old[name]}');"
        for name in ("it's", "shop")
    ]


def test_the_server_is_asked_for_nothing_where_roles_and_settings_are_as_they_were():
    first, _, last = STORE.incoming({"databases": {"shop": {}}}, looked("shop"), TAG)
    assert b"CREATE ROLE app;" in first.make(DUMPED).stdin
    assert first.make("--\n-- Roles\n--\n") is None
    assert b'SET "work_mem"' in last.make('ops-settings [["shop", null, ["work_mem=64MB"]]]\n').stdin
    assert last.make(DUMPED) is None


def test_counts_are_read_from_what_the_dump_says_beside_its_data():
    told = 'pg_dump: warning: circular\nops-count ["public.orders", 7]\nops-count ["large objects", 0]\n'
    assert STORE.counts_of(told) == {"public.orders": 7, "large objects": 0}
    assert STORE.warnings_of(told) == ("pg_dump: warning: circular",)


def test_counts_after_a_restore_are_told_by_database():
    text = 'ops-part "a \\"b\\""\nops-count ["public.x", 1]\nops-part "c"\nops-count ["public.y", 2]\n'
    assert STORE.counted(text) == {'a "b"': {"public.x": 1}, "c": {"public.y": 2}}

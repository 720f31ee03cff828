"""The SQL of a restore: databases as they were made, roles that are missing, and the swap."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ops.datastores.shell import store_key

__all__ = [
    "cluster_place",
    "creation",
    "dropping",
    "identifier",
    "is_place",
    "kept_before",
    "literal",
    "missing_roles",
    "place_names",
    "renamings",
    "setting",
]

# Settings whose values are lists that PostgreSQL stores quoted already (pg_dump: variable_is_guc_list_quote).
_LISTS = (
    "local_preload_libraries",
    "search_path",
    "session_preload_libraries",
    "shared_preload_libraries",
    "temp_tablespaces",
    "unix_socket_directories",
)


def identifier(name: str) -> str:
    """Return a name as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Return a text as SQL writes it, whatever standard_conforming_strings says."""
    escaped = text.replace("'", "''")
    return f" E'{escaped}'".replace("\\", "\\\\") if "\\" in text else f"'{escaped}'"


def place_names(store: str, details: Mapping[str, Any], word: str, tag: str) -> dict[str, str]:
    """Return, for each database of a backup, the name of the one beside it; names are cut at 63 bytes, so it is a number."""
    key = store_key(store)
    return {
        name: f"ops_{word}_{tag}_{key}_{number}" for number, name in enumerate(sorted(details["databases"]))
    }


def cluster_place(project: str, store: str, word: str, tag: str) -> str:
    """Return the name of the folder that holds a whole cluster beside the live one, or a shell's pattern for TAG."""
    return f"pgsql_tmp_ops_{word}_{tag}_{store_key(f'{project}/{store}')}"


def is_place(name: str) -> bool:
    """Return whether a database is one that a restore made or kept."""
    return re.fullmatch(_place("(new|old)", "[0-9a-f]{6}"), name) is not None


def dropping(store: str) -> str:
    """Return the statement that drops what runs left beside a datastore's live databases."""
    return f"SELECT format('DROP DATABASE IF EXISTS %I', datname) {_places(store, 'new')} \\gexec"


def kept_before(store: str, but: Sequence[str]) -> str:
    """Return the query for the databases that a datastore's restores kept, `but` for some."""
    return f"SELECT datname {_places(store, 'old')} AND datname <> ALL (ARRAY[{', '.join(map(literal, but))}]::text[]);"


def _places(store: str, word: str) -> str:
    return f"FROM pg_database WHERE datname ~ {literal(f'^{_place(word, store_key(store))}$')}"


def _place(word: str, key: str) -> str:
    """Return the pattern of the names of places: nothing that a person made may match."""
    return f"ops_{word}_[0-9]{{8}}t[0-9]{{6}}z[0-9a-f]{{4}}_{key}_[0-9]+"


def creation(name: str, like: Mapping[str, Any]) -> list[str]:
    """Return the statements that make an empty database of that name as another was, by its row of pg_database."""
    words = [
        f"CREATE DATABASE {identifier(name)} TEMPLATE template0 OWNER {identifier(like['owner'])} ENCODING {literal(like['encoding'])}",
        f"LC_COLLATE {literal(like['datcollate'])} LC_CTYPE {literal(like['datctype'])}",
    ]
    provider, locale = like.get("datlocprovider", "c"), like.get("datlocale") or like.get("daticulocale")
    if provider == "i":
        words.append(f"LOCALE_PROVIDER icu ICU_LOCALE {literal(locale or '')}")
        if like.get("daticurules"):
            words.append(f"ICU_RULES {literal(like['daticurules'])}")
    elif provider == "b":
        words.append(f"LOCALE_PROVIDER builtin BUILTIN_LOCALE {literal(locale or '')}")
    if like["datconnlimit"] != -1:
        words.append(f"CONNECTION LIMIT {like['datconnlimit']}")
    made = [f"{' '.join(words)};"]
    if like["acl"] is not None:
        made.append(f"REVOKE ALL ON DATABASE {identifier(name)} FROM PUBLIC;")
        for privilege, role, grantable in like["acl"]:
            to = "PUBLIC" if role is None else identifier(role)
            option = " WITH GRANT OPTION" if grantable else ""
            made.append(f"GRANT {privilege} ON DATABASE {identifier(name)} TO {to}{option};")
    return made


def setting(name: str, role: str | None, settings: Sequence[str]) -> list[str]:
    """Return the statements that give a database, or a role in it, its settings (`name=value` each)."""
    where = f"ROLE {identifier(role)} IN DATABASE" if role is not None else "DATABASE"
    made = []
    for text in settings:
        key, _, value = text.partition("=")
        written = value if key.lower() in _LISTS else literal(value)
        made.append(f"ALTER {where} {identifier(name)} SET {_dotted(key)} TO {written or literal('')};")
    return made


def _dotted(key: str) -> str:
    """Return a setting's name: `app.jwt` is two words to SQL."""
    return ".".join(identifier(part) for part in key.split("."))


def missing_roles(dumped: str, there: Sequence[str]) -> list[str]:
    """Given what pg_dumpall wrote of roles, return the statements for those that are not there.

    Roles that are there keep today's passwords. Memberships are granted for the new ones alone.
    """
    roles = {
        _name(match[1]) for line in dumped.split("\n") if (match := re.match(r"CREATE ROLE (.+);$", line))
    }
    new = roles - set(there)
    kept = []
    for line in dumped.split("\n"):
        about = re.match(r'(?:CREATE|ALTER) ROLE ("(?:[^"]|"")*"|[^ ;]+)', line)
        granted = re.match(r'GRANT ("(?:[^"]|"")*"|[^ ]+) TO ("(?:[^"]|"")*"|[^ ;]+)', line)
        if (about and _name(about[1]) in new) or (granted and _name(granted[2]) in new):
            kept.append(re.sub(r" GRANTED BY .*;$", ";", line) if granted else line)
    return kept


def renamings(
    live: Mapping[str, str], away: Mapping[str, str], back: Mapping[str, str], *, must: bool
) -> list[str]:
    """Return the statements that give the databases `back` the names of the live ones, and those the names `away`.

    Nobody may connect meanwhile. The renaming is one transaction: a failure leaves every name as it was, and lets
    everybody in again. Where a database of `back` is not there, nothing is done with any of them, and it is a failure if it `must`.
    """
    wanted = ", ".join(literal(name) for name in back.values())
    failure = [
        *(f"ALTER DATABASE {identifier(name)} ALLOW_CONNECTIONS true;" for name in live.values()),
        "\\set ON_ERROR_STOP on",
    ]
    # From here on nothing may end psql with the databases shut: each way out lets everybody in again.
    lines = ["\\set ON_ERROR_STOP off"]
    lines += [
        f"SELECT count(*) = {len(back)} AS there FROM pg_database WHERE datname IN ({wanted}) \\gset",
        "\\if :there",
    ]
    for number, (key, name) in enumerate(live.items()):
        lines += [
            f"SELECT EXISTS (SELECT FROM pg_database WHERE datname = {literal(name)}) AS live{number} \\gset",
            f"\\if :live{number}",
            f"ALTER DATABASE {identifier(name)} ALLOW_CONNECTIONS false;",
            "\\else",  # what is not there is an empty one, or the way back could not be told from one already gone
            # Not of template1, where somebody may be: then there is none made.
            f"CREATE DATABASE {identifier(away[key])} TEMPLATE template0 ALLOW_CONNECTIONS false;",
            "\\endif",
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = {literal(name)} \\g /dev/null",
        ]
    lines.append("BEGIN;")
    for number, (key, name) in enumerate(live.items()):
        lines += [
            f"\\if :live{number}",
            f"ALTER DATABASE {identifier(name)} RENAME TO {identifier(away[key])};",
            "\\endif",
            f"ALTER DATABASE {identifier(back[key])} RENAME TO {identifier(name)};",
            f"ALTER DATABASE {identifier(name)} ALLOW_CONNECTIONS true;",
        ]
    lines += [
        "COMMIT;",
        f"SELECT count(*) > 0 AS failed FROM pg_database WHERE datname IN ({wanted}) \\gset",
        "\\if :failed",
        *(
            line
            for number, key in enumerate(live)
            for line in (
                f"\\if :live{number}",
                "\\else",
                f"DROP DATABASE IF EXISTS {identifier(away[key])};",
                "\\endif",
            )
        ),
        *failure,
        _raise("the databases keep their names"),
        "\\endif",
        "\\else",
        *failure,
        *((_raise("there is nothing to swap with"),) if must else ()),
        "\\endif",
    ]
    return lines


def _raise(text: str) -> str:
    return f"DO $$ BEGIN RAISE EXCEPTION {literal(text)}; END $$;"


def _name(written: str) -> str:
    """Return the name that an identifier stands for."""
    return written[1:-1].replace('""', '"') if written.startswith('"') else written

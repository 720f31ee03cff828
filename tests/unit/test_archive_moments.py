"""Which backups of which chain bring a moment back, and what is made of them."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.archive.catalog import Entry, linked
from ops.archive.chains import chains
from ops.archive.manifest import Manifest, Part, Saved
from ops.archive.moments import as_of, at_moment, parsed_moment, ranges, written
from ops.errors import UsageError
from ops.storage.base import Item, Stored

pytestmark = [pytest.mark.parity("B2"), pytest.mark.parity("B12")]

START = datetime(2026, 11, 22, tzinfo=UTC)


def at(minute):
    return START + timedelta(minutes=minute)


def part(name, backup):
    return Part(name, (Stored(f"{backup}/{name}", 1, "aa"),), 1, "aa", "none")


def postgres(backup, minute, *, full):
    names = ("/base", "/wal", "", "shop") if full else ("/wal",)
    counts = {"/wal": {"segments": 2}, **({"shop": {"t": 9}} if full else {})}
    progress = {"until": written(at(minute)), "end": f"0/{minute}", "bytes": 20}
    if full:
        progress |= {"parts": ["/base", "/wal"], "size": 100}
    parts = tuple(part(name, backup) for name in names)
    return Saved("postgres", "db1", {"postgres": "17.2"}, parts, counts, {"increments": progress})


def files(backup, *, increments=True):
    details = {"increments": {"state": backup}} if increments else {}
    return Saved("files", "web1", {}, (part("files", backup),), {"files": {"members": 3}}, details)


def chain(*minutes, stores=("db", "uploads", "cache")):
    """Return the manifests of a full backup and its increments, each finished at its minute; the log ends half a minute before."""
    made = []
    for number, minute in enumerate(minutes):
        name = f"b{minute:04}"
        full = number == 0
        saved = {
            "db": postgres(name, minute - 0.5, full=full),
            "uploads": files(name),
            "cache": files(name, increments=False),
        }
        made.append(
            Manifest(
                id=name,
                kind="full" if full else "incremental",
                chain=f"b{minutes[0]:04}",
                after="" if full else made[-1].id,
                stack="shop",
                environment="production",
                project="shop-production",
                started_at=written(at(minute - 1)),
                finished_at=written(at(minute)),
                tool="opsbook",
                datastores={key: saved[key] for key in stores},
            )
        )
    return tuple(made)


def names(found, store):
    return [part.name for part in found.datastores[store].parts]


OLD, NEW = chain(0, 60, 120), chain(180, 240)


def test_a_log_comes_whole_up_to_the_moment_and_files_as_of_the_last_backup_before_it():
    found = at_moment((OLD, NEW), at(90))
    assert names(found, "db") == ["/base", "/wal", "/wal@b0060", "/wal@b0120"]
    assert names(found, "uploads") == ["files", "files@b0060"]
    assert [stored.key for part in found.datastores["cache"].parts for stored in part.objects] == [
        "b0060/files"
    ]
    details = found.datastores["db"].details
    assert (details["moment"], details["bytes"]) == ("2026-11-22T01:30:00Z", 160)
    assert found.datastores["db"].counts == {
        key: {"segments": 2} for key in ("/wal", "/wal@b0060", "/wal@b0120")
    }
    assert found.datastores["uploads"].details["as_of"] == "2026-11-22T01:00:00Z"
    assert "moment" not in found.datastores["uploads"].details


def test_the_newest_chain_before_the_moment_is_taken():
    assert at_moment((OLD, NEW), at(200)).chain == "b0180"
    assert at_moment((OLD, NEW), at(119)).chain == "b0000"


@pytest.mark.parametrize("minute", [-5, 150, 240, 1000])
def test_a_moment_that_no_backup_reaches_is_refused_with_those_that_are_possible(minute):
    with pytest.raises(UsageError) as failure:
        at_moment((OLD, NEW), at(minute))
    said = str(failure.value)
    assert "2026-11-22T00:00:00Z to 2026-11-22T01:59:30Z" in said
    assert "2026-11-22T03:00:00Z to 2026-11-22T03:59:30Z" in said


def test_what_is_chosen_alone_decides_what_is_possible():
    found = at_moment((OLD, NEW), at(1000), ("uploads",))
    assert names(found, "uploads") == ["files", "files@b0240"]
    assert list(found.datastores) == ["uploads"]


def test_backups_of_some_datastores_begin_nothing():
    partial = tuple(replace(manifest, partial=True) for manifest in NEW)
    with pytest.raises(UsageError):
        at_moment((OLD, partial), at(200))


def test_a_full_backup_by_its_id_is_its_dumps():
    found = as_of(OLD, "b0000")
    assert names(found, "db") == ["", "shop"]
    assert found.datastores["db"].counts == {"shop": {"t": 9}}
    assert "moment" not in found.datastores["db"].details


def test_an_increment_by_its_id_is_the_state_at_its_end():
    found = as_of(OLD, "b0060")
    assert found.id == "b0060"
    assert names(found, "db") == ["/base", "/wal", "/wal@b0060"]
    assert found.datastores["db"].details["moment"] == "2026-11-22T00:59:30Z"
    assert names(found, "uploads") == ["files", "files@b0060"]
    assert names(found, "cache") == ["files"]


def test_one_that_was_taken_whole_within_a_chain_begins_its_parts_anew():
    turned = (OLD[0], replace(OLD[1], datastores={"uploads": files("b0060", increments=False)}))
    assert names(as_of(turned, "b0060"), "uploads") == ["files"]


minutes = st.lists(st.integers(0, 2000), min_size=1, max_size=12, unique=True).map(sorted)


@given(minutes, st.integers(0, 12), st.integers(-60, 2200))
def test_what_is_chosen_covers_the_moment_and_nothing_is_missing_between(times, cut, minute):
    """Or it lies in none of the ranges that are told."""
    found = [chain(*group) for group in (times[:cut], times[cut:]) if group]
    moment = at(minute)
    inside = [one for one in ranges(found) if one.start <= moment and one.end and moment <= one.end]
    try:
        chosen = at_moment(found, moment)
    except UsageError:
        assert not inside
        return
    assert inside
    members = next(group for group in found if group[0].id == chosen.chain)
    parts = names(chosen, "db")
    reached = members[len(parts) - 2]
    assert parts == ["/base", "/wal", *(f"/wal@{m.id}" for m in members[1 : len(parts) - 1])]
    assert datetime.fromisoformat(reached.datastores["db"].details["increments"]["until"]) >= moment
    assert datetime.fromisoformat(chosen.datastores["uploads"].details["as_of"]) <= moment


class TestWritten:
    """A moment is one only with its zone."""

    @pytest.mark.parametrize(
        "text", ["2026-11-22T14:03:00Z", "2026-11-22 15:03:00+01:00", "2026-11-22T14:03:00.000000+00:00"]
    )
    def test_it_is_understood(self, text):
        assert parsed_moment(text) == datetime(2026, 11, 22, 14, 3, tzinfo=UTC)

    @pytest.mark.parametrize(
        "text",
        ["2026-11-22", "yesterday", "", "14:03", "2026-13-01T00:00:00Z", "9999-12-31T23:59:59-23:00"],
    )
    def test_what_is_none_is_refused(self, text):
        with pytest.raises(UsageError, match="is no time"):
            parsed_moment(text)

    def test_one_without_a_zone_is_refused(self):
        with pytest.raises(UsageError, match="which zone"):
            parsed_moment("2026-11-22T14:03:00")


def test_a_chain_ends_before_its_first_bad_backup():
    entries = [Entry(f"p/{m.id}/", m, None, ()) for m in OLD]
    entries[1] = replace(entries[1], damage="flipped")
    fitted = [replace(entry, items=_items(entry.manifest)) for entry in entries]
    (found,) = chains(linked(fitted))
    assert [manifest.id for manifest in found] == ["b0000"]


def _items(manifest):
    return tuple(
        Item(stored.key, stored.size)
        for saved in manifest.datastores.values()
        for one in saved.parts
        for stored in one.objects
    )

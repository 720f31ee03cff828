"""Which backups stay: the rules one by one, and what holds for any list, rules and clock."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.backup.retention import Chain, plan_retention
from ops.config.backups import Keep

pytestmark = pytest.mark.parity("B8")

NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)  # a Wednesday
EVER = Keep(min=1)


def chain(days=0.0, *, good=True, name=None):
    at = NOW - timedelta(days=days)
    return Chain(name or f"{at:%Y%m%dT%H%M%S}", at, good)


DAILY = [chain(days) for days in range(800)]


def kept(rules, chains=DAILY, now=NOW):
    found = plan_retention(chains, rules, now).keep
    return [round((NOW - one.finished).total_seconds() / 86400, 3) for one in chains if one.id in found]


def test_without_a_rule_everything_stays():
    assert len(kept(EVER)) == 800


@pytest.mark.parametrize(
    ("rules", "days"),
    [
        ({"count": 3}, [0, 1, 2]),
        ({"days": 3}, [0, 1, 2]),
        ({"weeks": 3}, [0, 3, 10]),
        ({"months": 3}, [0, 4, 32]),
        ({"years": 2}, [0, 63]),
        ({"count": 1, "months": 2}, [0, 4]),
    ],
)
def test_each_rule_keeps_the_newest_of_its_periods(rules, days):
    assert kept(Keep(min=1, **rules)) == days


def test_of_several_a_day_the_newest_stays():
    chains = [chain(0.1), chain(0.2), chain(1.1), chain(1.2)]
    assert kept(Keep(days=2, min=1), chains) == [0.1, 1.1]


def test_a_period_without_a_backup_is_not_counted():
    assert kept(Keep(days=2, min=1), [chain(0), chain(40), chain(41)]) == [0, 40]


def test_never_fewer_than_the_least():
    assert kept(Keep(count=1, min=3)) == [0, 1, 2]


def test_a_damaged_one_stays_and_is_not_counted():
    chains = [chain(0, good=False), chain(1), chain(2, good=False), chain(3)]
    found = plan_retention(chains, Keep(count=1, min=1), NOW)
    assert found.delete == (chains[3].id,)
    assert found.keep[chains[0].id] == ("damaged: look at it",)


def test_one_from_the_future_does_not_push_out_what_came_after_it():
    future = chain(-4000)
    found = plan_retention([future, chain(0), chain(1)], Keep(count=1, min=1), NOW)
    assert found.keep[future.id] == ("from the future",)
    assert chain(0).id in found.keep


RULES = st.builds(
    Keep,
    count=st.integers(0, 5),
    days=st.integers(0, 5),
    weeks=st.integers(0, 5),
    months=st.integers(0, 5),
    years=st.integers(0, 5),
    min=st.integers(1, 5),
)
CHAINS = st.lists(
    st.tuples(st.floats(-30, 900), st.booleans()), max_size=40, unique_by=lambda pair: pair[0]
).map(lambda pairs: [chain(days, good=good, name=str(at)) for at, (days, good) in enumerate(pairs)])


@given(CHAINS, RULES, st.floats(-30, 900))
def test_what_holds_for_any_list_rules_and_clock(chains, rules, shift):
    now = NOW - timedelta(days=shift)
    found = plan_retention(chains, rules, now)
    assert found == plan_retention(
        list(reversed(chains)), rules, now
    )  # the order of the list does not matter
    assert {*found.keep} | {*found.delete} == {one.id for one in chains}
    assert not {*found.keep} & {*found.delete}
    good = [one for one in chains if one.good]
    assert len([one for one in good if one.id in found.keep]) >= min(rules.min, len(good))
    gone = {one.id: one for one in chains if one.id in found.delete}
    assert all(one.good and one.finished <= now for one in gone.values())
    # What is left needs no second run.
    rest = [one for one in chains if one.id not in gone]
    assert plan_retention(rest, rules, now).delete == ()


@given(CHAINS, RULES, st.floats(0, 900))
def test_a_clock_that_goes_back_deletes_nothing_more(chains, rules, back):
    rest = [one for one in chains if one.id in plan_retention(chains, rules, NOW).keep]
    earlier = plan_retention(rest, rules, NOW - timedelta(days=back))
    good = [one for one in rest if one.good]
    assert len([one for one in good if one.id in earlier.keep]) >= min(rules.min, len(good))

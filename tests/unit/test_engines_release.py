"""The record of a release, and the hashes that its containers bear."""

from dataclasses import replace

import pytest
from examples import PROXY, release, spec
from hypothesis import given
from hypothesis import strategies as st

from ops.engines.release import Release, config_hash, config_variable
from ops.errors import ConfigError

API = spec(
    "api",
    config=config_hash("base", ("TOKEN",), {"TOKEN": "one"}),
    secrets=("TOKEN",),
    replicas=3,
    depends_on=("db",),
)
RELEASE = release(
    API,
    revision="abc",
    proxy=PROXY,
    proxy_folders={"nginx/upstreams": "ff"},
    proxy_files={"nginx/upstreams/a.conf": "ee"},
    files=("ff",),
    migrated=True,
    previous="20251231T000000Z-0-ab12",
    scale={"api": 5},
)


@pytest.mark.parametrize(
    "written", [RELEASE, replace(RELEASE, proxy=None, previous=None, revision=None, scale={})]
)
def test_a_release_reads_back_as_it_was_written(written):
    assert Release.from_json(written.to_json()) == written


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"services": {}}', RELEASE.to_json().replace('"port"', '"tor"')]
)
def test_a_record_that_cannot_be_read_is_told(text):
    with pytest.raises(ConfigError, match=r"release\.json on the server cannot be read"):
        Release.from_json(text)


def test_scaling_wins_over_the_release_where_it_was_asked_for():
    assert RELEASE.scaled().services["api"].replicas == 5
    assert replace(RELEASE, scale={}).scaled().services["api"].replicas == 3


def test_todays_secret_values_give_todays_hashes():
    assert RELEASE.with_secrets({"TOKEN": "one"}) == RELEASE
    assert RELEASE.with_secrets({"TOKEN": "two"}).services["api"].config != API.config


def test_a_hash_takes_part_only_of_the_secrets_that_are_named():
    assert config_hash("base", ("A",), {"A": "1", "B": "2"}) == config_hash(
        "base", ("A",), {"A": "1", "B": "3"}
    )


def test_a_hash_does_not_depend_on_the_order_of_the_secrets():
    values = {"A": "1", "B": "2"}
    assert config_hash("base", ("A", "B"), values) == config_hash("base", ("B", "A"), values)


@given(
    st.lists(
        st.from_regex(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,8}", fullmatch=True), min_size=2, max_size=2, unique=True
    )
)
def test_two_services_never_share_a_variable(names):
    one, two = map(config_variable, names)
    assert one != two
    assert one.replace("_", "").isalnum()

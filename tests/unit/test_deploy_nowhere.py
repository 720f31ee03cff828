"""A server whose `current` is missing although its containers run: a failure does not take production down."""

import shutil

import pytest
from standin.server import Killed, Session

from ops.errors import ConfigError, NeedsPerson, RolledBack


@pytest.fixture
def crashing(single):
    """One server with version 1; version 2 crashes."""
    single.registry.images["shop/web:2"].behaviour.crash = 3
    return single


def moved_base(shop):
    root = shop.path("web1", "", "staging")
    root.rename(root.with_name("under-the-old-base"))


def removed_folder(shop):
    shutil.rmtree(shop.path("web1", "", "staging"))


def removed_link(shop):
    shop.path("web1", "current", "staging").unlink()


@pytest.fixture(params=[moved_base, removed_folder, removed_link])
def lost(request, crashing):
    request.param(crashing)
    return crashing


@pytest.fixture
def unseen(monkeypatch):
    """It happens behind the check, where no check can see it."""
    monkeypatch.setattr("ops.deploy.neighbours.strangers", lambda facts: ())


def died(shop, version):
    session = Session()
    session.on("^current ->", session.kill)
    with pytest.raises(Killed):
        shop.deploy(version, environment="staging", session=session)
    shop.web1.age_lock("shop", "staging", 100)


def test_a_deploy_is_refused_and_names_where_the_containers_come_from(lost):
    before = lost.web1.docker.shown()
    with pytest.raises(
        ConfigError, match=r"containers of this environment come from /.*/releases/"
    ) as failure:
        lost.deploy("3", environment="staging")
    assert "`base` of ops.toml" in failure.value.next_step
    assert lost.web1.docker.shown() == before


@pytest.mark.usefixtures("unseen")
def test_a_deploy_that_fails_leaves_the_containers_from_before(lost):
    with pytest.raises(NeedsPerson, match="no release that served is known here") as failure:
        lost.deploy("2", environment="staging")
    assert "was `base` changed" in failure.value.next_step
    running = [line for line in lost.web1.docker.shown() if line.endswith("running")]
    assert {line.split("-")[0] for line in running} == {"nginx", "postgres", "web"}


@pytest.mark.usefixtures("unseen")
def test_a_rollback_behind_a_deploy_that_died_leaves_them_too(lost):
    died(lost, "3")
    before = [c.id for c in lost.web1.docker.of("postgres")]
    with pytest.raises(NeedsPerson):
        lost.rollback(environment="staging")
    assert [c.id for c in lost.web1.docker.of("postgres")] == before


def test_a_first_deploy_that_died_and_fails_again_leaves_nothing_but_volumes(shop):
    died(shop, "1")
    shop.registry.images["shop/web:2"].behaviour.crash = 3
    with pytest.raises(RolledBack):
        shop.deploy("2", environment="staging", resume=True)
    assert shop.web1.docker.shown() == []
    assert shop.web1.docker.volumes


def test_a_first_deploy_that_died_can_be_rolled_back_to_nothing(shop):
    died(shop, "1")
    shop.rollback(environment="staging")
    assert shop.web1.docker.shown() == []

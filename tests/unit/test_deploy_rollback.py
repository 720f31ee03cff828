"""Rollback: every server back to an earlier release of its own, with today's secrets."""

from itertools import groupby

import pytest
from standin.server import Killed, Session
from standin.stack import Listener, Shop

from ops.deploy.resuming import unfinished_version
from ops.deploy.rollback_plan import RollbackOptions, rollback_plan
from ops.deploy.status import status
from ops.deploy.unlocking import unlock
from ops.errors import (
    ConfigError,
    Interrupted,
    Locked,
    NeedsPerson,
    OpsError,
    RolledBack,
    UsageError,
)
from ops.runs.interruption import Interruption
from ops.runs.phases import Phase
from ops.stack.changing import bring_up, scale

MIGRATE = '[migrate]\nservice = "web"\ncommand = ["manage", "migrate"]\n\n[services.nginx]'


def looked(shop, environment="staging"):
    return status(shop.settings(environment), shop.hosts(Session(), Interruption(), environment), "web1")


def images(shop, server="web1"):
    return {c.image.tag for c in shop.servers[server].docker.of("web")}


def password(shop, service):
    return {c.definition["environment"].get("DB_PASSWORD") for c in shop.web1.docker.of(service)}


@pytest.fixture(scope="module")
def _twice(_single, tmp_path_factory):
    shop = _single.copy_to(tmp_path_factory.mktemp("twice"))
    shop.first = shop.current("web1", "staging")
    shop.deploy("2", environment="staging")
    shop.second = shop.current("web1", "staging")
    yield shop
    shop.close()


@pytest.fixture
def shop(_twice, tmp_path):
    """One server with version 2, and version 1 before it."""
    made = _twice.copy_to(tmp_path)
    made.first, made.second = _twice.first, _twice.second
    yield made
    made.close()


@pytest.fixture(scope="module")
def _two(tmp_path_factory):
    shop = Shop(tmp_path_factory.mktemp("two"))
    first, second = '"10.9.0.1"\nroles = ["web", "db"]', '"10.9.0.2"\nroles = ["web"]'
    shop.edit("ops.toml", first, first.replace(', "db"', ""))
    shop.edit("ops.toml", second, second.replace("]", ', "db"]'))
    shop.deploy("1")
    shop.deploy("2")
    yield shop
    shop.close()


@pytest.fixture
def shop_of_two(_two, tmp_path):
    """Two servers with version 2, and version 1 before it; the database is on the second."""
    made = _two.copy_to(tmp_path)
    made.write("ops.toml", (_two.folder / "ops.toml").read_text())
    yield made
    made.close()


def back(shop, **options):
    return shop.rollback(environment="staging", **options)


def refused(shop, **options):
    with pytest.raises(OpsError) as refusal:
        back(shop, **options)
    return refusal.value


def test_it_goes_to_the_release_before_and_nobody_waits(shop):
    outcome = back(shop)
    assert shop.current("web1", "staging") == shop.first == outcome.release
    assert images(shop) == {"1"}
    assert (shop.web1.docker.harm, shop.web1.docker.least) == ([], {"web": 2})
    assert shop.journal("staging")[-1] == ("deploy.rollback", "done")
    assert (outcome.action, outcome.version) == ("deploy.rollback", "1")


def test_every_server_goes_to_a_release_of_its_own(pair):
    first = pair.current("web1")
    pair.deploy("2")
    pair.rollback()
    assert pair.current("web1") == pair.current("web2") == first
    assert images(pair, "web1") == images(pair, "web2") == {"1"}


@pytest.mark.parametrize("batch", ["1", '"100%"'])
def test_it_goes_by_batches_and_dependencies_as_a_deploy_does(shop_of_two, batch):
    shop_of_two.edit("ops.toml", "keep_releases = 3", f"keep_releases = 3\nbatch = {batch}")
    listener = Listener()
    shop_of_two.rollback(listener=listener)
    assert [host for host, _ in groupby(host for host, _ in listener.steps)] == ["web2", "web1"]


def test_where_one_batch_fails_the_next_is_not_touched(shop_of_two):
    shop_of_two.registry.images["shop/web:1"].behaviour.crash = 3
    before = [c.id for c in shop_of_two.web1.docker.containers]
    with pytest.raises(RolledBack) as failure:
        shop_of_two.rollback()
    assert set(failure.value.outcome.targets) == {"web2"}
    assert [c.id for c in shop_of_two.web1.docker.containers] == before


def test_servers_that_had_different_releases_go_each_to_its_own(pair):
    pair.deploy("2", servers=("web2",))
    own = {name: pair.current(name) for name in pair.servers}
    pair.deploy("3")
    outcome = pair.rollback()
    assert {name: pair.current(name) for name in pair.servers} == own
    assert {name: target.release for name, target in outcome.targets.items()} == own
    assert [images(pair, name) for name in pair.servers] == [{"1"}, {"2"}]


def test_a_release_can_be_named(shop):
    shop.deploy("3", environment="staging")
    back(shop, to=shop.first)
    assert shop.current("web1", "staging") == shop.first


def test_a_release_that_is_not_kept_is_refused_with_those_that_are(shop):
    error = refused(shop, to="20200101T000000Z-0-aaaa")
    assert isinstance(error, UsageError)
    assert shop.first in str(error)
    assert shop.current("web1", "staging") == shop.second


def test_a_first_release_has_nothing_to_go_back_to(single):
    error = refused(single)
    assert isinstance(error, UsageError)
    assert "no earlier release" in str(error)


def test_to_what_serves_already_is_nothing_to_do(shop):
    ids = [c.id for c in shop.web1.docker.containers]
    back(shop, to=shop.second)
    assert [c.id for c in shop.web1.docker.containers] == ids
    assert shop.journal("staging")[-1] == ("deploy.rollback", "unchanged")


def test_it_uses_the_old_releases_own_configuration_of_the_proxy(shop):
    shop.write("nginx/conf.d/site.conf", "server { listen 80; gzip on; }\n")
    shop.deploy("2", environment="staging")
    back(shop)
    (proxy,) = shop.web1.docker.of("nginx")
    assert not any("gzip" in text for text in proxy.nginx.texts.values())


def test_an_image_that_somebody_removed_is_pulled_again(shop):
    docker = shop.web1.docker
    gone = shop.registry.images["shop/web:1"]
    docker.images.pop(gone.id)
    docker.tags = {tag: identity for tag, identity in docker.tags.items() if identity != gone.id}
    back(shop)
    assert images(shop) == {"1"}


class TestNewServer:
    """A server that has nothing to go back to does not hold the others up."""

    @pytest.fixture
    def grown(self, shop_of_two):
        shop_of_two.first = sorted(shop_of_two.releases("web2"))[0]
        release = shop_of_two.path("web1", f"releases/{shop_of_two.first}")
        release.rename(release.with_name("away"))
        current = shop_of_two.path("web1", "current/release.json")
        current.write_text(current.read_text().replace(f'"{shop_of_two.first}"', "null"))
        return shop_of_two

    def refused(self, shop, **options):
        with pytest.raises(UsageError) as refusal:
            shop.rollback(**options)
        return refusal.value

    def test_the_way_on_for_the_others_is_named_and_leads_there(self, grown):
        error = self.refused(grown)
        assert str(error) == "web1: there is no earlier release to go back to"
        where = grown.settings().options
        assert error.next_step.startswith(f"inv deploy.rollback {where} --servers web2 ")
        grown.rollback(servers=("web2",))
        assert grown.current("web2") == grown.first

    def test_so_it_is_for_a_release_that_one_server_does_not_keep(self, grown):
        error = self.refused(grown, to=grown.first)
        assert f"--servers web2 --to {grown.first} " in error.next_step

    def test_where_none_can_go_back_there_is_no_such_way(self, single):
        assert refused(single).next_step.startswith("inv deploy.history")


class TestConfirmed:
    """What runs is what somebody agreed to."""

    def planned(self, shop):
        hosts = shop.hosts(Session(), Interruption(), "staging")
        return rollback_plan(shop.settings("staging"), hosts, RollbackOptions())

    def test_the_plan_that_was_confirmed_is_carried_out(self, shop):
        back(shop, confirmed=self.planned(shop))
        assert shop.current("web1", "staging") == shop.first

    def test_a_colleagues_deploy_since_then_is_not_rolled_back(self, shop):
        plan = self.planned(shop)
        third = shop.deploy("3", environment="staging").release
        error = refused(shop, confirmed=plan, wait=5.0)
        assert isinstance(error, Locked)
        assert "another run was at work" in str(error)
        assert shop.current("web1", "staging") == third
        assert not shop.locked("staging")

    def test_nor_is_one_that_ends_while_the_lock_is_waited_for(self, shop):
        plan, session = self.planned(shop), Session()
        ended = []
        session.on(
            "^take the lock", lambda: ended or ended.append(shop.deploy("3", environment="staging").release)
        )
        error = refused(shop, confirmed=plan, wait=5.0, session=session)
        assert isinstance(error, Locked)
        assert [shop.current("web1", "staging")] == ended
        assert not shop.locked("staging")


class TestTakeOver:
    """Who takes a dead run's lock over brings all of its servers to a release."""

    @pytest.fixture
    def died(self, pair):
        pair.first = pair.current("web1")
        session = Session()
        session.on("^current ->", session.kill)
        with pytest.raises(Killed):
            pair.deploy("2", session=session)
        pair.web1.age_lock("shop", "production", 100)
        return pair

    @pytest.mark.parametrize(
        ("verb", "again"),
        [
            ("deploy.rollback", lambda shop: shop.rollback(servers=("web2",))),
            ("deploy --resume", lambda shop: shop.deploy("2", resume=True, servers=("web2",))),
        ],
    )
    def test_servers_of_the_dead_run_cannot_be_left_out(self, died, verb, again):
        with pytest.raises(UsageError, match="--servers leaves out web1") as refusal:
            again(died)
        assert refusal.value.next_step == f"inv {verb} {died.settings().options}"
        assert died.locked()
        died.rollback()
        assert died.current("web1") == died.current("web2") == died.first
        assert not died.locked()

    def test_a_run_that_lives_is_told_as_such(self, died):
        died.web1.age_lock("shop", "production", 1)
        with pytest.raises(Locked):
            died.rollback(servers=("web2",))


class TestSecrets:
    """A retired password does not come back."""

    @pytest.fixture
    def changed(self, shop):
        shop.edit(".env", "correct horse", "battery staple")
        shop.deploy("2", environment="staging")
        return shop

    def test_the_old_release_runs_with_todays_value(self, changed):
        back(changed, to=changed.first)
        assert password(changed, "web") == {"battery staple"}
        assert "correct horse" not in changed.path("web1", "current/.env", "staging").read_text()

    def test_what_did_not_change_otherwise_is_not_recreated(self, changed):
        before = [c.id for c in changed.web1.docker.of("postgres")]
        back(changed, to=changed.first)
        assert [c.id for c in changed.web1.docker.of("postgres")] == before

    def test_after_it_the_status_is_well_and_up_has_nothing_to_do(self, changed):
        back(changed, to=changed.first)
        assert looked(changed).agree
        outcome = changed.change(bring_up, environment="staging")
        assert outcome.targets["web1"].result == "unchanged"

    def test_a_failed_deploy_behind_it_comes_back_to_it_whole(self, changed):
        back(changed, to=changed.first)
        changed.registry.images["shop/web:3"].behaviour.crash = 3
        with pytest.raises(RolledBack):
            changed.deploy("3", environment="staging")
        assert looked(changed).agree
        assert password(changed, "web") == {"battery staple"}

    def test_its_own_values_come_back_where_that_is_asked_for(self, changed):
        back(changed, to=changed.first, release_secrets=True)
        assert password(changed, "web") == {"correct horse"}
        assert looked(changed).agree

    def test_its_own_values_come_back_even_after_todays_were_used(self, changed):
        back(changed, to=changed.first)
        back(changed, to=changed.second)
        back(changed, to=changed.first, release_secrets=True)
        assert password(changed, "web") == {"correct horse"}
        assert looked(changed).agree

    def test_a_copy_of_them_that_a_full_disk_cut_off_is_not_taken_for_whole(self, changed):
        cut = changed.web1.docker.pipe.bin / "cp"
        cut.write_text('#!/bin/sh\nfor last; do :; done\nhead -c 9 "$2" > "$last"\n[ "${2#.env}" = "$2" ]\n')
        cut.chmod(0o755)
        assert refused(changed, to=changed.first).exit_code == 1
        cut.unlink()
        back(changed, to=changed.first)
        back(changed, to=changed.second)
        back(changed, to=changed.first, release_secrets=True)
        assert password(changed, "web") == {"correct horse"}

    def test_a_secret_that_the_old_release_needs_must_have_a_value(self, changed):
        changed.edit("ops.toml", 'required = ["DB_PASSWORD"]', 'required = ["OTHER"]')
        changed.write(".env", 'OTHER="another one"\n')
        error = refused(changed, to=changed.first)
        assert isinstance(error, ConfigError)
        assert "DB_PASSWORD" in str(error)
        assert not changed.locked("staging")


class TestFailure:
    """A rollback that fails returns to what served."""

    def test_a_container_that_crashes_brings_the_later_release_back(self, shop):
        shop.registry.images["shop/web:1"].behaviour.crash = 3
        error = refused(shop)
        assert isinstance(error, RolledBack)
        assert shop.current("web1", "staging") == shop.second
        assert images(shop) == {"2"}
        assert looked(shop).agree

    @pytest.mark.parametrize("phase", [Phase.LOCK, Phase.UPLOAD, Phase.SWITCH, Phase.SMOKE, Phase.COMMIT])
    def test_an_interrupt_brings_the_later_release_back(self, shop, phase):
        import os
        import signal

        error = refused(shop, listener=Listener({phase: lambda: os.kill(os.getpid(), signal.SIGINT)}))
        assert isinstance(error, Interrupted)
        assert shop.current("web1", "staging") == shop.second
        assert images(shop) == {"2"}
        assert not shop.locked("staging")


class TestPlan:
    """Where it would go."""

    def planned(self, shop, **options):
        hosts = shop.hosts(Session(), Interruption(), "staging")
        return rollback_plan(shop.settings("staging"), hosts, RollbackOptions(**options))

    def test_it_names_target_and_what_serves(self, shop):
        found = self.planned(shop)
        assert (found.targets, found.serving) == ({"web1": shop.first}, {"web1": shop.second})
        assert found.migrated_since == ()

    def test_it_names_the_releases_since_that_migrated(self, shop):
        shop.edit("ops.toml", "[services.nginx]", MIGRATE)
        third = shop.deploy("3", environment="staging").release
        assert self.planned(shop, to=shop.first).migrated_since == (third,)


def test_a_scale_from_before_is_no_longer_asked_for(shop):
    shop.change(scale, "web", 3, environment="staging")
    shop.deploy("3", environment="staging")
    back(shop)
    assert looked(shop).agree


def vanishing(server, at="^docker compose up"):
    """A session that loses a server for good once it comes to a command there."""
    session = Session()
    session.on(at, lambda: session.lose(server), host=server)
    return session


class TestLost:
    """A rollback that lost a server, or died, is not finished by deploying the version that it flees."""

    @pytest.fixture
    def fled(self, pair):
        """Version 2 on both servers, and servers that may be lost."""
        pair.edit("ops.toml", "keep_releases = 3", 'keep_releases = 3\non_host_lost = "continue"')
        pair.first = pair.current("web1")
        pair.deploy("2")
        return pair

    def failed(self, shop, **options):
        with pytest.raises(NeedsPerson) as failure:
            shop.rollback(**options)
        return failure.value

    def resumed(self, shop):
        return unfinished_version(shop.settings(), shop.hosts(Session(), Interruption()), "web1")

    @pytest.mark.parametrize("moment", ["^docker compose up", "^docker stop"])
    def test_the_next_step_takes_the_lost_server_back_and_leaves_the_others(self, fled, moment):
        error = self.failed(fled, session=vanishing("web2", moment))
        assert fled.current("web1") == fled.first != fled.current("web2")
        kept = [c.id for c in fled.web1.docker.containers]
        where = fled.settings().options
        assert error.next_step == (
            f"when it is back: inv deploy.rollback {where} --servers web2 --to {fled.first}"
        )
        fled.rollback(servers=("web2",), to=fled.first)
        assert fled.current("web1") == fled.current("web2") == fled.first
        assert images(fled, "web2") == {"1"}
        assert [c.id for c in fled.web1.docker.containers] == kept

    def test_resume_is_refused_while_servers_differ(self, fled):
        self.failed(fled, session=vanishing("web2"))
        with pytest.raises(
            NeedsPerson, match="--resume would deploy the version that it goes back from"
        ) as no:
            self.resumed(fled)
        assert no.value.next_step.startswith("inv deploy.rollback")
        fled.rollback(servers=("web2",), to=fled.first)
        assert self.resumed(fled) == "1"

    def test_a_way_back_that_fails_names_the_rollback_first_and_it_finishes(self, fled):
        fled.edit("ops.toml", '"continue"', '"rollback"')
        error = self.failed(fled, session=vanishing("web2"))
        lines = error.next_step.splitlines()
        assert lines[2].startswith("inv deploy.rollback")
        assert lines[3].startswith("inv deploy ")
        assert "--version VERSION" in lines[3]
        with pytest.raises(NeedsPerson, match="left unfinished") as no:
            self.resumed(fled)
        assert no.value.next_step.startswith("inv deploy.rollback")
        fled.rollback()
        assert fled.current("web1") == fled.current("web2") == fled.first

    def test_resume_is_refused_over_one_that_died_even_where_its_lock_was_removed(self, fled):
        session = Session()
        session.on("^current ->", session.kill, host="web2")
        with pytest.raises(Killed):
            fled.rollback(session=session)
        with pytest.raises(Locked):
            self.resumed(fled)
        fled.web1.age_lock("shop", "production", 100)
        with pytest.raises(NeedsPerson, match="an earlier run died; no sign of life"):
            self.resumed(fled)
        unlock(fled.settings(), fled.hosts(Session(), Interruption())["web1"], force=False)
        assert fled.current("web1") != fled.current("web2")
        with pytest.raises(NeedsPerson, match="did not come to its end"):
            self.resumed(fled)

    def test_a_version_that_is_named_can_be_deployed_over_it(self, fled):
        fled.edit("ops.toml", '"continue"', '"rollback"')
        self.failed(fled, session=vanishing("web2"))
        fled.deploy("3", resume=True)
        assert images(fled, "web1") == images(fled, "web2") == {"3"}

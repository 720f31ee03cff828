"""What ops.toml asks of a deploy is done by it, or refused before anything is touched."""

from __future__ import annotations

import pytest
from standin.stack import Listener

from ops.config.servers import chosen_servers
from ops.errors import ConfigError, OpsError, UsageError
from ops.runs.phases import Phase


def add(shop, text):
    shop.edit("ops.toml", "[services.nginx]", f"{text}\n\n[services.nginx]")


def fails(shop, version="2"):
    with pytest.raises(OpsError) as failure:
        shop.deploy(version, environment="staging")
    return failure.value


class TestPhasesOfHooks:
    """A phase that a hook names is gone through, whatever else would make it."""

    @pytest.mark.parametrize("phase", list(Phase))
    @pytest.mark.parametrize("on", ["before", "after"])
    def test_a_hook_runs_at_each_phase(self, single, on, phase):
        add(single, f'[[hooks]]\non = "{on}"\nphase = "{phase}"\nrun = "echo $OPS_PHASE >> hooks"')
        listener = Listener()
        single.deploy("2", environment="staging", listener=listener)
        assert (single.folder / "hooks").read_text().split() == [phase]
        assert phase in listener.phases

    def test_one_that_fails_at_the_backup_keeps_the_release(self, single):
        add(single, '[[hooks]]\non = "before"\nphase = "backup"\nrun = "echo no room; exit 1"')
        serving = single.current("web1", "staging")
        error = fails(single)
        assert ("no room" in str(error), error.exit_code) == (True, 1)
        assert single.releases("web1", "staging") == [serving]

    def test_without_hook_backup_and_migration_neither_phase_is_there(self, single):
        add(single, '[[hooks]]\non = "failure"\nphase = "backup"\nrun = "true"')
        listener = Listener()
        single.deploy("2", environment="staging", listener=listener)
        assert not {Phase.BACKUP, Phase.MIGRATE} & set(listener.phases)


class TestWarningHooks:
    """on_error = "warn" """

    HOOK = '[[hooks]]\non = "after"\nphase = "switch"\nrun = "true"\non_error = "warn"\n'

    def test_a_value_that_is_not_there_stays_a_warning(self, single, monkeypatch):
        monkeypatch.delenv("ANNOUNCE_TOKEN", raising=False)
        add(single, self.HOOK + 'environment = { TOKEN = "env:ANNOUNCE_TOKEN" }')
        outcome = single.deploy("2", environment="staging")
        assert sum("ANNOUNCE_TOKEN" in warning for warning in outcome.warnings) == 2
        assert outcome.targets["web1"].result == "changed"

    def test_a_hook_that_cannot_be_started_stays_a_warning(self, single):
        add(single, self.HOOK.replace('"true"', '"a\\u0000b"'))
        (warning,) = single.deploy("2", environment="staging").warnings
        assert "cannot be started" in warning

    def test_one_that_may_fail_the_run_is_refused_before_it(self, single, monkeypatch):
        monkeypatch.delenv("ANNOUNCE_TOKEN", raising=False)
        hook = self.HOOK.replace('"warn"', '"fail"')
        add(single, hook + 'environment = { TOKEN = "env:ANNOUNCE_TOKEN" }')
        error = fails(single)
        assert (type(error), error.exit_code) == (ConfigError, 2)
        assert "env:ANNOUNCE_TOKEN" in str(error)


class TestSmoke:
    """Which servers are asked, and what is found before."""

    def test_a_server_without_roles_is_asked_by_every_check(self, single, monkeypatch):
        monkeypatch.setattr("ops.gates.smoke.TRIES", 1)
        single.edit("ops.toml", 'address = "web1.test"\nroles = ["web", "db"]', 'address = "web1.test"')
        add(single, '[[smoke]]\nroles = ["web"]\ncontains = "version 1"')
        assert "the body lacks 'version 1'" in str(fails(single))

    def test_a_ca_that_is_not_there_is_told_before_anything_is_touched(self, single):
        single.deploy("2", environment="staging")
        add(single, '[[smoke]]\nscheme = "https"\nca = "gone.pem"')
        for call in (lambda: fails(single, "3"), lambda: rolled_back(single)):
            error = call()
            assert (error.exit_code, "gone.pem" in str(error)) == (2, True)
        assert single.journal("staging")[-1] == ("deploy", "done")


def rolled_back(shop):
    with pytest.raises(OpsError) as failure:
        shop.rollback(environment="staging")
    return failure.value


def test_an_environment_without_servers_is_told(single):
    single.edit(
        "ops.toml",
        '[environments.staging.servers.web1]\naddress = "web1.test"\nroles = ["web", "db"]',
        "[environments.staging]",
    )
    with pytest.raises(UsageError, match="names no server for staging"):
        chosen_servers(single.settings("staging"), ())

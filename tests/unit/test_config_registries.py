"""Passwords of private registries."""

import sys

import pytest

from ops.commands import Secret
from ops.config import load, registry_password
from ops.errors import ConfigError, UsageError


@pytest.fixture
def settings(tmp_path, monkeypatch):
    def with_script(script: str):
        folder = tmp_path / "shop"
        folder.mkdir()
        (folder / "password.py").write_text(script)
        (folder / "ops.toml").write_text(
            f'[registries.hub]\nusername = "ci"\npassword_command = ["{sys.executable}", "password.py"]\n'
            '[registries.other]\nusername = "ci"\npassword = "env:HUB_PASSWORD"\n[environments.staging]\n'
        )
        return load("staging", start=folder)

    monkeypatch.delenv("OPS_STACK", raising=False)
    monkeypatch.delenv("HUB_PASSWORD", raising=False)
    return with_script


def test_a_password_command_runs_in_the_stack_folder_and_its_last_line_break_is_dropped(settings):
    assert registry_password(settings("print(' hunter22 ')"), "hub") == Secret(" hunter22 ")


def test_a_failed_password_command_is_told_with_its_stderr_and_without_the_password(settings):
    script = "import sys\nprint('hunter22')\nsys.exit('vault is sealed, not hunter22')"
    with pytest.raises(ConfigError, match=r"status 1: vault is sealed, not \*\*\*"):
        registry_password(settings(script), "hub")


def test_a_password_command_that_hangs_is_ended(settings):
    with pytest.raises(ConfigError, match="did not end within"):
        registry_password(settings("import time\ntime.sleep(30)"), "hub", timeout=0.3)


def test_a_password_command_that_prints_nothing_is_refused(settings):
    with pytest.raises(ConfigError, match="printed nothing"):
        registry_password(settings(""), "hub")


def test_a_password_is_taken_from_the_variable(settings, monkeypatch):
    monkeypatch.setenv("HUB_PASSWORD", "hunter22")
    assert registry_password(settings(""), "other") == Secret("hunter22")


def test_an_unknown_registry_lists_the_known_ones(settings):
    with pytest.raises(UsageError, match="known: hub, other"):
        registry_password(settings(""), "hbu")

"""What hooks are given by `env:NAME`: masked, and missed before a run begins."""

from __future__ import annotations

import pytest

from ops.commands import Secret
from ops.config import load, missing, resolve_version

HOOK = '[[hooks]]\non = "before"\nrun = "true"\nenvironment = { T = "env:TOKEN" }\n'
END = "[environments.staging.servers.web1]\n"


@pytest.fixture
def settings(tmp_path, monkeypatch):
    for name in ("OPS_STACK", "TOKEN"):
        monkeypatch.delenv(name, raising=False)

    def loaded(text: str, *, env: str = "", compose: str = "services: {api: {image: a}}\n"):
        (tmp_path / "compose.yaml").write_text(compose)
        (tmp_path / "ops.toml").write_text('stack = "shop"\n' + text + END)
        (tmp_path / ".env").write_text(env)
        (tmp_path / ".env").chmod(0o600)
        return load("staging", start=tmp_path)

    return loaded


def test_what_only_a_hook_is_given_is_masked(settings):
    found = settings(HOOK, env="TOKEN=hunter22\n")
    assert found.values["TOKEN"] == Secret("hunter22")
    assert found.redactor("sent hunter22") == "sent ***"


def test_what_others_use_too_stays_what_it_is_there(settings):
    compose = 'services: {api: {image: "a:${TOKEN}"}}\n'
    assert settings(HOOK, env="TOKEN=1.4.2\n", compose=compose).values["TOKEN"] == "1.4.2"
    found = settings('version = "env:TOKEN"\n' + HOOK, env="TOKEN=1.4.2\n")
    assert resolve_version(found, None).version == "1.4.2"


def test_what_a_hook_asks_for_and_nobody_gives_is_missing(settings):
    (error,) = missing(settings(HOOK))
    assert str(error).startswith("hooks[0] (before switch) asks for env:TOKEN, which has no value; looked in")
    assert "set TOKEN in" in str(error.next_step)


def test_a_hook_takes_an_empty_value(settings):
    assert missing(settings(HOOK, env="TOKEN=\n")) == []


@pytest.mark.parametrize("hook", [HOOK + 'on_error = "warn"\n', HOOK.replace("before", "failure")])
def test_for_a_hook_whose_failure_does_not_count_it_is_a_warning(settings, hook):
    found = settings(hook)
    assert missing(found) == []
    assert found.warnings == ("hooks[0] asks for env:TOKEN, which has no value: the hook will not run",)


def test_a_warning_hook_takes_no_demand_away(settings):
    registry = '[registries."r.example"]\nusername = "ci"\npassword = "env:TOKEN"\n'
    (error,) = missing(settings(HOOK + 'on_error = "warn"\n' + registry))
    assert str(error).startswith("secret TOKEN has no value")


def test_a_user_name_of_a_registry_without_value_is_missing(settings):
    registry = '[registries."r.example"]\nusername = "env:TOKEN"\npassword_command = ["true"]\n'
    (error,) = missing(settings(registry))
    assert str(error).startswith("registries.r.example.username asks for env:TOKEN, which has no value")
    assert missing(settings(registry, env="TOKEN=ci\n")) == []

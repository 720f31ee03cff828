"""Parts of ops.toml that are right alone and cannot work, or cannot work together."""

from __future__ import annotations

import pytest

from ops.config import StackConfig, load
from ops.errors import ConfigError

SERVERS = '[environments.staging.servers.web1]\nroles = ["web"]\n'
ANYTHING = "[environments.staging.servers.web1]\n"


@pytest.fixture
def mistakes(tmp_path, monkeypatch):
    monkeypatch.delenv("OPS_STACK", raising=False)

    def told(text: str) -> list[str]:
        file = tmp_path / "ops.toml"
        file.write_text('stack = "shop"\n' + text)
        try:
            load("staging", start=tmp_path)
        except ConfigError as error:
            return [line.removeprefix(f"{file}: ") for line in str(error).splitlines()]
        return []

    return told


class TestRoles:
    """roles of services, smoke checks and servers"""

    @pytest.mark.parametrize(
        ("table", "place"),
        [('[[smoke]]\nroles = ["wbe"]\n', "smoke[0]"), ('[services.api]\nroles = ["wbe"]\n', "services.api")],
    )
    def test_a_role_that_no_server_has_is_refused(self, mistakes, table, place):
        assert mistakes(table + SERVERS) == [f"{place}.roles: no server has the role 'wbe'"]

    @pytest.mark.parametrize("table", ["[[smoke]]", "[services.api]"])
    def test_a_server_without_roles_stands_for_all(self, mistakes, table):
        assert mistakes(f'{table}\nroles = ["web"]\n{ANYTHING}') == []


class TestHealth:
    """what is probed"""

    @pytest.mark.parametrize(
        ("health", "kind"), [('kind = "http"', "http"), ('kind = "tcp"', "tcp"), ('path = "/up"', "http")]
    )
    def test_a_probe_without_a_port_is_refused(self, mistakes, health, kind):
        (told,) = mistakes(f"[services.api]\nhealth = {{ {health} }}\n{ANYTHING}")
        assert told.startswith(f"services.api.health: kind {kind} needs the container port")

    @pytest.mark.parametrize(
        "table", ["port = 80\nhealth = { path = '/' }", "health = { kind = 'tcp', port = 80 }"]
    )
    def test_the_port_may_stand_with_the_service_or_its_health(self, mistakes, table):
        assert mistakes(f"[services.api]\n{table}\n{ANYTHING}") == []


class TestHooks:
    """where hooks can run"""

    @pytest.mark.parametrize("where", ["servers", "state_host"])
    @pytest.mark.parametrize(("on", "phase"), [("before", "check"), ("after", "check"), ("before", "lock")])
    def test_no_hook_runs_on_a_server_before_the_lock(self, mistakes, on, phase, where):
        hook = f'[[hooks]]\non = "{on}"\nphase = "{phase}"\nwhere = "{where}"\nrun = "true"\n'
        (told,) = mistakes(hook + ANYTHING)
        assert told.startswith(f"hooks[0]: {on} {phase} nothing runs on a server")

    @pytest.mark.parametrize(
        "hook",
        [
            'on = "after"\nphase = "lock"\nwhere = "servers"',
            'on = "before"\nphase = "check"',
            'on = "failure"\nphase = "check"\nwhere = "servers"',
        ],
    )
    def test_hooks_behind_the_lock_on_this_machine_or_for_a_failure_are_let_in(self, mistakes, hook):
        assert mistakes(f'[[hooks]]\n{hook}\nrun = "true"\n{ANYTHING}') == []

    @pytest.mark.parametrize("name", ["A B", "A;reboot", "1A", "Ü"])
    def test_a_variable_that_no_shell_takes_is_refused(self, mistakes, name):
        hook = f'[[hooks]]\non = "before"\nrun = "true"\nenvironment = {{ "{name}" = "x" }}\n'
        assert len(mistakes(hook + ANYTHING)) == 1

    @pytest.mark.parametrize("text", ["env:", "env:a b", "env:1"])
    def test_a_value_of_no_name_is_refused(self, mistakes, text):
        hook = f'[[hooks]]\non = "before"\nrun = "true"\nenvironment = {{ A = "{text}" }}\n'
        assert mistakes(hook + ANYTHING) == [f'hooks[0].environment.A: "{text}" names no variable']


class TestRequests:
    """paths and names that cannot be sent"""

    @pytest.mark.parametrize("path", ["/ü", "up", "/a b", "/a\\u0007", "/a\\r\\nX: y", "http://shop/"])
    @pytest.mark.parametrize("table", ["[[smoke]]\n", "[services.api]\nport = 80\n[services.api.health]\n"])
    def test_a_path_that_no_request_can_hold_is_refused(self, mistakes, table, path):
        (told,) = mistakes(f'{table}path = "{path}"\n{ANYTHING}')
        assert "must begin with / and hold plain ASCII" in told

    @pytest.mark.parametrize("host", ["a→b", "shop example", "shop:80", "a..b", "a" * 64, "shop/x", ".shop"])
    def test_a_host_that_no_request_can_name_is_refused(self, mistakes, host):
        (told,) = mistakes(f'[[smoke]]\nhost = "{host}"\n{ANYTHING}')
        assert told.startswith("smoke[0].host: must be a host name in ASCII")

    @pytest.mark.parametrize(
        "host", ["", "shop.example.org", "a_b", "xn--bcher-kva.example", "10.0.0.1", "::1"]
    )
    def test_names_and_addresses_are_let_in(self, mistakes, host):
        assert mistakes(f'[[smoke]]\nhost = "{host}"\npath = "/a?b=c%20d#e"\n{ANYTHING}') == []

    def test_an_empty_path_of_a_smoke_check_is_refused(self, mistakes):
        assert mistakes(f'[[smoke]]\npath = ""\n{ANYTHING}') == ["smoke[0].path: must not be empty"]


@pytest.mark.parametrize("base", ["opt", "./opt", "", "~/stacks", "/opt\\nx"])
def test_a_base_that_is_no_absolute_path_is_refused(mistakes, base):
    assert mistakes(f'base = "{base}"\n{ANYTHING}') == ['base: must be an absolute path, such as "/opt"']


@pytest.mark.parametrize("number", ["inf", "nan"])
def test_numbers_without_an_end_are_refused(mistakes, number):
    assert mistakes(f"timeout = {number}\n{ANYTHING}") == [
        f"timeout: must be a number that ends, not {number}"
    ]


def test_no_server_at_all_is_no_fault_of_the_parts():
    assert StackConfig.model_validate({"services": {"api": {"roles": ["web"]}}}).servers == {}

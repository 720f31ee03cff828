"""Many servers at once: no failure hides another, and nothing is dialled that is not used."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ops.config.models import StackConfig
from ops.errors import FailedUnchanged, Problem, Unreachable, UsageError
from ops.hosts import Cancellation, Cancelled
from ops.hosts.fake import FakeHost
from ops.hosts.fleet import Fleet, each, server_route, together
from ops.hosts.local import LocalHost
from ops.hosts.readonly import ReadOnlyHost
from ops.hosts.ssh import SSHHost

HOSTS = {name: FakeHost(name) for name in ("web1", "web2", "db1")}


def test_results_and_failures_stand_side_by_side_in_order():
    def work(host):
        if host.name == "web2":
            raise Unreachable("no answer", target=host.name)
        return host.name.upper()

    outcomes = each(HOSTS, work)
    assert list(outcomes) == ["web1", "web2", "db1"]
    assert outcomes["web1"] == "WEB1"
    assert isinstance(outcomes["web2"], Unreachable)


def test_all_failures_are_told_together_with_the_gravest_code():
    def work(host):
        raise {"web1": FailedUnchanged, "web2": Unreachable, "db1": FailedUnchanged}[host.name](
            "broken", target=host.name
        )

    with pytest.raises(Problem) as caught:
        together(each(HOSTS, work))
    assert [finding.target for finding in caught.value.findings] == ["web1", "web2", "db1"]
    assert caught.value.exit_code == 6


def test_the_only_failure_stays_what_it_is():
    lost = Unreachable("no answer", target="web1")
    with pytest.raises(Unreachable) as caught:
        together({"web1": lost, "web2": 1})
    assert caught.value is lost


def test_without_failures_the_results_come_back():
    assert together(each(HOSTS, lambda host: 1)) == {"web1": 1, "web2": 1, "db1": 1}
    assert each({}, lambda host: 1) == {}


def test_they_run_at_once():
    meeting = threading.Barrier(3, timeout=10)
    each(HOSTS, lambda host: meeting.wait())


def test_no_more_run_at_once_than_is_asked():
    running, most, lock = 0, 0, threading.Lock()

    def work(host):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        with lock:
            running -= 1

    each({str(number): FakeHost(str(number)) for number in range(20)}, work, at_once=2)
    assert most <= 2


def test_a_cancellation_comes_out_when_all_have_ended():
    ended = []

    def work(host):
        if host.name == "web1":
            raise Cancelled
        ended.append(host.name)

    with pytest.raises(Cancelled):
        each(HOSTS, work)
    assert sorted(ended) == ["db1", "web2"]


def test_a_bug_is_told_before_a_cancellation():
    def work(host):
        raise (Cancelled if host.name == "web1" else ZeroDivisionError)

    with pytest.raises(ZeroDivisionError):
        each(HOSTS, work)


def config(**servers):
    return StackConfig.model_validate({"servers": servers, "state_host": next(iter(servers))})


def test_a_fleet_has_the_servers_in_their_order_and_of_their_kind():
    fleet = Fleet(config(web1={}, here={"address": "local"}), Path("/x"), "prod", Cancellation())
    assert list(fleet.hosts) == ["web1", "here"]
    assert isinstance(fleet["web1"], SSHHost)
    assert isinstance(fleet["here"], LocalHost)


def test_a_fleet_may_be_some_of_them_and_read_only():
    fleet = Fleet(config(web1={}, web2={}), Path("/x"), "prod", only=["web2"], read_only=True)
    assert list(fleet.hosts) == ["web2"]
    assert isinstance(fleet["web2"], ReadOnlyHost)


def test_connections_are_begun_with_the_context(monkeypatch):
    begun = []
    monkeypatch.setattr(SSHHost, "begin", lambda host: begun.append(host.name))
    fleet = Fleet(config(web1={}, here={"address": "local"}, web2={}), Path("/x"), "prod", read_only=True)
    assert begun == []
    with fleet:
        assert begun == ["web1", "web2"]


def test_a_server_that_does_not_exist_is_refused_with_those_that_do():
    with pytest.raises(UsageError, match=r"web3.*web1, web2"):
        Fleet(config(web1={}, web2={}), Path("/x"), "prod", only=["web3"])


def test_files_are_found_beside_ops_toml(tmp_path):
    (tmp_path / "cfg").write_text("Host web1\n  HostName 10.0.0.1\n  User u\n")
    found = StackConfig.model_validate({"ssh_config": "cfg", "known_hosts": "known", "servers": {"web1": {}}})
    (target,) = server_route("web1", found, tmp_path)
    assert target.shown == "u@10.0.0.1:22"
    assert target.known_hosts == (tmp_path / "known",)


def test_importing_the_hosts_imports_neither_paramiko_nor_fabric():
    script = (
        "import sys, ops.hosts.fleet, ops.servers.trusting; print({'paramiko', 'fabric'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"

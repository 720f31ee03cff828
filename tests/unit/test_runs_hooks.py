"""The user's own commands at fixed places of a run."""

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
from shells import ShellHost

from ops.commands import Secret
from ops.config import Values
from ops.config.models import Hook
from ops.engines.layout import Layout
from ops.errors import ConfigError
from ops.hosts import Cancellation, Cancelled
from ops.hosts.local import LocalHost
from ops.runs.fence import Fence, FencedHost, raise_fence
from ops.runs.hooks import HookFailed, hook_environment, run_on_host, run_on_operator

VALUES = Values({"TOKEN": Secret("hunter22"), "PLAIN": "p"}, {})


def hook(line, **fields):
    return Hook(on="before", run=line, **fields)


def here(line, tmp_path, cancellation=None, environment=None, **fields):
    return run_on_operator(hook(line, **fields), tmp_path, environment or {}, cancellation or Cancellation())


def test_a_hook_sees_the_facts_and_its_own_variables():
    found = hook_environment(
        hook("x", environment={"A": "env:TOKEN", "B": "env:PLAIN", "C": "as written"}),
        VALUES,
        {"OPS_STACK": "shop"},
    )
    assert found == {"OPS_STACK": "shop", "A": "hunter22", "B": "p", "C": "as written"}


def test_a_hook_that_asks_for_a_value_that_is_not_there_is_refused():
    with pytest.raises(ConfigError, match="MISSING has no value"):
        hook_environment(hook("x", environment={"A": "env:MISSING"}), VALUES, {})


class TestOnTheOperatorsMachine:
    """run_on_operator"""

    def test_it_runs_in_the_folder_of_ops_toml_and_gives_its_output(self, tmp_path):
        assert here("pwd; echo err >&2", tmp_path) == f"{tmp_path}\nerr\n"

    def test_it_sees_its_variables_beside_the_environment(self, tmp_path):
        assert here('echo "$A $HOME"', tmp_path, environment={"A": "it's"}) == f"it's {os.environ['HOME']}\n"

    def test_it_reads_nothing(self, tmp_path):
        assert here("cat", tmp_path) == ""

    def test_output_that_is_no_text_is_no_failure(self, tmp_path):
        assert here("printf '\\377ok'", tmp_path) == "\ufffdok"

    def test_its_failure_tells_status_and_last_lines(self, tmp_path):
        with pytest.raises(HookFailed, match=r"failed with status 3: no\nway$"):
            here("echo no; echo way >&2; exit 3", tmp_path)

    def test_past_its_timeout_it_is_ended_with_all_it_started(self, tmp_path):
        with pytest.raises(HookFailed, match=r"took longer than 0\.05 s"):
            here("sleep 60 & echo $! > child; wait", tmp_path, timeout=0.05)
        self.gone(int((tmp_path / "child").read_text()))

    @pytest.mark.parametrize("line", ["sleep 100 & echo $!", "setsid sleep 100 & echo $!"])
    def test_what_it_leaves_running_is_not_waited_for(self, tmp_path, line):
        begun = time.monotonic()
        told = here(line, tmp_path, timeout=50)
        os.kill(int(told), signal.SIGKILL)
        assert time.monotonic() - begun < 20

    def test_an_interrupt_ends_it_with_all_it_started(self, tmp_path):
        cancellation = Cancellation()
        cancellation.cancel()
        with pytest.raises(Cancelled):
            here("echo $$ > self; sleep 60", tmp_path, cancellation)

    def gone(self, pid):
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            try:
                if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                    return
            except (FileNotFoundError, ProcessLookupError):
                return
        raise AssertionError("still runs")


class TestOnAServer:
    """run_on_host"""

    def test_it_runs_in_the_folder_with_its_variables_and_gives_its_output(self, tmp_path, shell):
        output = run_on_host(
            hook('pwd; echo "$A"'), ShellHost(shell=shell), str(tmp_path), {"A": "it's\n$HOME"}
        )
        assert output == f"{tmp_path}\nit's\n$HOME\n"

    def test_without_the_folder_it_runs_all_the_same(self, tmp_path, shell):
        assert run_on_host(hook("pwd"), ShellHost(shell=shell), str(tmp_path / "missing"), {}) == "/\n"

    def test_what_it_leaves_running_does_not_keep_later_runs_out(self, tmp_path):
        layout = Layout(str(tmp_path), "shop", "test")
        first, second = Fence(1, "first"), Fence(2, "second")
        assert LocalHost("here").run(raise_fence(layout, first)).ok
        line = "sleep 100 & echo $!"
        told = run_on_host(hook(line), FencedHost(LocalHost("here"), layout, first), str(tmp_path), {})
        try:
            assert LocalHost("here").run(replace(raise_fence(layout, second), timeout=5.0)).ok
        finally:
            os.kill(int(told), signal.SIGKILL)

    def test_what_it_printed_is_left_in_no_file_when_it_takes_too_long(self, tmp_path, monkeypatch):
        monkeypatch.setenv("TMPDIR", str(tmp_path))
        with pytest.raises(HookFailed):
            run_on_host(hook("echo hunter22; sleep 50", timeout=0.5), LocalHost("here"), str(tmp_path), {})
        assert list(tmp_path.iterdir()) == []

    def test_its_values_are_no_arguments(self, tmp_path):
        host = ShellHost()
        run_on_host(hook("true"), host, str(tmp_path), {"A": "hunter22"})
        assert "hunter22" not in host.commands[0].script
        assert "hunter22" not in host.commands[0].shown

    def test_it_passes_the_fence_as_a_change(self, tmp_path):
        host = ShellHost()
        run_on_host(hook("true", timeout=7.0), host, str(tmp_path), {})
        assert host.commands[0].changes is not None
        assert host.commands[0].timeout == 7.0

    def test_its_failure_tells_server_status_and_last_lines(self, tmp_path):
        with pytest.raises(HookFailed, match=r"^web1: hook .* failed with status 4: no$"):
            run_on_host(hook("echo no >&2; exit 4"), ShellHost(), str(tmp_path), {})

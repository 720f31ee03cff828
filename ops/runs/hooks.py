"""The user's own commands at fixed places of a run."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from ops.commands import Command, quote
from ops.config.models import Hook
from ops.config.values import Values
from ops.errors import OpsError
from ops.hosts import Cancellation, Host
from ops.hosts.failures import TimedOut

__all__ = ["HookFailed", "hook_environment", "run_on_host", "run_on_operator"]


class HookFailed(OpsError):
    """A hook ended with another status than 0, or took too long."""


def hook_environment(hook: Hook, values: Values, facts: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that a hook sees beside its own environment; `env:NAME` values are looked up."""
    found = dict(facts)
    for name, written in hook.environment.items():
        value = values.resolve(written)
        found[name] = value if isinstance(value, str) else value.reveal()
    return found


def run_on_operator(
    hook: Hook, folder: Path, environment: Mapping[str, str], cancellation: Cancellation
) -> str:
    """Run a hook on this machine in the folder of ops.toml; return its output.

    It is ended, with all it started, past its timeout or when the run is interrupted. Raises HookFailed.
    """
    process = subprocess.Popen(
        ["sh", "-c", hook.run],
        cwd=folder,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        text=True,
        errors="replace",
    )
    deadline = time.monotonic() + hook.timeout
    output = ""
    while True:
        try:
            output, _ = process.communicate(timeout=0.1)
            break
        except subprocess.TimeoutExpired:
            late = time.monotonic() > deadline
            if late or cancellation.cancelled:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
                cancellation.check()
                raise HookFailed(
                    f"hook {hook.run!r} took longer than {hook.timeout:g} s and was ended"
                ) from None
    if process.returncode != 0:
        last = "\n".join(output.strip().splitlines()[-5:])
        raise HookFailed(f"hook {hook.run!r} failed with status {process.returncode}: {last}")
    return output


def run_on_host(
    hook: Hook, host: Host, folder: str, environment: Mapping[str, str], *, otherwise: str = "/"
) -> str:
    """Run a hook on a server in the release folder, `otherwise` while that is not there; return its output.

    The variables travel on stdin, as they may hold secrets. Raises HookFailed.
    """
    exports = "".join(f"export {name}={quote(value)}\n" for name, value in environment.items())
    script = f'cd {quote(folder)} 2>/dev/null || cd {quote(otherwise)} || exit 1; eval "$(cat)"; {hook.run}'
    try:
        result = host.run(
            Command(
                script,
                stdin=exports.encode(),
                changes="whatever the hook changes",
                timeout=hook.timeout,
                title=hook.run,
            )
        )
    except TimedOut:
        raise HookFailed(
            f"hook {hook.run!r} took longer than {hook.timeout:g} s and was ended", target=host.name
        ) from None
    if not result.ok:
        raise HookFailed(
            f"hook {hook.run!r} failed with status {result.status}: {result.last_lines}", target=host.name
        )
    return result.stdout + result.stderr

"""The user's own commands at fixed places of a run."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from ops.commands import Command, quote
from ops.config.models import Hook, StackConfig
from ops.config.values import Values
from ops.errors import OpsError
from ops.hosts import Cancellation, Cancelled, Host
from ops.hosts.failures import TimedOut
from ops.runs.phases import Phase
from ops.runs.run import Run

__all__ = [
    "HookFailed",
    "fail_hooks",
    "hook_environment",
    "hooked",
    "run_hooks",
    "run_on_host",
    "run_on_operator",
]


class HookFailed(OpsError):
    """A hook ended with another status than 0, or took too long."""


def hooked(config: StackConfig, phase: Phase) -> bool:
    """Return whether a hook stands before or after a phase."""
    return any(hook.on != "failure" and hook.phase == phase for hook in config.hooks)


def run_hooks(run: Run, on: str, phase: Phase) -> None:
    """Run the hooks `before` or `after` a phase; raises the first that fails and has `on_error = "fail"`."""
    for hook in run.settings.config.hooks:
        if hook.on == on and hook.phase == phase:
            try:
                _run_hook(run, hook, phase, run.interruption.cancellation)
            except OpsError as error:
                if hook.on_error == "fail":
                    raise
                run.warn(str(error))


def fail_hooks(run: Run, cancellation: Cancellation) -> None:
    """Run the hooks for a failure; what fails in them is a warning."""
    for hook in run.settings.config.hooks:
        if hook.on == "failure":
            try:
                _run_hook(run, hook, run.phase, cancellation)
            except (OpsError, Cancelled) as error:
                run.warn(str(error))


def hook_environment(hook: Hook, values: Values, facts: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that a hook sees beside its own environment; `env:NAME` values are looked up."""
    found = dict(facts)
    for name, written in hook.environment.items():
        found[name] = values.plain(written)
    return found


def run_on_operator(
    hook: Hook, folder: Path, environment: Mapping[str, str], cancellation: Cancellation
) -> str:
    """Run a hook on this machine in the folder of ops.toml; return its output.

    It is ended, with all it started, past its timeout or when the run is interrupted; what it leaves running when it
    ends by itself is not waited for. Raises HookFailed.
    """
    # Not a pipe: one that a background process inherits stays open for as long as that lives.
    with tempfile.TemporaryFile() as written:
        try:
            process = subprocess.Popen(
                ["sh", "-c", hook.run],
                cwd=folder,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=written,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:  # no such folder any more, more values than fit, a NUL byte
            raise HookFailed(f"hook {hook.run!r} cannot be started: {error}") from error
        deadline = time.monotonic() + hook.timeout
        while process.poll() is None:
            if time.monotonic() > deadline or cancellation.cancelled:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                cancellation.check()
                raise HookFailed(f"hook {hook.run!r} took longer than {hook.timeout:g} s and was ended")
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=0.1)
        written.seek(0)
        output = written.read().decode(errors="replace")
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
    place = f"cd {quote(folder)} 2>/dev/null || cd {quote(otherwise)} || exit 1"
    # What a hook leaves running must hold neither the fence's lock nor the connection's streams for ever.
    script = (
        f'{place}; eval "$(cat)"; _ops_told=$(mktemp) && exec 6>"$_ops_told" 5<"$_ops_told" && rm -f "$_ops_told" || exit 1; '
        f"(\n{hook.run}\n) >&6 2>&1 </dev/null 5<&- 6>&- 9>&-; _ops_ended=$?; cat <&5; exit $_ops_ended"
    )
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


def _run_hook(run: Run, hook: Hook, phase: Phase, cancellation: Cancellation) -> None:
    settings = run.settings
    facts = {
        "OPS_STACK": settings.stack,
        "OPS_ENVIRONMENT": settings.environment,
        "OPS_VERSION": run.version or "",
        "OPS_RELEASE": run.release or "",
        "OPS_RUN_ID": run.run_id,
        "OPS_PHASE": str(phase),
    }
    environment = hook_environment(hook, settings.values, facts)
    run.log.write(f"hook {hook.on} {phase}: {hook.run}")
    if hook.where == "operator":
        run.log.write(run_on_operator(hook, settings.folder, environment, cancellation))
        return
    if run.fence is None:
        raise HookFailed(f"hook {hook.run!r} cannot run on servers before the lock is taken (phase {phase})")
    hosts = run.with_cancellation(cancellation)
    chosen = [run.state_host] if hook.where == "state_host" else [n for n in hosts if n not in run.lost]
    folder = run.layout.release(run.release) if run.release else run.layout.root
    for name in chosen:
        told = run_on_host(hook, hosts[name], folder, environment, otherwise=run.layout.root)
        run.log.write(told, name)

"""Changes to what is deployed, without a new release: each under the lock, journalled, and safe to repeat."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal

from ops.commands import Command, quote
from ops.config import Settings
from ops.engines.compose import down, in_release
from ops.engines.release import Release
from ops.errors import Interrupted, Locked, NeedsPerson, OpsError
from ops.hosts import Cancelled, Host
from ops.hosts.fleet import each, together
from ops.outcomes import Outcome, Target
from ops.runs.acquiring import take_lock
from ops.runs.during import during
from ops.runs.ending import finish
from ops.runs.execute import execute
from ops.runs.interruption import Interruption
from ops.runs.lock import Holder
from ops.runs.phases import Phase
from ops.runs.releases import Serving, layout_of, serving, switch_for
from ops.runs.reporting import Reporter
from ops.runs.run import Run, operator, running
from ops.stack.asking import check_known, check_replicas
from ops.strategies.steps import View
from ops.strategies.switch import plan_switch

__all__ = ["Change", "bring_up", "remove", "restart", "scale", "take_down"]

Word = Literal["changed", "unchanged"]


@dataclass(frozen=True)
class Change:
    """What every change needs: settings, servers, the state host, where to tell, and the handler of signals."""

    settings: Settings
    hosts: Mapping[str, Host]
    state_host: str
    reporter: Reporter
    interruption: Interruption
    wait: float = 0.0


def bring_up(change: Change) -> Outcome:
    """Bring every server to the release that it serves: starts what is stopped or missing, touches nothing else."""
    return _change(change, "stack.up", lambda run, name, host, found: _reconcile(change, run, host, found))


def scale(change: Change, service: str, replicas: int) -> Outcome:
    """Set a service's containers on each of its servers, until the next deploy; rolling ones lose no request.

    Raises UsageError for an unknown service, a number below 0, or more than one of what can run only once.
    """
    present = serving(change.settings, change.hosts)
    check_known(present, (service,))
    check_replicas(present, service, replicas)

    def one(run: Run, name: str, host: Host, found: Serving) -> Word:
        release = found.release
        if release is None or service not in release.services:
            return "unchanged"
        spec = release.services[service]
        kept = {**release.scale, service: replicas}
        if replicas == spec.replicas:
            kept.pop(service)
        scaled = replace(release, scale=kept)
        word = _reconcile(change, run, host, replace(found, release=scaled))
        path = f"{layout_of(change.settings).release(release.id)}/release.json"
        host.put(scaled.to_json().encode(), path)
        return word

    return _change(change, "stack.scale", one)


def restart(change: Change, services: tuple[str, ...]) -> Outcome:
    """Restart services wherever they run, on all servers at once; if none is named, all but those that run once.

    Raises UsageError for an unknown service.
    """

    if services:
        check_known(serving(change.settings, change.hosts), services)

    def one(run: Run, name: str, host: Host, found: Serving) -> Word:
        release = found.release
        here = [
            spec.name
            for spec in (release.services.values() if release else ())
            if spec.name in services or (not services and not spec.once)
        ]
        if release is None or not here:
            return "unchanged"
        run.reporter.step(name, f"restart {', '.join(here)}")
        script = in_release(layout_of(change.settings), release.id, "--progress", "quiet", "restart", *here)
        _must(
            run,
            host,
            Command(
                script,
                changes="containers",
                timeout=change.settings.config.timeout,
                title="docker compose restart",
            ),
        )
        return "changed"

    return _change(change, "stack.restart", one)


def take_down(change: Change) -> Outcome:
    """Remove the containers and networks on every server; volumes, releases and data stay, `stack.up` brings it back."""

    def one(run: Run, name: str, host: Host, found: Serving) -> Word:
        run.reporter.step(name, "docker compose down")
        _must(run, host, down(change.settings.project, volumes=False))
        return "changed"

    return _change(change, "stack.down", one)


def remove(change: Change, *, volumes: bool) -> Outcome:
    """Remove the stack from every server: containers, networks, releases, files; with `volumes` its data as well."""
    settings = change.settings
    layout = layout_of(settings)

    def one(run: Run, name: str, host: Host, found: Serving) -> Word:
        run.reporter.step(name, "remove the stack")
        _must(run, host, down(settings.project, volumes=volumes))
        tags = f"opsbook/{settings.stack}-{settings.environment}/*".lower()
        spare = "" if volumes else " shared"
        keep = " ".join(quote(item) for item in ("fence", "locks", "journal.jsonl", *spare.split()))
        script = (
            f"docker image ls --filter {quote('reference=' + tags)} --format '{{{{.Repository}}}}:{{{{.Tag}}}}' | xargs -r docker image rm >/dev/null 2>&1; "
            f'cd {quote(layout.root)} && for f in *; do case " {keep} " in *" $f "*) ;; *) rm -rf "$f" ;; esac; done; '
            "docker network prune -f --filter label=com.docker.compose.project="
            + quote(settings.project)
            + " >/dev/null 2>&1; true"
        )
        _must(
            run,
            host,
            Command(
                script, changes="the stack's files and image tags", timeout=120, title=f"remove {layout.root}"
            ),
        )
        return "changed"

    return _change(change, "stack.remove", one)


def _reconcile(change: Change, run: Run, host: Host, found: Serving) -> Word:
    if found.release is None:
        return "unchanged"
    release: Release = found.release.scaled()
    settings = change.settings
    switch = switch_for(settings, release, jobs=False)
    view = View(found.facts.containers, serving=release, content=found.facts.proxy_content)
    steps = plan_switch(release, switch, view)
    execute(steps, host, view, run.bench)
    return "changed" if steps else "unchanged"


def _change(change: Change, action: str, one: Callable[[Run, str, Host, Serving], Word]) -> Outcome:
    """Take the lock, do it on all servers, journal it, give the lock back."""
    with _run(change, action) as run:
        with during(run, Phase.CHECK):
            found = serving(change.settings, change.hosts)
        with during(run, Phase.LOCK):
            run.version = next((one.release.version for one in found.values() if one.release), None)
            holder = Holder(run.run_id, action, operator(), run.started_at, run.version)
            floor = max(server.facts.fence_token for server in found.values())
            take_lock(run, holder, floor=floor, take_over=None, wait=change.wait)
            found = serving(change.settings, change.hosts)
        with during(run, Phase.SWITCH):
            words: dict[str, Word] = together(
                each(run.hosts, lambda host: one(run, host.name, host, found[host.name]))
            )
        targets = {}
        for name, word in words.items():
            release = found[name].release
            identity = release.id if release else None
            targets[name] = Target("host", word, identity, identity)
        return run.outcome(targets)


@contextmanager
def _run(change: Change, action: str) -> Iterator[Run]:
    settings = change.settings
    with running(
        settings, action, change.hosts, change.state_host, change.reporter, change.interruption
    ) as run:
        try:
            yield run
        except Cancelled:
            if run.stopped_by is not None:
                failure = _told(run, run.stopped_by)
                change.interruption.fresh()
                finish(run, "failed", failure.exit_code, str(failure))
                raise failure from None
            number = change.interruption.number or 2
            interrupted = Interrupted(
                f"{action} was interrupted in phase {run.phase}",
                signal_number=number,
                left_behind="what was done by then stays",
                next_step=f"inv stack.up {settings.options} brings every server to its release",
            )
            change.interruption.fresh()
            finish(run, "interrupted", interrupted.exit_code, interrupted.message)
            raise interrupted from None
        except Exception as caught:
            error = caught if isinstance(caught, OpsError) else run.unexpected(caught)
            change.interruption.fresh()
            failure = _told(run, error)
            finish(run, "failed", failure.exit_code, str(failure))
            raise failure from caught
        finish(run, "done", 0)


def _told(run: Run, error: OpsError) -> OpsError:
    """A change that failed on its way is not taken back: a person decides, unless another run has taken over."""
    settings = run.settings
    if run.phase is not Phase.SWITCH or error.exit_code == Locked.exit_code:
        return error
    return NeedsPerson(
        error.message,
        target=error.target,
        left_behind=error.left_behind or "what was done by then stays",
        next_step=error.next_step
        or f"inv deploy.status {settings.options}; inv stack.up brings every server to its release",
    )


def _must(run: Run, host: Host, command: Command) -> None:
    result = host.run(command)
    run.log.write(f"$ {command.shown}\n{result.stdout}{result.stderr}".rstrip(), host.name)
    if not result.ok:
        raise OpsError(f"{command.shown}: {result.last_lines}", target=host.name)

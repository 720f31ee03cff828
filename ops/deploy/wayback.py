"""The way back: a server returns to a release of its own, whatever stands on it now."""

from __future__ import annotations

from collections.abc import Mapping

from ops.commands import Command, quote
from ops.config import Settings
from ops.deploy.commit import point_current
from ops.deploy.planning import switch_for
from ops.deploy.survey import Survey, layout_of
from ops.engines.compose import down
from ops.engines.facts import host_queries, read_facts
from ops.engines.nginx import configuration_changed
from ops.errors import NeedsPerson, OpsError
from ops.hosts import Host
from ops.runs.execute import Workbench, execute
from ops.strategies.steps import View
from ops.strategies.switch import plan_switch

__all__ = ["go_back", "look"]


def look(settings: Settings, host: Host) -> Survey:
    """Ask one server afresh. Raises OpsError when Docker does not answer there."""
    results = host.run_all(host_queries(layout_of(settings), settings.project))
    failed = next((result for result in results if not result.ok), None)
    if failed is not None:
        raise OpsError(f"Docker does not answer: {failed.last_lines}", target=host.name)
    return Survey(read_facts(tuple(result.stdout for result in results)), None)


def go_back(
    settings: Settings,
    host: Host,
    target: str | None,
    bench: Workbench,
    *,
    unmanaged: tuple[str, ...] = (),
    environment: Mapping[str, str] | None = None,
) -> str | None:
    """Bring a server to one of its releases, or, with None, to before its first one; return the release's id.

    Before the first release there was nothing: the containers go, volumes stay, `current` is not written. With
    `unmanaged` (containers that plain Compose had started before) that cannot be restored: NeedsPerson. With
    `environment` the release gets today's values: (variable: value) of secrets by name.
    """
    layout = layout_of(settings)
    survey = look(settings, host)
    if target is None:
        if unmanaged:
            raise NeedsPerson(
                f"the containers from before ({', '.join(unmanaged)}) were not started by Opsbook, so there is no release to go back to",
                target=host.name,
                left_behind="the new containers, with the old volumes",
                next_step="start the old compose project again by hand, or mend and deploy again",
            )
        bench.reporter.step(host.name, "remove the containers of the failed first release")
        result = host.run(down(settings.project, volumes=False))
        bench.log.write(result.stdout + result.stderr, host.name)
        if not result.ok:
            raise OpsError(f"docker compose down: {result.last_lines}", target=host.name)
        host.run(Command(f"rm -f {quote(layout.current)}", changes="current", title="remove current"))
        return None
    release = survey.release(target)
    if release is None:
        raise NeedsPerson(
            f"release {target} is not on this server any more",
            target=host.name,
            left_behind="what runs now",
            next_step="inv deploy.history shows the releases; deploy one of their versions",
        )
    release = release.scaled()
    if environment is not None:
        release = release.with_secrets(environment)
    switch = switch_for(settings, release)
    view = View(survey.facts.containers)
    changed = configuration_changed(release, survey.facts.proxy_content)
    execute(plan_switch(release, switch, view, proxy_changed=changed), host, view, bench)
    if survey.facts.current != target:
        result = host.run(
            Command(point_current(layout, target), changes="current", title=f"current -> {target}")
        )
        if not result.ok:
            raise OpsError(f"current could not be changed: {result.last_lines}", target=host.name)
    return target

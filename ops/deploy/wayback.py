"""The way back: a server returns to a release of its own, whatever stands on it now."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass

from ops.commands import Command, quote
from ops.config import Settings
from ops.deploy.commit import point_current
from ops.deploy.survey import Survey, layout_of, view_of
from ops.engines.compose import down
from ops.engines.facts import Container, HostFacts, host_queries, read_facts
from ops.engines.release import Release
from ops.errors import NeedsPerson, OpsError
from ops.hosts import Host
from ops.runs.execute import Workbench, execute
from ops.runs.releases import switch_for
from ops.strategies.switch import plan_switch

__all__ = ["Earlier", "earlier", "go_back", "look", "strangers"]


def look(settings: Settings, host: Host) -> Survey:
    """Ask one server afresh. Raises OpsError when Docker does not answer there."""
    results = host.run_all(host_queries(layout_of(settings), settings.project))
    failed = next((result for result in results if not result.ok), None)
    if failed is not None:
        raise OpsError(f"Docker does not answer: {failed.last_lines}", target=host.name)
    return Survey(read_facts(tuple(result.stdout for result in results)), None)


def strangers(facts: HostFacts) -> tuple[Container, ...]:
    """Return the containers, on a server without a `current`, that no unfinished first release had started.

    Plain Compose did, or releases that are not here: `base` was another, or somebody removed the folder or the link.
    Image tags are set just before `current`; a release that has them has served.
    """
    if facts.current is not None:
        return ()
    unfinished = _unfinished(facts)
    return tuple(
        container
        for container in facts.containers
        # By its name alone: sudo hides by which of several paths a folder was entered.
        if not container.config or posixpath.basename(container.working_dir) not in unfinished
    )


def _unfinished(facts: HostFacts) -> set[str]:
    served = {image.tag for image in facts.images if image.repository.startswith("opsbook/")}
    return facts.releases.keys() - served


@dataclass(frozen=True)
class Earlier:
    """What ran on a server before its first release: containers by name; `folders` are those of lost releases."""

    names: tuple[str, ...]
    folders: tuple[str, ...] = ()

    def refusal(self, server: str) -> NeedsPerson:
        """Return the error of a way back that would only lead to nothing."""
        names = ", ".join(self.names)
        if self.folders:
            return NeedsPerson(
                f"the containers from before ({names}) come from {', '.join(self.folders)}, and no release that served is "
                "known here, so there is none to go back to",
                target=server,
                left_behind="what runs now, with its volumes",
                next_step="was `base` changed, or a folder removed? put it back, then deploy the version that served; or "
                "mend and deploy again",
            )
        return NeedsPerson(
            f"the containers from before ({names}) were not started by Opsbook, so there is no release to go back to",
            target=server,
            left_behind="what runs now, with the old volumes",
            next_step="start the old compose project again by hand, or mend and deploy again",
        )


def earlier(facts: HostFacts) -> Earlier | None:
    """Return what stood on a server before its first release came, or is to come; None where nothing did.

    What a first release has taken the place of is known from its record, also of one that a run had made current and
    did not come to its end with.
    """
    unmanaged = strangers(facts)
    records = [facts.current] if facts.current is not None else _unfinished(facts)
    firsts = (Release.from_json(facts.releases[name]) for name in records if name in facts.releases)
    names = {container.name for container in unmanaged}
    names |= {name for one in firsts if one.previous is None for name in one.adopted}
    folders = {container.working_dir for container in unmanaged if container.config}
    return Earlier(tuple(sorted(names)), tuple(sorted(folders))) if names else None


def go_back(
    settings: Settings,
    host: Host,
    target: str | None,
    bench: Workbench,
    *,
    before: Earlier | None = None,
) -> str | None:
    """Bring a server to one of its releases, or, with None, to before its first one; return the release's id.

    Before the first release there was nothing: the containers go, volumes stay, `current` is not written. What was
    there `before` all the same (see `earlier`) cannot be restored, and nothing is removed: NeedsPerson.
    """
    layout = layout_of(settings)
    survey = look(settings, host)
    if target is None:
        if before is not None:
            raise before.refusal(host.name)
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
    switch = switch_for(settings, release, jobs=False)
    view = view_of(survey)
    execute(plan_switch(release, switch, view), host, view, bench)
    if survey.facts.current != target:
        result = host.run(
            Command(point_current(layout, target), changes="current", title=f"current -> {target}")
        )
        if not result.ok:
            raise OpsError(f"current could not be changed: {result.last_lines}", target=host.name)
    return target

"""The release that each server serves, for features that work on what is deployed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ops.config import Settings
from ops.engines.facts import HostFacts, host_queries, read_facts
from ops.engines.layout import Layout
from ops.engines.release import Release
from ops.errors import FailedUnchanged, UsageError
from ops.hosts import Host
from ops.hosts.fleet import each, together
from ops.strategies.context import Switch

__all__ = ["Serving", "layout_of", "serving", "switch_for"]


@dataclass(frozen=True)
class Serving:
    """One server's facts, and the release that it serves (None before the first)."""

    facts: HostFacts
    release: Release | None


def layout_of(settings: Settings) -> Layout:
    """Return where the stack stands on its servers."""
    return Layout(settings.config.base.rstrip("/"), settings.stack, settings.environment)


def switch_for(settings: Settings, release: Release, *, jobs: bool = True) -> Switch:
    """Return the context of a switch to a release."""
    layout, timeout = layout_of(settings), settings.config.timeout
    return Switch(layout, settings.project, release.id, release.proxy, timeout, jobs)


def serving(settings: Settings, hosts: Mapping[str, Host]) -> dict[str, Serving]:
    """Ask every server at once. Raises Problem with all that did not answer, UsageError where nothing is deployed."""
    layout = layout_of(settings)

    def ask(host: Host) -> Serving:
        name = host.name
        results = host.run_all(host_queries(layout, settings.project))
        failed = next((result for result in results if not result.ok), None)
        if failed is not None:
            raise FailedUnchanged(
                f"Docker does not answer: {failed.last_lines}", target=name, next_step="inv servers.check"
            )
        facts = read_facts(tuple(result.stdout for result in results))
        text = facts.releases.get(facts.current or "")
        return Serving(facts, Release.from_json(text) if text else None)

    found = together(each(hosts, ask))
    if not any(one.release for one in found.values()):
        raise UsageError(
            f"{settings.stack} {settings.environment} is not deployed yet", next_step="inv deploy"
        )
    return found

"""Everything that a plan needs to know, asked of all servers at once, in two sessions side by side on each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from ops.commands import Command, Result
from ops.config import Settings
from ops.engines.facts import HostFacts, host_queries, read_facts
from ops.engines.release import Release
from ops.engines.rendering import parse_rendered
from ops.engines.resolving import refusal, resolvable, resolve_command
from ops.errors import FailedUnchanged, OpsError, gathered
from ops.hosts import Host
from ops.hosts.fleet import each
from ops.runs.releases import layout_of
from ops.strategies.steps import View

__all__ = ["Survey", "current_release", "layout_of", "survey", "view_of"]

_HALF = 3  # of the questions; the first three take a server about as long as all others


@dataclass(frozen=True)
class Survey:
    """One server: its facts, its own releases read, and the compose files as it resolves them."""

    facts: HostFacts
    rendered: tuple[str, Mapping[str, Any]] | None

    def release(self, name: str) -> Release | None:
        """Return a release of this server; None where it has none of that id."""
        text = self.facts.releases.get(name)
        return Release.from_json(text) if text is not None else None


def current_release(found: Survey) -> Release | None:
    """Return the release that a server serves; None before the first."""
    return found.release(found.facts.current) if found.facts.current else None


def view_of(found: Survey) -> View:
    """Return what a plan needs to know of a server."""
    return View(found.facts.containers, serving=current_release(found), content=found.facts.proxy_content)


def survey(
    settings: Settings, hosts: Mapping[str, Host], version: str | None
) -> tuple[dict[str, Survey], dict[str, OpsError]]:
    """Ask every server at once; return what each answered, and the servers that could not be asked.

    With a version the compose files are resolved too, on each server for itself; without one (`status`) they are
    not. Raises Problem when a server answers that Docker does not work or the compose files are wrong.
    """
    queries = host_queries(layout_of(settings), settings.project)
    sources = resolvable(settings) if version is not None else None

    def ask(host: Host) -> Survey:
        commands: list[Command] = list(queries)
        if sources is not None and version is not None:
            commands.append(resolve_command(settings, sources, host.name, version))
        with ThreadPoolExecutor(1) as aside:
            later = aside.submit(host.run_all, commands[_HALF:])
            results = [*_passed(host, commands[:_HALF], host.run_all(commands[:_HALF]))]
            results += _passed(host, commands[_HALF:], later.result(), rendering=sources is not None)
        facts = read_facts(tuple(result.stdout for result in results[: len(queries)]))
        return Survey(facts, parse_rendered(results[-1].stdout) if sources is not None else None)

    answers = each(hosts, ask)
    surveys = {name: answer for name, answer in answers.items() if isinstance(answer, Survey)}
    failed = {name: answer for name, answer in answers.items() if isinstance(answer, OpsError)}
    wrong = [error for error in failed.values() if error.exit_code in (1, 2)]
    if wrong:
        raise gathered(_once(wrong))
    return surveys, failed


def _passed(
    host: Host, commands: Sequence[Command], results: Sequence[Result], *, rendering: bool = False
) -> Sequence[Result]:
    """Return the results where all commands succeeded; with `rendering` the last one is the compose files' own."""
    if results[-1].ok:
        return results
    failed, text = commands[len(results) - 1], results[-1].last_lines
    if rendering and failed is commands[-1]:
        raise refusal(text)
    if "permission denied" in text.lower():
        raise FailedUnchanged(
            f"no right to use Docker: {text}",
            target=host.name,
            next_step=f"inv servers.check, or set servers.{host.name}.sudo = true",
        )
    raise FailedUnchanged(f"{failed.shown}: {text}", target=host.name, next_step="inv servers.check")


def _once(errors: list[OpsError]) -> list[OpsError]:
    """The same fault of the compose files is found on each server; it is told once."""
    return list({str(error): error for error in errors}.values())

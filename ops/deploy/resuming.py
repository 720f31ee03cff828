"""What --resume goes on with."""

from __future__ import annotations

from collections.abc import Mapping

from ops.commands import Command, quote
from ops.config import Settings
from ops.deploy.survey import layout_of
from ops.engines.release import Release
from ops.errors import NeedsPerson
from ops.hosts import Host
from ops.hosts.fleet import each
from ops.runs.journal import parse_journal, read_journal
from ops.runs.lock import held_error, look, read_look, ways_on

__all__ = ["unfinished_version"]


def unfinished_version(settings: Settings, hosts: Mapping[str, Host], state_host: str) -> str | None:
    """Return the version of the run that died, else that of the newest release which any server serves; None without both.

    Raises NeedsPerson where a rollback was left unfinished: the newest version is the one that it flees. Locked where
    such a rollback lives.
    """
    layout = layout_of(settings)
    lock, journal = hosts[state_host].run_all((look(layout), read_journal(layout)))
    _, holder = read_look(lock.stdout)
    if holder is not None and holder.action == "deploy.rollback":
        raise held_error(lock.stdout, stale_after=settings.config.lock.stale_after, where=settings.options)
    if holder is not None and holder.version is not None:
        return holder.version
    serves = Command(
        f"cat {quote(layout.current + '/release.json')} 2>/dev/null || true", title="which release serves"
    )
    # A server that does not answer is told by the questions of the deploy itself.
    answers = each(hosts, lambda host: host.run(serves).stdout)
    releases = [
        Release.from_json(text) for text in answers.values() if isinstance(text, str) and text.strip()
    ]
    if len({release.id for release in releases}) > 1:
        _refuse_over_a_rollback(settings, journal.stdout)
    return max(releases, key=lambda release: release.id).version if releases else None


def _refuse_over_a_rollback(settings: Settings, journal: str) -> None:
    """Its lock is gone: a server was lost on its way, or somebody removed it."""
    runs = [entry for entry in parse_journal(journal) if entry.action in ("deploy", "deploy.rollback")]
    if runs and runs[-1].action == "deploy.rollback" and runs[-1].exit_code in (None, NeedsPerson.exit_code):
        raise NeedsPerson(
            f"the rollback of run {runs[-1].run_id} did not come to its end on every server; --resume would deploy "
            "the version that it goes back from",
            left_behind="servers on different releases",
            next_step=ways_on(runs[-1].action, settings.options),
        )

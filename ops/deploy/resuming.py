"""What --resume goes on with."""

from __future__ import annotations

from collections.abc import Mapping

from ops.commands import Command, quote
from ops.config import Settings
from ops.deploy.survey import layout_of
from ops.engines.release import Release
from ops.hosts import Host
from ops.hosts.fleet import each
from ops.runs.lock import Holder

__all__ = ["unfinished_version"]


def unfinished_version(settings: Settings, hosts: Mapping[str, Host], state_host: str) -> str | None:
    """Return the version of the run that died, else that of the newest release which any server serves; None without both."""
    layout = layout_of(settings)
    asked = Command(
        f"cat {quote(layout.lock + '/holder.json')} 2>/dev/null || true", title="who holds the lock"
    )
    holder = Holder.from_json(hosts[state_host].run(asked).stdout)
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
    return max(releases, key=lambda release: release.id).version if releases else None

"""What --resume goes on with."""

from __future__ import annotations

from collections.abc import Mapping

from ops.commands import Command, quote
from ops.config import Settings
from ops.deploy.survey import layout_of
from ops.engines.release import Release
from ops.hosts import Host
from ops.runs.lock import Holder

__all__ = ["unfinished_version"]


def unfinished_version(settings: Settings, hosts: Mapping[str, Host], state_host: str) -> str | None:
    """Return the version of the run that died, else that of the release which the state host serves; None without both."""
    layout = layout_of(settings)
    result = hosts[state_host].run(
        Command(
            f"cat {quote(layout.lock + '/holder.json')} 2>/dev/null || cat {quote(layout.current + '/release.json')} 2>/dev/null || true",
            title="who holds the lock",
        )
    )
    holder = Holder.from_json(result.stdout)
    if holder is not None:
        return holder.version
    return Release.from_json(result.stdout).version if result.stdout.strip() else None

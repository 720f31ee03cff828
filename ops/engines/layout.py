"""Where things stand on a server."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Layout"]


@dataclass(frozen=True)
class Layout:
    """The paths of one stack in one environment; the same on each of its servers."""

    base: str
    stack: str
    environment: str

    @property
    def root(self) -> str:
        """The folder that holds everything else."""
        return f"{self.base}/{self.stack}/{self.environment}"

    @property
    def releases(self) -> str:
        """One folder for each kept release."""
        return f"{self.root}/releases"

    def release(self, release: str) -> str:
        """The folder of one release."""
        return f"{self.releases}/{release}"

    @property
    def files(self) -> str:
        """Content from the stack folder, each under the SHA-256 of its bytes and modes."""
        return f"{self.root}/files"

    @property
    def proxy(self) -> str:
        """The proxy's mounted folders: changed in place, never by a new path."""
        return f"{self.root}/proxy"

    @property
    def shared(self) -> str:
        """Data that outlives releases."""
        return f"{self.root}/shared"

    @property
    def current(self) -> str:
        """Symlink to the release that serves."""
        return f"{self.root}/current"

    @property
    def fence(self) -> str:
        """Token and id of the latest run that this server accepted."""
        return f"{self.root}/fence"

    @property
    def journal(self) -> str:
        """One JSON document a line for each start and end of a run; on the state host."""
        return f"{self.root}/journal.jsonl"

    @property
    def lock(self) -> str:
        """Folder whose existence is the lock; on the state host."""
        return f"{self.root}/locks/change"

    @property
    def token(self) -> str:
        """The counter from which each new holder of the lock takes its fence token; on the state host."""
        return f"{self.root}/locks/change.token"

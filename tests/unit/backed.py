"""A stack of files whose server is this machine, for backups and restores with nothing stood in."""

from __future__ import annotations

from ops.environments import environment
from ops.runs.journal import parse_journal

TOML = """
stack = "shop"
base = "{base}"
[lock]
heartbeat = 0.2
stale_after = 1
[environments.production.servers.here]
address = "local"
[datastores.files.uploads]
path = "uploads"
"""


class Stack:
    """A stack folder, and what its server holds."""

    def __init__(self, folder):
        self.folder = folder / "stack"
        self.folder.mkdir()
        self.root = folder / "opt" / "shop" / "production"
        self.uploads = self.root / "shared" / "uploads"
        self.uploads.mkdir(parents=True)
        (self.uploads / "a.txt").write_text("first")
        (self.uploads / "it's ü").mkdir()
        (self.uploads / "it's ü" / "b.bin").write_bytes(bytes(range(256)) * 1000)
        self.toml = TOML.format(base=folder / "opt")

    def environment(self, more=""):
        (self.folder / "ops.toml").write_text(self.toml + more)
        return environment("production", stack=str(self.folder))

    @property
    def journal(self):
        return parse_journal((self.root / "journal.jsonl").read_text())

    @property
    def stored(self):
        return sorted(
            path.relative_to(self.folder / ".ops/backups").as_posix()
            for path in (self.folder / ".ops/backups").rglob("*")
            if path.is_file()
        )

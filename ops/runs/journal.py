"""The journal on the state host: one line at the start and one at the end of each run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from ops.commands import Command, quote
from ops.engines.layout import Layout

__all__ = ["Entry", "add", "append", "now", "parse_journal", "read_journal"]


@dataclass(frozen=True)
class Entry:
    """One line of the journal: `event` is started or a result (done, unchanged, failed, rolled_back, interrupted)."""

    at: str
    run_id: str
    action: str
    event: str
    who: str
    version: str | None = None
    release: str | None = None
    previous: Mapping[str, str | None] = field(default_factory=dict)
    exit_code: int | None = None
    seconds: float | None = None
    message: str | None = None
    migrated: bool = False

    def to_json(self) -> str:
        """Return the line, without its end."""
        data = {
            key: value
            for key, value in vars(self).items()
            if value is not None and value != {} and value is not False
        }
        return json.dumps(data, ensure_ascii=False)


def now() -> str:
    """Return the time as RFC 3339 in UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def append(line: str | None = None) -> str:
    """Return the shell text that adds a line, or what comes on stdin, to the journal of the folder it runs in.

    What it adds starts a line of its own, also behind one that a full disk cut off.
    """
    source = "cat" if line is None else f"printf '%s\\n' {quote(line)}"
    whole = '[ ! -f journal.jsonl ] || [ -z "$(tail -c 1 journal.jsonl)" ] || echo'
    return f"{{ {whole}; {source}; }} >> journal.jsonl"


def add(layout: Layout, entry: Entry) -> Command:
    """Return the command that adds an entry of a run that holds no lock of the stack."""
    return Command(
        f"umask 077; mkdir -p {quote(layout.root)} && cd {quote(layout.root)} && {append()}",
        stdin=f"{entry.to_json()}\n".encode(),
        changes="journal",
        title="write the journal",
    )


def read_journal(layout: Layout, lines: int = 200) -> Command:
    """Return the command that prints the journal's newest lines; nothing where there is none."""
    return Command(
        f"tail -n {lines} {quote(layout.journal)} 2>/dev/null || true", title=f"tail {layout.journal}"
    )


def parse_journal(text: str) -> tuple[Entry, ...]:
    """Read journal lines, the oldest first; a line cut off by a full disk is skipped."""
    found = []
    for line in text.split("\n"):  # a message may hold U+2028
        try:
            found.append(Entry(**json.loads(line)))
        except (ValueError, TypeError):
            continue
    return tuple(found)

"""Runs the parts that are named, all without a name; docs/performance.md is written by a whole run, or with --write."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

from bench import backups, deploying, fleet, listing

PAGE = Path(__file__).parents[1] / "docs/performance.md"
PARTS = {
    "list": ("`inv --list` against a bare Invoke program", listing.report),
    "deploy": ("One changed service on one server", deploying.report),
    "latency": ("The same with 50 ms of latency", deploying.latency_report),
    "fleet": ("Twenty servers", fleet.report),
    "backup": ("Backups to S3", backups.report),
    "restore": ("Restores from S3", backups.restore_report),
}


def main(names: list[str]) -> int:
    """Measure, print, and write what is to be written; return 1 when a limit does not hold."""
    write = "--write" in names or not names
    names = [name for name in names if name != "--write"]
    unknown = [name for name in names if name not in PARTS]
    if unknown:
        print(f"bench: unknown part {unknown[0]}; known: {', '.join(PARTS)}", file=sys.stderr)
        return 2
    head = (
        "# Performance\n\nWritten by `scripts/bench`. Ratios of medians, measured side by side, each part in one run; seconds are of one\n"
        f"machine ({os.cpu_count()} cores, Python {platform.python_version()}) and mean nothing by themselves.\n"
    )
    # What is not measured now stays as it was measured last.
    sections = dict(part.split("\n", 1) for part in PAGE.read_text().split("\n## ")[1:])
    held = True
    for name in names or PARTS:
        title, report = PARTS[name]
        print(f"== {title}", flush=True)
        lines, holds = report()
        verdict = "The limit holds." if holds else "**The limit does not hold.**"
        print("\n".join([*lines, verdict]), flush=True)
        sections[title] = "\n".join(["", *lines, "", verdict, ""])
        held = held and holds
        if write:
            ordered = [f"\n## {title}\n{sections[title]}" for title, _ in PARTS.values() if title in sections]
            PAGE.write_text(head + "".join(ordered))
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

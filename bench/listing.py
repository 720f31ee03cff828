"""`inv --list` against a bare Invoke program with as many tasks."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from bench.rounds import quiet, rounds, run, table

__all__ = ["report"]

ROOT = Path(__file__).parents[1]
INV = str(ROOT / ".venv/bin/inv")
LIMIT = 1.3


def report() -> tuple[list[str], bool]:
    """Return the section's lines, and whether the limit holds."""
    env = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    listed = run([INV, "--list"], folder=ROOT, env=env)
    names = [line.split()[0] for line in listed.splitlines() if line.startswith("  ") and line[2:3].strip()]
    with tempfile.TemporaryDirectory() as folder:
        bare = Path(folder)
        (bare / "tasks.py").write_text(bare_tasks(names))
        measured = rounds(
            {
                "bare Invoke": lambda number: quiet(run([INV, "--list"], folder=bare, env=env)),
                "Opsbook": lambda number: quiet(run([INV, "--list"], folder=ROOT, env=env)),
            },
            15,
        )
    ratio = measured[1].median / measured[0].median
    lines = [f"{len(names)} tasks on both sides; limit {LIMIT}.", "", *table(measured, "bare Invoke")]
    return lines, ratio <= LIMIT


def bare_tasks(names: list[str]) -> str:
    """Return a tasks.py with as many tasks in as many collections, each with help, and nothing else."""
    lines = ["from invoke import Collection, task", "namespace = Collection()"]
    collections: set[str] = set()
    for number, name in enumerate(names):
        family, _, rest = name.partition(".")
        if rest and family not in collections:
            collections.add(family)
            lines.append(f"{family}_ = Collection({family!r}); namespace.add_collection({family}_)")
        options = ", ".join(f"o{at}=''" for at in range(6))
        helps = ", ".join(f"'o{at}': 'help'" for at in range(6))
        lines.append(
            f"@task(name={(rest or family)!r}, help={{{helps}}})\ndef t{number}(c, {options}):\n    'Do {name} and say what came of it.'"
        )
        lines.append(f"{family}_.add_task(t{number})" if rest else f"namespace.add_task(t{number})")
    return "\n".join(lines) + "\n"

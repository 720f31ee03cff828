"""This machine with a crontab, a systemd and a Python of its own, none of which touches the real ones."""

from __future__ import annotations

import os
import sys

from ops.backup import scheduling

__all__ = ["Machine", "command_of"]

CRONTAB = """#!/bin/sh
# A stand-in for crontab(1): a file in place of the spool.
tab={folder}/tab
case "$1" in
  -l) [ -f "$tab" ] || {{ echo "{none}" >&2; exit 1; }}; cat "$tab" ;;
  -) cat > "$tab" ;;
  -r) rm -f "$tab" ;;
esac
"""
SYSTEMCTL = """#!/bin/sh
# A stand-in for systemctl(1): it writes down what it is asked.
echo "$*" >> {folder}/asked
case "$*" in *"{refuse}"*) echo "Failed to do that" >&2; exit 1 ;; esac
"""
PYTHON = """#!/bin/sh
# A stand-in for a server's python3: its environments are this test's own, and its pip writes down what it is asked.
case "$*" in
  *"import sys, ensurepip"*) exit {lacks} ;;
  "-m venv --clear "*) mkdir -p "$4/bin" && cp "$0" "$4/bin/python" ;;
  *{skips}*) ;;
  "-m pip "*) shift 2; echo "pip $*" >> {folder}/asked ;;
  *) exec {python} "$@" ;;
esac
"""


class Machine:
    """What a machine has that runs tasks by itself; `tab` is the crontab."""

    def __init__(self, folder, monkeypatch):
        self.folder = folder
        self.tools = folder / "tools"
        self.tools.mkdir()
        monkeypatch.setenv("PATH", f"{self.tools}:{os.environ['PATH']}")
        monkeypatch.setattr(scheduling, "SYSTEMD", str(folder / "booted"))
        monkeypatch.setattr(scheduling, "UNITS", str(folder / "units"))
        self.tab = folder / "tab"

    def tool(self, name, text, **words):
        path = self.tools / name
        path.write_text(text.format(folder=self.folder, **words))
        path.chmod(0o755)

    def cron(self, none="no crontab for root"):
        self.tool("crontab", CRONTAB, none=none)

    def systemd(self, refuse="nothing"):
        (self.folder / "booted").mkdir()
        self.tool("systemctl", SYSTEMCTL, refuse=refuse)

    def python(self, lacks=0, skips="--dry-run"):
        """The trial of a task takes seconds, so it is skipped where it is not what is tested."""
        self.tool("python3", PYTHON, lacks=lacks, skips=skips, python=sys.executable)

    @property
    def asked(self):
        path = self.folder / "asked"
        return path.read_text().splitlines() if path.exists() else []

    @property
    def units(self):
        return sorted(path.name for path in (self.folder / "units").glob("*"))


def command_of(crontab):
    """Return the command of the first line that runs something, as cron hands it to sh."""
    line = next(line for line in crontab.splitlines() if not line.startswith("#"))
    return line.split(" ", 5)[5].replace("\\%", "%")

"""The `opsbook` command itself: what it says of a command line that it does not understand."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

MAIN = "from ops.tasks.program import main; main()"


def opsbook(*words: str, stdout: int | None = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", MAIN, *words],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    "line",
    ["nosuch", "deploy production", "deploy --verison 1", "deploy --env", "-T abc"],
)
def test_what_it_does_not_understand_ends_with_2_and_the_way_on(line):
    done = opsbook(*line.split())
    assert done.returncode == 2
    assert done.stderr.startswith("Error: ")
    assert done.stderr.splitlines()[-1].startswith("Next: opsbook --list")


def test_it_tells_the_version_that_is_installed():
    assert opsbook("--version").stdout == f"Opsbook {importlib.metadata.version('opsbook')}\n"


def test_a_reader_that_leaves_and_a_full_disk_are_no_tracebacks():
    with subprocess.Popen(
        [sys.executable, "-c", MAIN, "--list"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as listing:
        listing.stdout.close()
        assert listing.stderr.read() == ""
    assert listing.returncode == 1
    with Path("/dev/full").open("w") as full:
        done = opsbook("--list", stdout=full.fileno())
    assert (done.returncode, done.stderr) == (
        1,
        "Error: the output cannot be written: No space left on device\n",
    )

"""The log of a run on the operator's machine."""

import subprocess

import pytest

from ops.commands import Redactor
from ops.errors import FailedUnchanged
from ops.runs.log import RunLog, unexpected


def test_a_place_that_cannot_be_written_is_told_before_anything_happens(tmp_path):
    (tmp_path / ".ops").write_text("a file where the folder should be")
    with pytest.raises(FailedUnchanged, match="cannot be written here") as failure:
        RunLog(tmp_path, "20260101T000000Z-abcd", Redactor(()))
    assert failure.value.next_step


def test_git_does_not_see_the_log(tmp_path):
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    RunLog(tmp_path, "20260101T000000Z-abcd", Redactor(())).close()
    unexpected(ValueError("x"), tmp_path, str)
    seen = subprocess.run(["git", "status", "--porcelain"], cwd=tmp_path, capture_output=True, text=True)
    assert (seen.returncode, seen.stdout) == (0, "")

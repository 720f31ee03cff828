"""The log of a run on the operator's machine."""

import pytest

from ops.commands import Redactor
from ops.errors import FailedUnchanged
from ops.runs.log import RunLog


def test_a_place_that_cannot_be_written_is_told_before_anything_happens(tmp_path):
    (tmp_path / ".ops").write_text("a file where the folder should be")
    with pytest.raises(FailedUnchanged, match="cannot be written here") as failure:
        RunLog(tmp_path, "20260101T000000Z-abcd", Redactor(()))
    assert failure.value.next_step

"""Commands are values; words reach a program as they were written."""

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ops.commands import Command, Result, command, pipeline, quote

WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)


def stdout_of(script: str, shell: str = "sh") -> str:
    return subprocess.run([shell, "-c", script], capture_output=True, check=True).stdout.decode()


@settings(max_examples=60, deadline=None)
@given(st.lists(WORDS, min_size=1, max_size=4))
def test_words_reach_a_program_as_they_were_written(words):
    script = command("printf", "%s\\0", *words).script
    assert stdout_of(script).split("\0")[:-1] == words


def test_a_nul_byte_is_refused():
    with pytest.raises(ValueError, match="NUL"):
        quote("a\0b")


def test_a_command_runs_in_its_folder(tmp_path, shell):
    folder = tmp_path / "it's $here"
    folder.mkdir()
    assert stdout_of(command("pwd", cwd=str(folder)).script, shell) == f"{folder}\n"


def test_a_command_does_not_run_where_its_folder_is_missing(tmp_path):
    script = command("touch", str(tmp_path / "made"), cwd=str(tmp_path / "missing")).script
    assert subprocess.run(["sh", "-c", script], capture_output=True, check=False).returncode != 0
    assert not (tmp_path / "made").exists()


def test_a_pipeline_feeds_each_program_to_the_next(shell):
    assert stdout_of(pipeline(["printf", "%s\\n", "b b", "a"], ["sort"]), shell) == "a\nb b\n"


def test_a_command_only_reads_unless_it_says_what_it_changes():
    assert command("ls").changes is None
    assert command("rm", "x", changes="x").changes == "x"


def test_people_see_the_title_and_without_one_the_script():
    assert Command("ls -l", title="list").shown == "list"
    assert Command("ls -l").shown == "ls -l"


def test_a_failure_shows_its_last_five_lines_of_stderr():
    assert Result(1, "out", "\n".join("1234567") + "\n").last_lines == "3\n4\n5\n6\n7"


def test_a_failure_that_wrote_no_stderr_shows_its_stdout():
    assert Result(1, "told here\n", " \n").last_lines == "told here"

"""Streams that are closed, full, gone or take no UTF-8: the exit code is that of what was done."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import sys
from invoke.program import Program
from invoke.collection import Collection
from ops.errors import OpsError
from ops.tasks.boundary import Answer, task
from ops.tasks.live import reporter_for
from ops.tasks.output import write

@task()
def look(c, json: bool = False):
    return Answer("…" * 100000, exit_code=7)

@task()
def run(c):
    reporter = reporter_for(json=False, quiet=False, redact=str)
    reporter.say("begun")
    reporter.say("…")
    reporter.close()
    return Answer("done")

@task()
def fail(c):
    raise OpsError("broken")

@task()
def logs(c):
    for line in range(3):
        write("x")

Program(namespace=Collection(look, run, fail, logs)).run(["inv", *sys.argv[1:]])
"""


@pytest.fixture
def typed(tmp_path):
    """Run a task of the program with streams redirected as a shell does it."""

    def run(words, redirection, **environment):
        return subprocess.run(
            ["bash", "-c", f'exec "$@" {redirection}', "bash", sys.executable, "-c", PROGRAM, *words.split()],
            capture_output=True,
            check=False,
            cwd=tmp_path,
            env={**os.environ, **environment},
        )

    return run


FULL = b"Error: the output cannot be written: No space left on device\n"


@pytest.mark.parametrize(("words", "code"), [("look", 7), ("look --json", 7), ("run", 0)])
def test_a_full_disk_leaves_the_exit_code_and_says_so(typed, words, code):
    done = typed(words, ">/dev/full")
    assert (done.returncode, done.stderr) == (code, FULL)


@pytest.mark.parametrize(("words", "code"), [("look", 7), ("look --json", 7), ("run", 0), ("logs", 0)])
def test_a_closed_stdout_is_silent(typed, words, code):
    done = typed(words, ">&-")
    assert (done.returncode, done.stdout, done.stderr) == (code, b"", b"")


@pytest.mark.parametrize(
    "redirection", ["2>&-", "2>/dev/full", ">&- 2>&-", "<&- >&- 2>&-", ">/dev/full 2>&1"]
)
def test_a_failure_that_cannot_be_told_keeps_its_code(typed, redirection):
    done = typed("fail", redirection)
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"")


def test_logs_that_cannot_be_written_end(typed):
    done = typed("logs", ">/dev/full")
    assert (done.returncode, done.stderr) == (1, FULL)


@pytest.mark.parametrize(("words", "code"), [("look", 7), ("run", 0)])
def test_a_stream_that_takes_no_utf8_gets_it_escaped(typed, words, code):
    done = typed(words, "", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (code, b"")
    assert b"\\u2026" in done.stdout


@pytest.mark.parametrize(("words", "code"), [("look", 7), ("run", 0), ("logs", 1)])
def test_a_reader_that_leaves_does_not_change_the_exit_code(tmp_path, words, code):
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words.split()],
        stdout=write,
        stderr=subprocess.PIPE,
        check=False,
        cwd=tmp_path,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (code, b"")

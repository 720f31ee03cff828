"""How commands travel: nothing is changed on the way, whatever is in it."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ops.commands import Command, Secret, command
from ops.hosts.local import LocalHost
from ops.hosts.script import Begin, End, FrameReader, batch, invocation, streaming

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
NASTY = st.sampled_from(
    [
        "'",
        '"',
        "\n",
        "$HOME",
        "`id`",
        ";",
        "\\",
        "\\n",
        "!",
        "*",
        "~",
        "-n",
        "é",
        "ß",
        "中",
        "\x81",
        "\x88",
        "",
        " ",
        "%s",
    ]
)
WORDS = st.lists(st.one_of(ANY_TEXT, st.lists(NASTY, max_size=5).map("".join)), min_size=1, max_size=4)


def travelled(shell: str, script: bytes, *more: bytes) -> subprocess.CompletedProcess[bytes]:
    line = invocation(sudo=False).replace("sh -c", f"{shell} -c", 1)
    return subprocess.run(
        [shell, "-c", line], input=script + b"".join(more), capture_output=True, check=False
    )


@settings(max_examples=60)
@given(WORDS)
def test_words_survive_the_way_to_the_program(words):
    result = LocalHost("here").run(command("printf", "%s\\0", *words))
    assert result.stdout.split("\0")[:-1] == words


@settings(max_examples=30)
@given(st.lists(st.binary(max_size=300), min_size=1, max_size=4))
def test_the_stdin_of_each_command_survives(inputs):
    results = LocalHost("here").run_all([Command("od -An -v -tx1", stdin=data) for data in inputs])
    assert [bytes.fromhex(result.stdout.replace("\n", "")) for result in results] == inputs


@given(st.binary(max_size=200), st.lists(st.integers(1, 40), max_size=30))
def test_frames_are_found_however_the_bytes_are_cut(output, cuts):
    marker = batch([Command("true")]).marker
    output = output.replace(marker, b"")
    stream = b"a banner\n" + marker + b" B 42\n" + output + marker + b" E 0 3\nnoise"
    reader, events, at = FrameReader(marker), [], 0
    for size in [*cuts, len(stream)]:
        events += list(reader.feed(stream[at : at + size]))
        at += size
    assert [event for event in events if not isinstance(event, bytes)] == [Begin(42), End(0, 3)]
    between = events[1 : events.index(End(0, 3))]
    assert b"".join(between) == output
    assert b"a banner" in reader.preamble


def test_bytes_that_only_look_like_a_marker_are_output():
    marker = batch([Command("true")]).marker
    reader = FrameReader(marker)
    events = list(reader.feed(marker + b" B 1\n" + marker[:-1] + b"!" + marker[:5]))
    events += list(reader.feed(b"\x1e" + marker + b" E 0 0\n"))
    assert (
        b"".join(event for event in events if isinstance(event, bytes))
        == marker[:-1] + b"!" + marker[:5] + b"\x1e"
    )


def test_the_line_that_is_executed_is_the_same_for_all_commands():
    assert invocation(sudo=False) == 'sh -c \'read -r n; eval "$(head -c "$n")"\''
    assert invocation(sudo=True) == f"sudo -n {invocation(sudo=False)}"


def test_a_script_does_not_show_its_parts():
    script = batch([Command("mysql", stdin=Secret("correct-horse").reveal().encode())])
    assert "correct-horse" not in repr(script)


def test_each_shell_reads_exactly_its_bytes(shell):
    script = batch([Command("cat", stdin=b"one"), Command("cat", stdin=b"two\n")])
    done = travelled(shell, b"".join(script.parts))
    marker = script.marker
    frames = list(FrameReader(marker).feed(done.stdout))
    assert [frame for frame in frames if isinstance(frame, bytes)] == [b"one", b"two\n"]
    assert [frame.status for frame in frames if isinstance(frame, End)] == [0, 0]


def test_a_stream_leaves_the_rest_of_stdin_to_the_command(shell):
    script = streaming(Command("cat"))
    done = travelled(shell, b"".join(script.parts), b"to the end\n", b"\0")
    frames = list(FrameReader(script.marker).feed(done.stdout))
    assert frames[1] == b"to the end\n\0"


@pytest.mark.parametrize(
    "script", ["if then", "echo 'open", "exit 5", "exec false", "return 3", "set -e; false; true"]
)
def test_a_command_that_fails_keeps_its_frame(shell, script):
    made = batch([Command(script), Command("echo never")])
    done = travelled(shell, b"".join(made.parts))
    ends = [frame for frame in FrameReader(made.marker).feed(done.stdout) if isinstance(frame, End)]
    assert len(ends) == 1
    assert ends[0].status != 0
    assert b"never" not in done.stdout


@pytest.mark.parametrize("lines", range(7))
def test_a_script_that_is_cut_on_its_way_runs_nothing(shell, lines):
    """However much of it came."""
    made = batch([Command("echo one >&2"), Command("echo two >&2")])
    whole = b"".join(made.parts).splitlines(keepends=True)
    assert len(whole) == 10
    done = travelled(shell, b"".join(whole[: lines + 3]))
    assert made.marker not in done.stdout
    assert b"one" not in done.stderr.split()


def test_a_nul_byte_in_a_script_is_refused():
    with pytest.raises(ValueError, match="NUL"):
        batch([Command("echo a\0b")])

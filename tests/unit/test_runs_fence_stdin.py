"""What a fenced command is fed comes to its end before the command keeps other runs out."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ops.commands import Command
from ops.engines.layout import Layout
from ops.hosts.local import LocalHost
from ops.runs.fence import BUSY, Fence, FencedHost, raise_fence

FEED = b"half of it\0" * 30_000


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    found = Layout(str(tmp_path), "shop", "test")
    assert LocalHost("here").run(raise_fence(found, Fence(1, "first"))).ok
    return found


@pytest.mark.holds(5)
def test_a_command_whose_feed_stalls_keeps_nobody_out(layout: Layout) -> None:
    """A laptop that freezes while it uploads does not hold the fence's lock; what it sends later is refused."""
    host = FencedHost(LocalHost("here"), layout, Fence(1, "first"))
    command = host._guard(Command(f"cat > {layout.root}/got", stdin=FEED, changes="a file"))
    frozen = subprocess.Popen(["sh", "-c", command.script], stdin=subprocess.PIPE)
    assert frozen.stdin is not None
    frozen.stdin.write(FEED[:100_000])
    frozen.stdin.flush()
    assert LocalHost("here").run(raise_fence(layout, Fence(2, "second"))).ok
    frozen.stdin.write(FEED[100_000:])
    frozen.stdin.close()
    assert frozen.wait(20) == 98
    assert not Path(layout.root, "got").exists()


@pytest.mark.holds(5)
def test_a_fenced_command_gets_its_feed_whole(layout: Layout) -> None:
    """Byte for byte, and nothing of it stays in a file."""
    host = FencedHost(LocalHost("here"), layout, Fence(1, "first"))
    assert host.run(Command(f"cat > {layout.root}/got", stdin=FEED, changes="a file")).ok
    assert Path(layout.root, "got").read_bytes() == FEED


@pytest.mark.holds(5)
def test_a_run_that_takes_over_waits_for_the_last_command(layout: Layout) -> None:
    """While a command of the earlier run is at work, no later run is accepted."""
    host = FencedHost(LocalHost("here"), layout, Fence(1, "first"))
    command = host._guard(Command("echo at work; read -r end", changes="something"))
    work = subprocess.Popen(
        ["sh", "-c", command.script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert work.stdin is not None
    assert work.stdout is not None
    assert work.stdout.readline() == "at work\n"
    hurried = raise_fence(layout, Fence(2, "second"))
    script = hurried.script.replace("-w 60", "-w 0.2")
    assert LocalHost("here").run(Command(script, changes="fence")).status == BUSY
    work.stdin.write("end\n")
    work.stdin.close()
    assert work.wait(20) == 0
    assert LocalHost("here").run(hurried).ok

"""What every host promises, the same table over this machine and over SSH to a throw-away sshd."""

from __future__ import annotations

import fcntl
import hashlib
import http.client
import http.server
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sshd import Sshd, missing, runs, until

from ops.commands import Command, command
from ops.errors import OpsError
from ops.hosts import Cancellation, Cancelled, CommandFailed, ConnectionLost, Host, TimedOut
from ops.hosts.local import LocalHost
from ops.hosts.ssh import SSHHost


@pytest.fixture(scope="session")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """An sshd with MaxSessions 2, the least that a server may have."""
    if missing():
        pytest.skip(missing())
    server = Sshd(tmp_path_factory.mktemp("sshd"), "MaxSessions 2")
    yield server
    server.stop()


@pytest.fixture(params=["local", "ssh"])
def host(request: pytest.FixtureRequest) -> Iterator[Host]:
    """Each kind of host."""
    if request.param == "local":
        yield LocalHost("here")
        return
    server: Sshd = request.getfixturevalue("sshd")
    found = SSHHost("there", server.endpoints, environment="test", silence=30)
    yield found
    found.close()


def gone(pattern: str) -> bool:
    """True once no process of that command line is left."""
    return until(lambda: not runs(pattern))


def lasting() -> tuple[str, str]:
    """Return a script that lasts, and a pattern that finds its process alone."""
    seconds = f"{3000 + os.getpid() % 1000}.{time.monotonic_ns() % 10**9}"
    return f"sleep {seconds}", f"sleep {seconds}"


def test_output_comes_byte_for_byte_and_apart(host: Host) -> None:
    """No newline is added or lost, and stderr is not mixed in."""
    result = host.run(Command("printf 'a\\n\\nb'; printf '\\nc\\n\\n' >&2"))
    assert (result.status, result.stdout, result.stderr) == (0, "a\n\nb", "\nc\n\n")


def test_what_is_no_text_is_replaced(host: Host) -> None:
    """Bytes that are not UTF-8 do not break a result."""
    assert host.run(Command("printf 'a\\377b'")).stdout == "a�b"


@pytest.mark.parametrize("size", [1, 5, 70_000, 3_000_000])
def test_stdin_reaches_the_command_whole(host: Host, size: int) -> None:
    """A command reads its bytes and then the end."""
    data = bytes(range(256)) * (size // 256 + 1)
    assert host.run(Command("wc -c", stdin=data[:size])).stdout.strip() == str(size)


def test_without_stdin_a_command_reads_the_end_at_once(host: Host) -> None:
    """Nothing of the script leaks into the command's stdin."""
    assert host.run(Command("cat; echo over")).stdout == "over\n"


def test_a_batch_gives_each_command_its_own_stdin_and_result(host: Host) -> None:
    """What one command leaves unread, the next does not see."""
    results = host.run_all(
        [
            Command("head -c 3", stdin=b"abc" + b"x" * 200_000),
            Command("true", stdin=b"unread"),
            Command("cat; printf e >&2", stdin=b"second\0third"),
            Command("true"),
        ]
    )
    assert [result.stdout for result in results] == ["abc", "", "second\0third", ""]
    assert results[2].stderr == "e"


def test_a_batch_stops_behind_the_first_failure(host: Host) -> None:
    """The commands after it do not run."""
    results = host.run_all([Command("echo one"), Command("exit 7"), Command("echo never")])
    assert [(result.status, result.stdout) for result in results] == [(0, "one\n"), (7, "")]


def test_an_empty_batch_runs_nothing(host: Host) -> None:
    """No command, no result."""
    assert host.run_all([]) == ()


@pytest.mark.parametrize("script", ["if then", "echo 'open", "echo $(", "}", "case x in", "fi; echo on"])
def test_a_syntax_error_is_a_failure_of_that_command_alone(host: Host, script: str) -> None:
    """It neither hangs nor succeeds, and the host goes on."""
    results = host.run_all([Command("echo before"), Command(script, timeout=10), Command("echo after")])
    assert [result.ok for result in results] == [True, False]
    assert host.run(Command("echo still")).stdout == "still\n"


@pytest.mark.parametrize(
    ("script", "status"),
    [("exit 3", 3), ("kill -TERM $(sh -c 'echo $PPID')", 143), ("exec sh -c 'exit 9'", 9)],
)
def test_the_exit_status_is_told(host: Host, script: str, status: int) -> None:
    """For one ended by a signal it is 128 and the signal's number."""
    assert host.run(Command(script)).status == status


def test_variables_folders_and_traps_stay_in_their_command(host: Host) -> None:
    """Each command of a batch begins anew."""
    results = host.run_all(
        [Command("cd /; kept=1; trap 'echo left' EXIT; set -eu"), Command('echo "${kept:-unset}"; pwd')]
    )
    assert results[0].stdout == "left\n"
    assert results[1].stdout.startswith("unset\n")
    assert results[1].stdout != "unset\n/\n" or Path.cwd() == Path("/")


def test_a_command_that_prints_its_shell_does_not_end_its_frame(host: Host) -> None:
    """The markers are not among the variables, nor in what `ps` shows."""
    results = host.run_all([Command("set; ps -eo args 2>/dev/null || true"), Command("echo next")])
    assert [result.ok for result in results] == [True, True]
    assert results[1].stdout == "next\n"


def test_nothing_of_a_command_is_an_argument(host: Host) -> None:
    """Neither script nor stdin stands in the process list."""
    needle = f"needle{time.monotonic_ns()}"
    shown = host.run(Command(f"cat /proc/[0-9]*/cmdline; : {needle}", stdin=needle.encode()))
    assert needle not in shown.stdout.replace("\0", " ")


def test_a_process_in_the_background_holds_nothing_up(host: Host) -> None:
    """The end of the command counts, not that of its streams."""
    script, pattern = lasting()
    assert host.run(Command(f"{script} & echo started", timeout=60)).stdout == "started\n"
    host.run(Command(f"pkill -f '[s]{pattern[1:]}'"))


def test_a_command_over_its_time_is_ended(host: Host) -> None:
    """TimedOut is raised once the far side is rid of it and of its children."""
    script, pattern = lasting()
    with pytest.raises(TimedOut, match=r"longer than 0\.5 s"):
        host.run(Command(f"({script}); true", timeout=0.5))
    assert gone(pattern)


def test_a_command_that_ignores_the_term_signal_is_killed(host: Host) -> None:
    """After three seconds of grace."""
    script, pattern = lasting()
    cancellation = Cancellation()
    with pytest.raises(Cancelled):
        host.with_cancellation(cancellation).follow(
            Command(f"trap '' TERM; echo trapped; {script}; {script}", timeout=None),
            lambda data: cancellation.cancel(),
        )
    assert gone(pattern)


def test_a_cancellation_ends_what_runs(host: Host) -> None:
    """Cancelled is raised soon, the far side is rid of the command, and nothing new starts."""
    script, pattern = lasting()
    cancellation = Cancellation()
    own = host.with_cancellation(cancellation)
    cancelled_at: list[float] = []

    def cancel() -> None:
        until(lambda: runs(pattern))
        cancelled_at.append(time.monotonic())
        cancellation.cancel()

    threading.Thread(target=cancel, daemon=True).start()
    with pytest.raises(Cancelled):
        own.run(Command(script, timeout=None))
    assert time.monotonic() - cancelled_at[0] < 30
    assert gone(pattern)
    with pytest.raises(Cancelled):
        own.run(Command("true"))
    assert host.run(Command("echo the rollback runs")).ok


def test_a_stream_comes_whole_in_small_chunks(host: Host) -> None:
    """Chunks are of 256 KiB at most."""
    with host.stream_out(Command("head -c 20000000 /dev/zero")) as chunks:
        sizes = [len(chunk) for chunk in chunks]
    assert sum(sizes) == 20_000_000
    assert max(sizes) <= 256 * 1024


def test_a_stream_that_fails_says_so_at_its_end(host: Host) -> None:
    """The bytes come first, then CommandFailed with what stood on stderr."""
    with host.stream_out(Command("printf part; echo no such table >&2; exit 4")) as chunks:
        seen = next(chunks)
        with pytest.raises(CommandFailed, match="no such table"):
            next(chunks)
    assert seen == b"part"


def test_a_stream_that_nobody_reads_on_is_ended(host: Host) -> None:
    """Leaving early ends the command on the far side."""
    _, pattern = lasting()
    with host.stream_out(Command(f"yes {pattern}", timeout=None)) as chunks:
        next(chunks)
    assert gone(f"yes {pattern}")


def test_what_a_stream_says_beside_its_data_is_handed_over(host: Host) -> None:
    """Byte for byte, also where the data is much more."""
    told: list[bytes] = []
    script = "head -c 3000000 /dev/zero; printf 'counts \\377' >&2"
    with host.stream_out(Command(script), told.append) as chunks:
        assert sum(map(len, chunks)) == 3_000_000
    assert b"".join(told) == b"counts \377"


def test_a_stream_ends_with_the_process_that_listened(host: Host, request: pytest.FixtureRequest) -> None:
    """Killed without a chance to say so; what says nothing itself would else go on for ever."""
    script, _ = lasting()
    pattern = f"^{script}$"  # not the listener, whose argument holds it too
    made = "LocalHost('here')"
    if isinstance(host, SSHHost):
        endpoints = request.getfixturevalue("sshd").endpoints()
        made = f"SSHHost('there', lambda: {endpoints!r})"
    source = (
        "from pathlib import PosixPath\nfrom ops.commands import Command\nfrom ops.hosts.local import LocalHost\n"
        "from ops.hosts.route import Endpoint\nfrom ops.hosts.ssh import SSHHost\n"
        f"with {made}.stream_out(Command({script!r}, timeout=None)) as chunks:\n    list(chunks)\n"
    )
    with subprocess.Popen([sys.executable, "-c", source]) as listening:
        assert until(lambda: runs(pattern))
        listening.kill()
    assert gone(pattern)


def test_a_stream_goes_in_whole(host: Host) -> None:
    """The command reads all chunks, then the end."""
    result = host.stream_in(Command("sha256sum"), [b"x" * 300_000, b"", b"y" * 10] * 20)
    assert result.stdout.split()[0] == hashlib.sha256((b"x" * 300_000 + b"y" * 10) * 20).hexdigest()


def test_a_source_that_breaks_does_not_look_like_an_end(host: Host, tmp_path: Path) -> None:
    """The command is ended instead of being told that its input is complete."""
    mark = tmp_path / "complete"

    def source() -> Iterator[bytes]:
        yield b"half"
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        host.stream_in(Command(f"cat >/dev/null && touch {mark}"), source())
    assert not mark.exists()


def test_a_command_that_stops_reading_ends_the_stream(host: Host) -> None:
    """Its status comes without the rest being sent."""
    sent = []

    def endless() -> Iterator[bytes]:
        while True:
            sent.append(1)
            yield b"z" * 262_144

    assert host.stream_in(Command("head -c 10 >/dev/null; exit 5"), endless()).status == 5
    assert len(sent) < 200


def test_following_hands_over_what_comes_when_it_comes(host: Host, tmp_path: Path) -> None:
    """Not only at the end: the command goes on once its first line was seen."""
    seen = tmp_path / "seen"
    status = host.follow(
        Command(f"echo one; until [ -e {seen} ]; do sleep 0.05; done; echo two; exit 3", timeout=60),
        lambda data: seen.touch(),
    )
    assert status == 3


@pytest.mark.parametrize("content", [b"", b"\0\xff\n", b"x" * 2_000_000])
def test_a_file_that_is_put_comes_back_the_same(host: Host, tmp_path: Path, content: bytes) -> None:
    """Folders on the way are made, the mode is as asked, nothing is left beside it."""
    path = tmp_path / "a b" / "it's $HOME"
    host.put(content, str(path), mode=0o600)
    assert host.get(str(path)) == content
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["it's $HOME"]


def test_a_file_that_cannot_be_put_leaves_nothing(host: Host, tmp_path: Path) -> None:
    """A folder in its place is not written into."""
    (tmp_path / "folder").mkdir()
    with pytest.raises(CommandFailed):
        host.put(b"new", str(tmp_path / "folder"))
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder"]
    assert not list((tmp_path / "folder").iterdir())


def test_a_file_that_is_not_there_is_an_error(host: Host) -> None:
    """It names the file."""
    with pytest.raises(CommandFailed, match="/nowhere/at all"):
        host.get("/nowhere/at all")


@pytest.fixture
def web(tmp_path: Path) -> Iterator[int]:
    """A web server on 127.0.0.1 that answers with its path, in a body of the length that is asked."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b"w" * int(self.path[1:])
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            """Silent."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server.server_port
    server.shutdown()


def fetch(connection: http.client.HTTPConnection, size: int) -> int:
    connection.request("GET", f"/{size}")
    return len(connection.getresponse().read())


def test_an_http_client_speaks_through_a_connection(host: Host, web: int) -> None:
    """It works as the socket of http.client."""
    client = http.client.HTTPConnection("127.0.0.1", web)
    client.sock = host.connect("127.0.0.1", web)  # type: ignore[assignment]  # the part that it uses
    assert fetch(client, 5_000_000) == 5_000_000
    client.close()


def test_a_refused_connection_is_told_as_such(host: Host) -> None:
    """As the socket module does."""
    with pytest.raises(ConnectionRefusedError):
        host.connect("127.0.0.1", 9)


def test_all_verbs_may_be_called_from_many_threads(host: Host) -> None:
    """Also more of them than sshd grants sessions."""
    answers: dict[int, str] = {}

    def ask(number: int) -> None:
        answers[number] = host.run(command("echo", f"{number}")).stdout

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {number: f"{number}\n" for number in range(20)}


def test_a_closed_host_opens_again(host: Host) -> None:
    """At the next verb."""
    host.run(Command("true"))
    host.close()
    assert host.run(Command("echo again")).stdout == "again\n"


def test_output_is_collected_in_linear_time(host: Host) -> None:
    """16 MB of output take this process no more than a few times the work that 2 MB take."""

    def seconds(work: Callable[[], object]) -> float:
        began = time.process_time()
        work()
        return time.process_time() - began

    host.run(Command("true"))
    small = min(seconds(lambda: host.run(Command("head -c 2000000 /dev/zero"))) for _ in range(3))
    large = min(seconds(lambda: host.run(Command("head -c 16000000 /dev/zero"))) for _ in range(3))
    assert large < max(0.5, 24 * small)


def test_two_that_time_out_at_once_are_both_ended(host: Host) -> None:
    """Also where sshd grants no third session to end them from."""
    pairs = [lasting() for _ in range(2)]
    raised: list[OpsError] = []

    def run(script: str) -> None:
        try:
            host.run(Command(script, timeout=0.5))
        except OpsError as error:
            raised.append(error)

    threads = [threading.Thread(target=run, args=(script,)) for script, _ in pairs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(90)
    assert [type(error) for error in raised] == [TimedOut, TimedOut], raised
    assert all(gone(pattern) for _, pattern in pairs)


def test_a_shell_that_is_killed_never_gives_a_status(host: Host) -> None:
    """What became of the command is not known, and the error says so."""
    with pytest.raises(ConnectionLost):
        host.run(Command("kill -9 $$"))


def test_a_terminal_command_has_the_persons_terminal(host: Host) -> None:
    """Its window has the same size, what is typed reaches it, and its exit status comes back."""
    seen = bytearray()
    pid, master = pty.fork()
    if pid == 0:
        try:
            fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 77, 0, 0))
            os.environ.pop("COLUMNS", None)
            os.environ.pop("LINES", None)
            sys.stdin, sys.stdout = os.fdopen(0), os.fdopen(1, "w")
            host.close()  # a connection does not survive the fork
            os._exit(
                host.terminal(Command("test -t 0; echo tty $?; stty size; read word; echo got $word; exit 7"))
            )
        finally:
            os._exit(99)
    deadline = time.monotonic() + 60
    typed = False
    while True:
        if not select.select([master], [], [], max(0.0, deadline - time.monotonic()))[0]:
            os.kill(pid, signal.SIGKILL)
            break
        try:
            seen += os.read(master, 4096)
        except OSError:
            break
        if not typed and b"33 77" in seen:
            os.write(master, b"hello\n")
            typed = True
    _, status = os.waitpid(pid, 0)
    os.close(master)
    assert b"tty 0" in seen
    assert b"got hello" in seen
    assert os.waitstatus_to_exitcode(status) == 7

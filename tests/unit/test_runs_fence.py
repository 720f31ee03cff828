"""A server refuses the changes of a run that another has overtaken."""

import subprocess

import pytest
from shells import ShellHost, run

from ops.commands import Command
from ops.engines.layout import Layout
from ops.errors import Locked, OpsError
from ops.runs.fence import BUSY, FENCED, Fence, FencedHost, raise_fence


@pytest.fixture
def layout(tmp_path):
    return Layout(str(tmp_path / "it's here"), "shop", "production")


@pytest.fixture
def root(layout, tmp_path):
    return tmp_path / "it's here" / "shop" / "production"


@pytest.fixture
def server(layout, shell):
    """A server that has accepted the runs 3 and, after it, 7."""

    class Server:
        old = FencedHost(ShellHost("web1", shell), layout, Fence(3, "run-3"))
        new = FencedHost(ShellHost("web1", shell), layout, Fence(7, "run-7"))

        @staticmethod
        def accept(token):
            return run(raise_fence(layout, Fence(token, f"run-{token}")), shell)

    Server.accept(3)
    return Server


def write(path):
    return Command(
        f"echo written > '{str(path).replace(chr(39), chr(39) + chr(92) + chr(39) * 2)}'", changes="a file"
    )


class TestRaising:
    """The fence goes up, never down."""

    def test_a_server_accepts_a_later_run_and_knows_it(self, server, root):
        assert server.accept(7).ok
        assert (root / "fence").read_text() == "7 run-7\n"

    @pytest.mark.parametrize("token", [1, 2, 3])
    def test_a_server_refuses_an_earlier_run_and_the_same_one(self, server, root, token):
        assert server.accept(token).status == FENCED
        assert (root / "fence").read_text() == "3 run-3\n"

    def test_numbers_count_not_letters(self, server):
        assert server.accept(10).ok
        assert server.accept(9).status == FENCED

    def test_a_server_that_knew_nothing_gets_the_folders_of_a_deploy(self, server, root):
        assert {"files", "releases", "shared", "proxy"} <= {path.name for path in root.iterdir()}

    def test_a_server_that_cannot_be_written_to_says_so(self, tmp_path):
        (tmp_path / "shop").write_text("a file in the way")
        result = run(raise_fence(Layout(str(tmp_path), "shop", "production"), Fence(1, "run-1")))
        assert result.status == 1


class TestGuard:
    """Changing commands pass the fence, reading ones pass anyway."""

    def test_the_accepted_run_changes(self, server, root):
        assert server.old.run(write(root / "made")).ok
        assert (root / "made").exists()

    def test_a_run_that_was_overtaken_changes_nothing(self, server, root):
        server.accept(7)
        with pytest.raises(Locked, match="another run has taken over"):
            server.old.run(write(root / "made"))
        assert not (root / "made").exists()

    def test_a_run_that_was_overtaken_still_reads(self, server):
        server.accept(7)
        assert server.old.run(Command("echo read")).stdout == "read\n"

    def test_in_a_batch_what_stands_behind_the_refusal_does_not_run(self, server, root):
        server.accept(7)
        with pytest.raises(Locked):
            server.old.run_all([Command("true"), write(root / "one"), write(root / "two")])
        assert not (root / "one").exists()
        assert not (root / "two").exists()

    def test_a_server_that_never_accepted_the_run_refuses_it(self, server, root):
        with pytest.raises(Locked):
            server.new.run(write(root / "made"))

    def test_stdin_reaches_a_guarded_command_whole(self, server):
        data = bytes(range(256)) * 4096
        result = server.old.run(Command("sha256sum", stdin=data, changes="x"))
        expected = subprocess.run(["sha256sum"], input=data, capture_output=True, check=True).stdout.decode()
        assert result.stdout == expected

    def test_the_status_of_a_guarded_command_is_its_own(self, server):
        assert server.old.run(Command("echo no >&2; exit 7", changes="x")).status == 7

    def test_a_later_run_waits_for_a_command_under_way(self, server, root, layout, shell):
        """The command holds the fence's lock until the test lets it go on."""
        (root / "go").mkdir()
        guarded = server.old._guard(
            Command(f"cd {layout_word(root)}; touch begun; while [ -d go ]; do sleep 0.01; done", changes="x")
        )
        process = subprocess.Popen([shell, "-c", guarded.script])
        while not (root / "begun").exists():
            assert process.poll() is None
        waiting = subprocess.Popen([shell, "-c", raise_fence(layout, Fence(7, "run-7")).script])
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(0.1)
        assert (root / "fence").read_text() == "3 run-3\n"
        (root / "go").rmdir()
        assert waiting.wait(10) == 0
        assert process.wait(10) == 0

    def test_people_see_the_command_and_not_its_guard(self, server):
        shown = server.old._guard(Command("rm x", changes="x")).shown
        assert shown == "rm x"
        assert server.old._guard(Command("rm x", changes="x", title="remove x")).shown == "remove x"


def layout_word(path):
    return "'" + str(path).replace("'", "'\\''") + "'"


class TestPut:
    """A file through the fence."""

    def test_it_is_written_with_its_mode(self, server, root):
        server.old.put(b"text", f"{root}/a file", mode=0o600)
        assert (root / "a file").read_bytes() == b"text"
        assert (root / "a file").stat().st_mode & 0o777 == 0o600

    def test_a_file_that_cannot_be_written_is_an_error(self, server, root):
        (root / "in the way").write_text("")
        with pytest.raises(OpsError, match=r"write .*/in the way/file failed"):
            server.old.put(b"text", f"{root}/in the way/file")

    def test_its_folder_is_made(self, server, root):
        server.old.put(b"text", f"{root}/deep/er/file")
        assert (root / "deep" / "er" / "file").read_bytes() == b"text"

    def test_a_run_that_was_overtaken_writes_none(self, server, root):
        server.accept(7)
        with pytest.raises(Locked):
            server.old.put(b"text", f"{root}/file")
        assert not (root / "file").exists()


def test_the_two_refusals_are_told_apart():
    assert FENCED != BUSY

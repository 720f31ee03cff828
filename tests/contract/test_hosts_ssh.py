"""What only SSH can get wrong: host keys, keys, jumps, silence, forwarding. Against a throw-away sshd."""

from __future__ import annotations

import getpass
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import paramiko
import pytest
from sshd import Sshd, keygen, missing, runs, until

from ops.commands import Command
from ops.errors import ConfigError, OpsError, Unreachable
from ops.hosts import Cancellation, Cancelled, ConnectionLost
from ops.hosts.dial import scan
from ops.hosts.known_hosts import judge, record
from ops.hosts.route import Endpoint
from ops.hosts.ssh import SSHHost

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "sshd is there")

Start = Callable[..., Sshd]

# What `nc HOST PORT` does, on machines that have none.
RELAY = """\
import os, socket, sys, threading
there = socket.create_connection((sys.argv[1], int(sys.argv[2])))
def back():
    while data := there.recv(65536):
        os.write(1, data)
threading.Thread(target=back, daemon=True).start()
while data := os.read(0, 65536):
    there.sendall(data)
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start sshds with the options given."""
    started: list[Sshd] = []

    def begin(*options: str) -> Sshd:
        started.append(Sshd(tmp_path / f"sshd{len(started)}", *options))
        return started[-1]

    yield begin
    for server in started:
        server.signal(signal.SIGCONT)
        server.stop()


@pytest.fixture
def opened() -> Iterator[Callable[..., SSHHost]]:
    """Make hosts that are closed in the end."""
    hosts: list[SSHHost] = []

    def make(
        endpoints: tuple[Endpoint, ...], silence: float = 30, cancellation: Cancellation | None = None
    ) -> SSHHost:
        hosts.append(
            SSHHost("web1", lambda: endpoints, environment="prod", silence=silence, cancellation=cancellation)
        )
        return hosts[-1]

    yield make
    for host in hosts:
        host.close()


def test_an_unknown_host_key_is_refused_with_fingerprint_and_command(
    start: Start, opened: Callable[..., SSHHost]
) -> None:
    """The fingerprint is the one that ssh-keygen shows."""
    server = start()
    server.known_hosts.write_text("")
    with pytest.raises(Unreachable) as caught:
        opened(server.endpoints()).run(Command("true"))
    shown = subprocess.run(
        ["ssh-keygen", "-lf", server.folder / "host_ed25519.pub"], capture_output=True, text=True, check=True
    ).stdout.split()[1]
    assert shown in caught.value.message
    assert "inv servers.trust --env prod --server web1" in (caught.value.next_step or "")
    assert caught.value.exit_code == 6


def test_a_changed_host_key_is_refused_as_a_possible_attack(
    start: Start, opened: Callable[..., SSHHost]
) -> None:
    """The next step replaces the line."""
    server, other = start(), start()
    words = (other.folder / "host_ed25519.pub").read_text().split()[:2]
    server.known_hosts.write_text(f"[127.0.0.1]:{server.port} {' '.join(words)}\n")
    with pytest.raises(Unreachable, match="may be an attack") as caught:
        opened(server.endpoints()).run(Command("true"))
    assert (caught.value.next_step or "").endswith("--replace")


def test_a_host_known_by_its_other_key_is_asked_for_that_one(
    start: Start, opened: Callable[..., SSHHost]
) -> None:
    """An ecdsa line alone is enough, though the server prefers ed25519."""
    server = start()
    server.trust("ecdsa")
    assert opened(server.endpoints()).run(Command("true")).ok


def test_hashed_names_are_known(start: Start, opened: Callable[..., SSHHost]) -> None:
    """As `ssh-keygen -H` writes them; a name that is recorded then is hashed too."""
    server = start()
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", server.known_hosts], check=True, capture_output=True)
    assert opened(server.endpoints()).run(Command("true")).ok
    (target,) = server.endpoints()
    key = scan("web1", (target,), "prod")
    record(server.known_hosts, "other", key)
    assert "other" not in server.known_hosts.read_text()
    assert judge([server.known_hosts], "other", key) == "known"


def test_a_scan_shows_a_key_without_trusting_it(start: Start) -> None:
    """Nothing is written."""
    server = start()
    server.known_hosts.write_text("")
    key = scan("web1", server.endpoints(), "prod")
    assert key.kind == "ssh-ed25519"
    assert key.body in (server.folder / "host_ed25519.pub").read_text()
    assert server.known_hosts.read_text() == ""


def test_a_wrong_key_is_told_with_the_user_and_the_key(start: Start, opened: Callable[..., SSHHost]) -> None:
    """And ends with the exit code for unreachable servers."""
    server = start()
    keygen("-t", "ed25519", "-f", str(server.folder / "stranger"))
    with pytest.raises(Unreachable, match="stranger: not accepted") as caught:
        opened(server.endpoints(key=str(server.folder / "stranger"))).run(Command("true"))
    assert getpass.getuser() in caught.value.message
    assert caught.value.exit_code == 6


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
@pytest.mark.parity("D15")
def test_a_key_may_stand_in_a_variable(
    start: Start, opened: Callable[..., SSHHost], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of any type."""
    server = start()
    keygen("-t", kind, *(("-b", "2048") if kind == "rsa" else ()), "-f", str(server.folder / "ci"))
    (server.folder / "authorized_keys").write_text((server.folder / "ci.pub").read_text())
    monkeypatch.setenv("CI_KEY", (server.folder / "ci").read_text().rstrip("\n"))
    assert opened(server.endpoints(key="env:CI_KEY")).run(Command("true")).ok


def test_a_variable_without_key_is_a_mistake_of_the_configuration(start: Start) -> None:
    """Found before anything is dialled."""
    with pytest.raises(ConfigError, match="NO_SUCH_KEY"):
        start().endpoints(key="env:NO_SUCH_KEY")


def test_an_encrypted_key_without_agent_is_told_as_such(
    start: Start, opened: Callable[..., SSHHost], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next step is ssh-add."""
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    server = start()
    keygen("-t", "ed25519", "-f", str(server.folder / "locked"), passphrase="secret words")
    with pytest.raises(Unreachable, match="is encrypted") as caught:
        opened(server.endpoints(key=str(server.folder / "locked"))).run(Command("true"))
    assert "ssh-add" in (caught.value.next_step or "")


def test_the_agent_holds_a_key_that_is_encrypted_on_disk(
    start: Start, opened: Callable[..., SSHHost], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It is found by its public half, also without a .pub file."""
    server = start()
    keygen("-t", "ed25519", "-f", str(server.folder / "locked"))
    (server.folder / "authorized_keys").write_text((server.folder / "locked.pub").read_text())
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", tmp_path / "agent"], stdout=subprocess.DEVNULL)
    try:
        assert until((tmp_path / "agent").exists)
        monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
        subprocess.run(["ssh-add", "-q", server.folder / "locked"], check=True)
        subprocess.run(
            ["ssh-keygen", "-q", "-p", "-P", "", "-N", "secret words", "-f", server.folder / "locked"],
            check=True,
            capture_output=True,
        )
        (server.folder / "locked.pub").unlink()
        assert opened(server.endpoints(key=str(server.folder / "locked"))).run(Command("true")).ok
    finally:
        agent.terminate()
        agent.wait()


def test_a_port_where_nothing_listens_is_told_with_the_address(
    start: Start, opened: Callable[..., SSHHost]
) -> None:
    """What was tried stands in the message."""
    server = start()
    endpoints = server.endpoints()
    server.stop()
    with pytest.raises(Unreachable, match=rf"{getpass.getuser()}@127\.0\.0\.1:{server.port}: .*refused"):
        opened(endpoints).run(Command("true"))


@pytest.fixture
def mute(start: Start) -> Iterator[tuple[Endpoint, socket.socket]]:
    """A way to a port that takes connections and is never heard of again, and its socket."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        (target,) = start().endpoints()
        yield Endpoint(**{**vars(target), "port": listening.getsockname()[1]}), listening


def test_a_server_that_says_nothing_is_given_up(
    opened: Callable[..., SSHHost], mute: tuple[Endpoint, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the time that a banner may take, which is what the message says."""
    monkeypatch.setattr("ops.hosts.dial.CONNECT", 1.0)
    with pytest.raises(Unreachable, match="no answer within 1 s"):
        opened((mute[0],)).run(Command("true"))


def test_a_server_that_hangs_up_at_once_is_told_as_such(
    opened: Callable[..., SSHHost], mute: tuple[Endpoint, socket.socket]
) -> None:
    """As sshd does with too many connections that are not logged in yet."""
    target, listening = mute
    threading.Thread(target=lambda: listening.accept()[0].close(), daemon=True).start()
    with pytest.raises(Unreachable, match="closed the connection during the handshake"):
        opened((target,)).run(Command("true"))


def test_a_cancellation_does_not_wait_for_a_server_that_says_nothing(
    opened: Callable[..., SSHHost], mute: tuple[Endpoint, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even while the connection is made."""
    monkeypatch.setattr("ops.hosts.dial.CONNECT", 90.0)
    (target, listening), cancellation = mute, Cancellation()
    accepted: list[socket.socket] = []

    def cancel() -> None:
        accepted.append(listening.accept()[0])
        cancellation.cancel()

    threading.Thread(target=cancel, daemon=True).start()
    began = time.monotonic()
    with pytest.raises(Cancelled):
        opened((target,), cancellation=cancellation).run(Command("true"))
    assert time.monotonic() - began < 60


@pytest.mark.parametrize("by", ["ops.toml", "ssh_config"])
def test_a_server_behind_a_jump_host_is_reached(
    start: Start, opened: Callable[..., SSHHost], by: str
) -> None:
    """Both host keys are checked, and commands, streams and tunnels work through it."""
    jump, server = start(), start()
    server.known_hosts.write_text(server.known_hosts.read_text() + jump.known_hosts.read_text())
    (server.folder / "authorized_keys").write_text((server.folder / "id.pub").read_text())
    (jump.folder / "authorized_keys").write_text((server.folder / "id.pub").read_text())
    hop = f"{getpass.getuser()}@127.0.0.1:{jump.port}"
    if by == "ops.toml":
        endpoints = server.endpoints(jump=hop)
    else:
        endpoints = server.endpoints(
            config=f'Match host 127.0.0.1 exec "test %p = {server.port}"\n  ProxyJump {hop}'
        )
    assert len(endpoints) == 2
    host = opened(endpoints)
    assert host.run(Command('echo "${SSH_CONNECTION##* }"')).stdout.strip() == str(server.port)
    assert host.connect("127.0.0.1", server.port).recv(4) == b"SSH-"


def test_a_server_behind_a_command_is_reached(
    start: Start, opened: Callable[..., SSHHost], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked for no more than is needed: paramiko reads from it until it has as much as it was asked for."""
    asked: list[int] = []

    class Recorded(paramiko.ProxyCommand):
        def recv(self, size: int) -> bytes:
            asked.append(size)
            return super().recv(size)  # type: ignore[no-any-return]

    monkeypatch.setattr(paramiko, "ProxyCommand", Recorded)
    server = start()
    relay = server.folder / "relay.py"
    relay.write_text(RELAY)
    command = f"{sys.executable} {relay} %h %p"
    host = opened(
        server.endpoints(config=f"Host 127.0.0.1\n  ProxyCommand {command}"),
    )
    assert host.run(Command("echo here")).stdout == "here\n"
    assert 0 < max(asked, default=0) < 100_000


def test_an_unknown_jump_host_is_refused(start: Start, opened: Callable[..., SSHHost]) -> None:
    """Its key is checked as the server's own."""
    jump, server = start(), start()
    (jump.folder / "authorized_keys").write_text((server.folder / "id.pub").read_text())
    endpoints = server.endpoints(jump=f"{getpass.getuser()}@127.0.0.1:{jump.port}")
    with pytest.raises(Unreachable, match=rf"\[127\.0\.0\.1\]:{jump.port} is not known"):
        opened(endpoints).run(Command("true"))


def frozen(
    server: Sshd, work: Callable[[], object], waits: Callable[[], object]
) -> tuple[float, BaseException | None]:
    """Stop sshd once `work` waits; return how long that took to be noticed, and as what."""
    caught: list[BaseException] = []

    def do() -> None:
        try:
            work()
        except BaseException as error:
            caught.append(error)

    thread = threading.Thread(target=do, daemon=True)
    thread.start()
    assert until(waits), caught
    server.signal(signal.SIGSTOP)
    began = time.monotonic()
    thread.join(60)
    assert not thread.is_alive()
    return time.monotonic() - began, caught[0] if caught else None


def wait_for_a_tunnel(host: SSHHost, mark: Path) -> None:
    """Wait at a tunnel for what the other end never says."""
    with socket.create_server(("127.0.0.1", 0)) as quiet:
        tunnel = host.connect("127.0.0.1", quiet.getsockname()[1], timeout=60)
        with quiet.accept()[0]:
            mark.touch()
            tunnel.recv(1)


@pytest.mark.parametrize(
    "verb",
    [
        pytest.param(
            lambda host, mark: host.run(Command(f"touch {mark}; sleep 90", timeout=None)),
            id="a command that waits",
        ),
        pytest.param(
            lambda host, mark: host.run(
                Command(f"touch {mark}; cat >/dev/null", stdin=bytes(10**9), timeout=None)
            ),
            id="stdin",
        ),
        pytest.param(wait_for_a_tunnel, id="a tunnel"),
    ],
)
def test_a_server_that_freezes_is_noticed_in_bounded_time(
    start: Start, opened: Callable[..., SSHHost], verb: Callable[[SSHHost, Path], object], tmp_path: Path
) -> None:
    """Whatever waits then ends with ConnectionLost, after `silence` seconds and not much later."""
    server, mark = start(), tmp_path / "mark"
    host = opened(server.endpoints(), silence=3)
    host.run(Command("true"))
    seconds, error = frozen(server, lambda: verb(host, mark), mark.exists)
    assert seconds < 30
    assert isinstance(error, (ConnectionLost, ConnectionError)) or (error is None)


def test_a_server_that_only_works_in_silence_is_not_given_up(
    start: Start, opened: Callable[..., SSHHost]
) -> None:
    """It answers the probes, though the command writes nothing."""
    host = opened(start().endpoints(), silence=3)
    assert host.run(Command("sleep 6")).ok


def test_a_connection_that_is_cut_is_told_as_lost(start: Start, opened: Callable[..., SSHHost]) -> None:
    """Never as an exit status; the next verb connects anew."""
    server = start()
    host = opened(server.endpoints())
    lasting = f"sleep 9{server.port}"

    def cut() -> None:
        until(lambda: runs(lasting))
        for pid in server.sessions()[1:]:
            subprocess.run(["kill", "-9", str(pid)], check=False, stderr=subprocess.DEVNULL)

    cutting = threading.Thread(target=cut)
    cutting.start()
    with pytest.raises(ConnectionLost, match="the connection broke while this ran"):
        host.run(Command(lasting))
    cutting.join()
    assert host.run(Command("echo anew")).stdout == "anew\n"


def test_a_connection_that_died_idle_is_made_anew(start: Start, opened: Callable[..., SSHHost]) -> None:
    """Also for several commands that find out at once."""
    server = start()
    host = opened(server.endpoints())
    answers: list[object] = []

    def ask() -> None:
        try:
            answers.append(host.run(Command("echo anew")).stdout)
        except Unreachable as error:
            answers.append(error)

    for _ in range(5):
        host.run(Command("true"))
        threads = [threading.Thread(target=ask) for _ in range(4)]
        for pid in server.sessions()[1:]:
            subprocess.run(["kill", "-9", str(pid)], check=False, stderr=subprocess.DEVNULL)
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert answers == ["anew\n"] * 20


def test_refusals_at_once_are_each_told_as_their_own(
    start: Start, opened: Callable[..., SSHHost], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A port that may not be reached, one where nobody listens, and a session too many, on one connection."""
    monkeypatch.setattr("ops.hosts.link._SESSION_RETRY", 0.0)
    port = free_port()
    host = opened(start("MaxSessions 0", f"PermitOpen 127.0.0.1:{port}").endpoints())
    kinds: dict[str, tuple[Callable[[], object], type[Exception]]] = {
        "forbidden": (lambda: host.connect("127.0.0.1", 9), OpsError),
        "closed": (lambda: host.connect("127.0.0.1", port), ConnectionRefusedError),
        "session": (lambda: host.run(Command("true")), Unreachable),
    }
    told: dict[str, set[type[Exception]]] = {name: set() for name in kinds}
    together = threading.Barrier(6, timeout=60)

    def ask(name: str) -> None:
        for _ in range(20):
            together.wait()
            try:
                kinds[name][0]()
            except Exception as error:
                told[name].add(type(error))

    threads = [threading.Thread(target=ask, args=(name,)) for name in (*kinds, *kinds)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(90)
    assert told == {name: {expected} for name, (_, expected) in kinds.items()}


def test_forwarding_that_is_forbidden_is_named(start: Start, opened: Callable[..., SSHHost]) -> None:
    """Both ways, with the setting that allows it."""
    host = opened(start("AllowTcpForwarding no").endpoints())
    with pytest.raises(OpsError) as caught:
        host.connect("127.0.0.1", 9)
    assert "AllowTcpForwarding" in (caught.value.next_step or "")
    with pytest.raises(OpsError) as refused, host.expose(1, 2):
        pass
    assert "AllowTcpForwarding" in (refused.value.next_step or "")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def echo_server() -> Iterator[int]:
    """Give a port whose connections get back what they send, until they end."""

    def serve(connection: socket.socket) -> None:
        with connection:
            while data := connection.recv(65536):
                connection.sendall(data)

    def accept() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        try:
            yield listening.getsockname()[1]
        finally:
            listening.shutdown(socket.SHUT_RDWR)  # closing alone leaves the thread where it waits
            accepting.join(60)


def exchanged(port: int, data: bytes) -> bytes:
    """Send data to a port and return what comes back, up to the end."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        threading.Thread(
            target=lambda: (connection.sendall(data), connection.shutdown(socket.SHUT_WR)), daemon=True
        ).start()
        found = bytearray()
        while piece := connection.recv(1 << 20):
            found += piece
        return bytes(found)


def test_an_exposed_port_carries_bytes_both_ways(start: Start, opened: Callable[..., SSHHost]) -> None:
    """Several connections at once, whole, also where one direction ends first."""
    host, port = opened(start().endpoints()), free_port()
    data = bytes(range(256)) * 20_000
    found: list[bytes] = []
    with echo_server() as target, host.expose(port, target):
        threads = [threading.Thread(target=lambda: found.append(exchanged(port, data))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert host.run(Command("echo beside it")).ok
    assert found == [data] * 4
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=60)


def test_one_port_less_leaves_the_other_exposed(start: Start, opened: Callable[..., SSHHost]) -> None:
    """They are told apart by the server's port."""
    host = opened(start().endpoints())
    first, second = free_port(), free_port()
    with echo_server() as target, host.expose(first, target):
        with host.expose(second, target):
            assert exchanged(second, b"two") == b"two"
        assert exchanged(first, b"one") == b"one"


def test_a_connection_that_was_begun_is_the_one_that_the_first_verb_uses(
    start: Start, opened: Callable[..., SSHHost]
) -> None:
    """The handshake goes on before anything is asked, and there is one connection in the end."""
    server = start()
    host = opened(server.endpoints())
    host.begin()
    assert until(lambda: "Accepted publickey" in server.log())
    host.run(Command("true"))
    assert server.log().count("Accepted publickey") == 1


def test_what_a_begun_connection_met_is_told_by_the_first_verb(
    start: Start, opened: Callable[..., SSHHost]
) -> None:
    """And the next verb tries anew."""
    server = start()
    host = opened(server.endpoints())
    known, before = server.known_hosts.read_text(), server.log()
    server.known_hosts.write_text("")
    host.begin()
    assert until(lambda: "[preauth]" in server.log().removeprefix(before))
    server.known_hosts.write_text(known)
    with pytest.raises(Unreachable, match="is not known"):
        host.run(Command("true"))
    assert host.run(Command("echo anew")).stdout == "anew\n"


def test_a_connection_that_was_begun_and_not_used_is_ended(
    start: Start, opened: Callable[..., SSHHost]
) -> None:
    """Also where it comes to stand after that."""
    server = start()
    host = opened(server.endpoints())
    host.begin()
    host.close()
    assert until(lambda: "Accepted publickey" in server.log())
    assert until(lambda: not server.sessions()[1:])


def test_round_trips_are_counted(start: Start, opened: Callable[..., SSHHost]) -> None:
    """A batch is one, whatever it holds."""
    host = opened(start().endpoints())
    host.run_all([Command("true")] * 5)
    host.run(Command("true"))
    assert host.round_trips == 2


def test_a_shell_that_is_refused_is_told_with_what_it_said(
    start: Start, opened: Callable[..., SSHHost]
) -> None:
    """Such as an account that may not log in."""
    host = opened(start("ForceCommand echo this account is for backups only; exit 1").endpoints())
    with pytest.raises(Unreachable, match="for backups only"):
        host.run(Command("true"))

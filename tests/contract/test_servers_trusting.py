"""Host keys are recorded when a person says so: against a throw-away sshd."""

from __future__ import annotations

import getpass
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sshd import Sshd, missing

from ops.commands import Command
from ops.config import Settings, load
from ops.errors import UsageError
from ops.hosts.fleet import Fleet
from ops.servers.trusting import Trusted, trust

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "sshd is there")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[], Sshd]]:
    """Start sshds that let the first one's key in."""
    started: list[Sshd] = []

    def begin() -> Sshd:
        started.append(Sshd(tmp_path / f"sshd{len(started)}"))
        allowed = (started[0].folder / "id.pub").read_text()
        (started[-1].folder / "authorized_keys").write_text(allowed)
        return started[-1]

    yield begin
    for server in started:
        server.stop()


def stack(folder: Path, server: Sshd, jump: Sshd | None = None) -> Settings:
    user = getpass.getuser()
    via = f'jump = "{user}@127.0.0.1:{jump.port}"' if jump else ""
    (folder / "compose.yaml").write_text("services: {web: {image: nginx}}\n")
    first = jump or server
    (folder / "ssh_config").write_text(
        f"Host *\n  IdentityFile {first.folder if jump is None else folder / 'sshd0'}/id\n"
    )
    (folder / "ops.toml").write_text(
        'stack = "shop"\nknown_hosts = "known"\nssh_config = "ssh_config"\n'
        f'[environments.test.servers.web1]\naddress = "127.0.0.1"\nport = {server.port}\nuser = "{user}"\n{via}\n'
    )
    return load("test", stack=str(folder))


def asked(answer: bool, seen: list[Trusted]) -> Callable[[Trusted], bool]:
    def agree(one: Trusted) -> bool:
        seen.append(one)
        return answer

    return agree


def test_a_key_is_recorded_only_when_it_is_accepted(start: Callable[[], Sshd], tmp_path: Path) -> None:
    """A no changes nothing; a yes lets the next command in; a known key is not asked about."""
    settings, seen = stack(tmp_path, start()), []  # type: ignore[var-annotated]  # filled below
    (refused,) = trust(settings, ["web1"], replace=False, agree=asked(False, seen))
    assert (refused.verdict, refused.recorded) == ("unknown", False)
    assert not (tmp_path / "known").exists()
    (recorded,) = trust(settings, ["web1"], replace=False, agree=asked(True, seen))
    assert recorded.recorded
    assert recorded.fingerprint.startswith("SHA256:")
    (known,) = trust(settings, ["web1"], replace=False, agree=asked(True, seen))
    assert (known.verdict, known.recorded, len(seen)) == ("known", False, 2)
    with Fleet(settings.config, settings.folder, "test") as fleet:
        assert fleet["web1"].run(Command("true")).ok


def test_a_changed_key_needs_to_be_replaced_by_name(start: Callable[[], Sshd], tmp_path: Path) -> None:
    """It may be an attack, and --yes is not enough."""
    server = start()
    settings = stack(tmp_path, server)
    other = (start().folder / "host_ed25519.pub").read_text().split()[:2]
    (tmp_path / "known").write_text(f"[127.0.0.1]:{server.port} {' '.join(other)}\n")
    with pytest.raises(UsageError, match="may be an attack") as caught:
        trust(settings, ["web1"], replace=False, agree=lambda _: True)
    assert "--replace" in (caught.value.next_step or "")
    (found,) = trust(settings, ["web1"], replace=True, agree=lambda _: True)
    assert found.recorded
    assert other[1] not in (tmp_path / "known").read_text()


def test_a_jump_host_comes_before_the_server_behind_it(start: Callable[[], Sshd], tmp_path: Path) -> None:
    """Each is shown under its own name; behind one that is refused nothing is asked."""
    jump, server = start(), start()
    settings, seen = stack(tmp_path, server, jump), []  # type: ignore[var-annotated]  # filled below
    assert len(trust(settings, ["web1"], replace=False, agree=asked(False, seen))) == 1
    trust(settings, ["web1"], replace=False, agree=asked(True, seen))
    names = [f"[127.0.0.1]:{one.port}" for one in (jump, jump, server)]
    assert [one.name for one in seen] == names
    with Fleet(settings.config, settings.folder, "test") as fleet:
        assert fleet["web1"].run(Command("true")).ok

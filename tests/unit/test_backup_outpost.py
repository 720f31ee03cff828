"""Schedules on the server that holds the data, which is this machine under a server's name."""

import stat
import subprocess
import tomllib
from importlib.metadata import version

import pytest
from backed import Stack
from scheduled import Machine, command_of

from ops.config import dotenv
from ops.config.writing import dotenv_text
from ops.environments import environment
from ops.errors import ConfigError, FailedUnchanged, Locked, UsageError

pytestmark = pytest.mark.parity("B16")

SERVER = "web1"
S3 = """
[backup.s3]
bucket = "shop"
access_key = "env:S3_KEY"
secret_key = "env:S3_SECRET"
"""


@pytest.fixture
def machine(tmp_path, monkeypatch):
    made = Machine(tmp_path, monkeypatch)
    made.cron()
    made.python()
    return made


@pytest.fixture
def stack(tmp_path):
    made = Stack(tmp_path)
    made.toml = made.toml.replace("servers.here", f"servers.{SERVER}")
    return made


def shop_of(stack, tmp_path, more=""):
    return stack.environment(f'[backup.local]\npath = "{tmp_path}/elsewhere"\n{more}')


def schedule(shop, do="install", **options):
    return shop.backup.schedule(on=SERVER, do=do, **options)


def test_the_very_line_takes_a_backup_on_the_server(machine, stack, tmp_path):
    """With nothing of the operator's: another folder, no variables, this server as itself."""
    machine.python(skips="nothing")
    shop = shop_of(stack, tmp_path, '[backup.keep]\ncount = 3\n[[notify]]\nkind = "log"\n')
    done = schedule(shop)
    assert (done.place, done.done, done.means) == (SERVER, "installed", "cron")
    assert machine.asked == [f"pip install --quiet --disable-pip-version-check opsbook=={version('opsbook')}"]
    line = command_of(machine.tab.read_text())
    ran = subprocess.run(
        ["env", "-i", f"HOME={tmp_path}", "sh", "-c", line], capture_output=True, check=False
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, b"", b"")
    there = environment("production", stack=str(stack.root / "schedule/stack"))
    assert len(there.backup.list().entries) == 1
    assert [entry.id for entry in shop.backup.list().entries] == [
        entry.id for entry in there.backup.list().entries
    ]
    assert there.settings.config.backup.keep.count == 3
    assert (stack.root / "schedule/stack/.ops/notify.log").exists()


def test_all_of_it_is_told_before_and_nothing_is_done(machine, stack, tmp_path, monkeypatch):
    """File by file, with no secret in it."""
    monkeypatch.setenv("S3_KEY", "a-key-of-this-shell")
    monkeypatch.setenv("S3_SECRET", "a-secret-of-this-shell")
    found = schedule(stack.environment(S3), dry_run=True)
    root = stack.root / "schedule"
    assert [(piece.path, piece.mode) for piece in found.planned] == [
        (f"{root}/venv/", "0700"),
        (f"{root}/stack/ops.toml", "0600"),
        (f"{root}/stack/.env.production", "0600"),
        ("crontab of root", "0600"),
    ]
    assert found.planned[2].content == "S3_KEY=***\nS3_SECRET=***\n"
    assert found.done == "nothing"
    assert not root.exists()
    assert not machine.tab.exists()


def test_the_server_is_itself_there_and_knows_no_other(machine, stack, tmp_path):
    """Neither addresses nor keys nor services go along."""
    stack.toml = stack.toml.replace(
        'address = "local"',
        'address = "local"\nuser = "deploy"\nkey = "env:KEY"\nsudo = false\nroles = ["db"]',
    )
    more = '[services.api]\nreplicas = 3\n[[hooks]]\non = "before"\nrun = "true"\n[secrets]\nrequired = ["DB_PASSWORD"]\n'
    schedule(shop_of(stack, tmp_path, more))
    written = tomllib.loads((stack.root / "schedule/stack/ops.toml").read_text())
    assert written["environments"]["production"] == {"servers": {SERVER: {"address": "local"}}}
    assert set(written) == {"stack", "project", "base", "lock", "backup", "datastores", "environments"}
    assert (stack.root / "schedule/stack/.env.production").read_text() == ""


def test_files_are_for_their_owner_alone_and_values_arrive_as_they_are(machine, stack, tmp_path, monkeypatch):
    """Whatever is in them."""
    odd = 'it\'s a \\ "secret" $HOME `x` #1'
    monkeypatch.setenv("PING", odd)
    schedule(shop_of(stack, tmp_path, '[backup.ping]\nurl = "env:PING"\n'))
    root = stack.root / "schedule"
    assert dotenv.read(root / "stack/.env.production") == {"PING": odd}
    for path in (root / "stack", root / "stack/ops.toml", root / "stack/.env.production"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0


def test_a_second_installation_leaves_the_environment_of_python(machine, stack, tmp_path):
    """It is the one of this version; a wheel is installed each time."""
    shop = shop_of(stack, tmp_path)
    schedule(shop)
    schedule(shop, every="6h")
    assert len(machine.asked) == 1
    assert "0 */6 * * *" in machine.tab.read_text()
    wheel = tmp_path / "opsbook-1.2.3-py3-none-any.whl"
    wheel.write_bytes(b"a wheel")
    schedule(shop, wheel=str(wheel))
    assert machine.asked[1].endswith(f"{stack.root}/schedule/{wheel.name}")
    assert (stack.root / "schedule" / wheel.name).read_bytes() == b"a wheel"


def test_with_the_last_schedule_all_of_it_goes(machine, stack, tmp_path):
    """While one is left, all stays."""
    shop = shop_of(stack, tmp_path)
    schedule(shop)
    schedule(shop, task="backup.verify", at="06:00")
    schedule(shop, do="remove", task="backup.full")
    assert (stack.root / "schedule/venv").exists()
    schedule(shop, do="remove")
    assert not (stack.root / "schedule").exists()
    assert not machine.tab.exists()


def test_nothing_is_taken_from_under_a_backup(machine, stack, tmp_path):
    """The schedule goes, the rest when that is done."""
    shop = shop_of(stack, tmp_path)
    schedule(shop)
    lock = stack.root / "locks/backup"
    lock.mkdir(parents=True)
    (lock / "heartbeat").touch()
    with pytest.raises(Locked):
        schedule(shop, do="remove")
    assert (stack.root / "schedule/venv").exists()
    assert not machine.tab.exists()
    (lock / "heartbeat").unlink()
    schedule(shop, do="remove")
    assert not (stack.root / "schedule").exists()


class TestRefusals:
    """What could not work there, before anything is put there."""

    def none_there(self, machine, stack):
        assert not (stack.root / "schedule").exists()
        assert not machine.tab.exists()

    def test_data_on_another_server(self, machine, stack, tmp_path):
        stack.toml += f'server = "{SERVER}"\n'
        more = '[environments.production]\nstate_host = "db1"\n[environments.production.servers.db1]\naddress = "local"\n'
        shop = shop_of(stack, tmp_path, more)
        with pytest.raises(UsageError, match=f"the data is on {SERVER}") as failure:
            shop.backup.schedule(on="db1", do="install")
        assert failure.value.next_step == f"add --on {SERVER}"
        self.none_there(machine, stack)

    def test_data_on_several_servers(self, machine, stack, tmp_path):
        stack.toml += f'server = "{SERVER}"\n[datastores.files.more]\npath = "more"\nserver = "db1"\n'
        more = '[environments.production]\nstate_host = "db1"\n[environments.production.servers.db1]\naddress = "local"\n'
        with pytest.raises(UsageError, match=f"the data is on db1, {SERVER}") as failure:
            schedule(shop_of(stack, tmp_path, more))
        assert "--on here" in failure.value.next_step

    def test_a_folder_beside_the_data(self, machine, stack):
        with pytest.raises(ConfigError, match="beside the data itself"):
            schedule(stack.environment())
        self.none_there(machine, stack)

    @pytest.mark.parametrize("where", ["servers", "state_host"])
    def test_writes_that_are_paused_elsewhere(self, machine, stack, tmp_path, where):
        stack.toml += f'server = "{SERVER}"\n'
        more = (
            '[environments.production]\nstate_host = "db1"\n[environments.production.servers.db1]\naddress = "local"\n'
            f'[backup]\nconsistent = true\n[backup.maintenance]\nenter = "true"\nleave = "true"\nwhere = "{where}"\n'
        )
        with pytest.raises(ConfigError, match="writes are paused on db1"):
            schedule(shop_of(stack, tmp_path, more))
        self.none_there(machine, stack)

    def test_a_profile_of_this_machine(self, machine, stack):
        with pytest.raises(ConfigError, match="profile"):
            schedule(stack.environment('[backup.s3]\nbucket = "shop"\nprofile = "mine"\n'))

    def test_a_drill(self, machine, stack, tmp_path):
        with pytest.raises(UsageError, match="operator's machine alone"):
            schedule(shop_of(stack, tmp_path), task="restore.drill")

    def test_a_python_without_its_venv(self, machine, stack, tmp_path):
        machine.python(lacks=1)
        with pytest.raises(FailedUnchanged, match="venv module") as failure:
            schedule(shop_of(stack, tmp_path))
        assert "python3-venv" in failure.value.next_step
        self.none_there(machine, stack)

    def test_a_wheel_that_is_none(self, machine, stack, tmp_path):
        with pytest.raises(UsageError, match="no wheel"):
            schedule(shop_of(stack, tmp_path), wheel=str(tmp_path))

    def test_a_backup_that_would_not_run_there(self, machine, stack, tmp_path):
        machine.python(skips="nothing")
        shop = shop_of(stack, tmp_path)
        stack.uploads.rename(stack.uploads.with_name("gone"))
        with pytest.raises(FailedUnchanged, match="cannot try the task in a dry run") as failure:
            schedule(shop)
        assert "datastore uploads" in str(failure.value)
        assert "--remove" in failure.value.left_behind
        assert not machine.tab.exists()


@pytest.mark.parametrize("text", ["", "a b", "it's", "\\", "\\'", "a\nb", 'q"$HOME`x`', "#x", " ä€ "])
def test_what_is_written_is_read_back_exactly(text):
    """By the reader of dotenv files."""
    assert dotenv.parse(dotenv_text({"NAME": text, "NEXT": "x"}), "it") == {"NAME": text, "NEXT": "x"}

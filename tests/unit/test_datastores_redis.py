"""What Redis' tools say, and where its password is found, as far as they can be judged without a server."""

import json
import os
import subprocess

import pytest
from shells import run

from ops.datastores.base import LOST, Packing
from ops.datastores.redis import Redis, counts_in
from ops.errors import FailedUnchanged

STORE = Redis("cache", "shop-production", "redis", "db1", "/opt/shop/production")
MOUNTS = [{"Type": "volume", "Destination": "/data"}]


def looked(mounts=MOUNTS, **more):
    said = {"container": "c1", "state": "running", "mounts": json.dumps(mounts), "redis_version": "7.4.1"}
    said |= {"dir": "/data", "dbfilename": "dump.rdb", "appendonly": "no", "appendfilename": "appendonly.aof"}
    said |= {"appenddirname": "appendonlydir", "role": "master", "cluster_enabled": "0", **more}
    return STORE.read("".join(f"{key}\t{value}\n" for key, value in said.items()))


class TestCounts:
    """Of the file itself."""

    def test_are_read_behind_each_database(self):
        told = "ops-db 0 251 5 0 0 2 107\nops-db 15 251 1 1 0\nops-keys 6\n"
        assert counts_in(told) == {"keys": 6, "db 0": 5, "db 15": 1}

    @pytest.mark.parametrize(
        ("content", "count"),
        [
            ("63", 63),
            ("64 64", 64),
            ("127 255", 16383),
            ("128 0 1 134 160", 100000),
            ("129 0 0 0 1 0 0 0 0", 1 << 32),
        ],
    )
    def test_have_lengths_of_every_size(self, content, count):
        assert counts_in(f"ops-db 0 251 {content} 0 0\nops-keys {count}\n")["db 0"] == count

    @pytest.mark.parametrize("line", ["ops-db 0 250 5 0", "ops-db 0 251 4 0"])
    def test_by_database_are_left_out_where_they_do_not_add_up(self, line):
        assert counts_in(f"{line}\nops-keys 5\n") == {"keys": 5}

    def test_are_none_where_nothing_was_told(self):
        assert counts_in("") == {}


class TestRefusing:
    """Before anything is touched, with the reason."""

    @pytest.mark.parametrize(
        ("facts", "reason"),
        [
            ({"role": "slave"}, "is a replica"),
            ({"cluster_enabled": "1"}, "a node of a cluster"),
            ({"dir": "/elsewhere"}, "in no volume"),
            ({"dir": "/database"}, "in no volume"),
            ({"mounts": [{"Type": "tmpfs", "Destination": "/data"}]}, "in no volume"),
            ({"state": "exited"}, "does not run"),
        ],
    )
    def test_what_a_restore_could_not_bring_back(self, facts, reason):
        command = STORE.beside({}, looked(**facts), "20260101t000000zabcd")
        assert reason in command.script
        assert "exit 1" in command.script

    def test_a_dump_of_what_does_not_run(self):
        with pytest.raises(FailedUnchanged, match="does not run"):
            STORE.streams(looked(state="exited"), Packing(), "mark")

    def test_a_file_in_no_volume_is_a_warning_to_a_backup(self):
        assert "in no volume" in looked(dir="/tmp").warnings[0]


def test_a_swap_that_was_cut_off_is_found_where_the_server_stands_still():
    found = looked(state="exited", dir="", kept="/data/ops-old-20260101t000000zabcd.half")
    assert (found.facts["dir"], found.there) == ("/data", False)


@pytest.mark.parametrize("facts", [{}, {"state": "exited", "dir": ""}, {"dir": "/elsewhere"}])
def test_kept_files_that_are_gone_are_told(tmp_path, monkeypatch, facts):
    """Wherever the server would look for them, whether it runs or not."""
    docker = '#!/bin/sh\n[ "$1" = run ] || exit 0; while [ "$1" != -c ]; do shift; done; exec sh -c "$2"\n'
    (tmp_path / "docker").write_text(docker)
    (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    tag = "20260101t000000zabcd"
    kept = tmp_path / "data" / f"ops-old-{tag}"
    mounts = [{"Type": "volume", "Destination": str(kept.parent)}]

    def told(**more):
        return run(STORE.lost({}, looked(mounts, **more), tag)).stdout

    assert told(**{"dir": str(kept.parent), **facts}) == f"{LOST}ops-old-{tag} in the volume of redis\n"
    kept.mkdir(parents=True)
    there = {"kept": str(kept)} if facts.get("state") else {"dir": str(kept.parent)}
    assert told(**{**facts, **there}) == ""


@pytest.mark.parametrize(
    ("facts", "path"),
    [
        ({}, "/data/ops-new-t/dump.rdb"),
        ({"appendonly": "yes"}, "/data/ops-new-t/appendonlydir/appendonly.aof.1.base.rdb"),
        ({"appendonly": "yes", "appenddirname": ""}, "/data/ops-new-t/appendonly.aof"),
    ],
)
def test_what_is_restored_stands_where_the_server_reads_it(facts, path):
    (incoming,) = STORE.incoming({}, looked(**facts), "t")
    assert f"cat > {path} " in incoming.command.script


class TestPassword:
    """Told to redis-cli by its environment, wherever the container has it."""

    @pytest.fixture
    def asked(self, tmp_path):
        """Return what redis-cli is told, given the words of the container's command and its environment."""

        def ask(*words, **environment):
            tools = tmp_path / "tools"
            tools.mkdir(exist_ok=True)
            listed = "".join(f"{word}\n" for word in words)
            (tmp_path / "words").write_text(listed)
            docker = (
                '#!/bin/sh\ncase "$*" in *Config.Cmd*) cat ' + str(tmp_path / "words") + ";; "
                "*Status*) echo running;; *Mounts*) printf 'container\\tc\\n';; ps*) echo c;; "
                'exec*) while [ "$1" != sh ]; do shift; done; exec "$@";; esac\n'
            )
            cli = f'#!/bin/sh\nprintf %s "$REDISCLI_AUTH" > {tmp_path}/told; echo PONG\n'
            for name, text in (("docker", docker), ("redis-cli", cli)):
                (tools / name).write_text(text)
                (tools / name).chmod(0o755)
            path = f"{tools}:{os.environ['PATH']}"
            script = STORE.look().script
            subprocess.run(
                ["sh", "-c", script], env={"PATH": path, **environment}, check=True, capture_output=True
            )
            return (tmp_path / "told").read_text()

        return ask

    @pytest.mark.parametrize(
        "words",
        [
            ("redis-server", "--requirepass", "it's $1"),
            ("sh", "-c", 'redis-server --appendonly yes --requirepass "it\'s $1" --save 60 1'),
            ("redis-server", "--requirepass", "${OWN}", "--appendonly", "yes"),
            ("sh", "-c", "exec redis-server --requirepass $OWN"),
            ("sh", "-c", 'exec redis-server --requirepass "$OWN"'),
        ],
    )
    def test_of_the_command(self, asked, words):
        assert asked(*words, OWN="it's $1") == "it's $1"

    def test_of_the_environment(self, asked):
        assert asked("redis-server", REDIS_PASSWORD="one") == "one"
        assert asked("redis-server", REDISCLI_AUTH="two", REDIS_PASSWORD="one") == "two"

    def test_of_a_file(self, asked, tmp_path):
        (tmp_path / "secret").write_text("three\n")
        assert asked("redis-server", REDIS_PASSWORD_FILE=str(tmp_path / "secret")) == "three"

    def test_of_the_configuration_file(self, asked, tmp_path):
        (tmp_path / "redis.conf").write_text('port 6379\nrequirepass "four"\n')
        assert asked("redis-server", str(tmp_path / "redis.conf")) == "four"

    def test_is_none_where_there_is_none(self, asked):
        assert asked("redis-server") == ""

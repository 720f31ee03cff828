"""The files with which ssh reaches the sandbox's servers."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from ops.sandbox.ssh_access import public_key, write_configuration, write_known_hosts

ADDRESSES = {"web1": "172.30.77.11", "web2": "172.30.77.12"}


def test_a_server_without_a_fresh_key_keeps_its_line_and_one_that_is_gone_loses_it(tmp_path: Path) -> None:
    write_known_hosts(tmp_path, ADDRESSES, {"web1": "ssh-ed25519 AAA1", "web2": "ssh-ed25519 AAA2"})
    write_known_hosts(tmp_path, {"web2": "172.30.77.12"}, {})
    assert (tmp_path / "known_hosts").read_text() == "web2.sandbox,172.30.77.12 ssh-ed25519 AAA2\n"


def test_a_server_that_was_made_anew_has_its_new_key_alone(tmp_path: Path) -> None:
    write_known_hosts(tmp_path, ADDRESSES, {"web1": "ssh-ed25519 OLD"})
    write_known_hosts(tmp_path, ADDRESSES, {"web1": "ssh-ed25519 NEW"})
    assert (tmp_path / "known_hosts").read_text() == "web1.sandbox,172.30.77.11 ssh-ed25519 NEW\n"


@pytest.mark.skipif(shutil.which("ssh") is None, reason="needs an ssh client")
def test_ssh_reads_the_configuration_even_where_the_folder_has_a_space(tmp_path: Path) -> None:
    folder = tmp_path / "my work"
    folder.mkdir()
    write_configuration(folder, ADDRESSES)
    argv = ["ssh", "-G", "-F", str(folder / "ssh_config"), "web2.sandbox"]
    read = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.splitlines()
    assert "hostname 172.30.77.12" in read
    assert "user root" in read
    assert f"identityfile {folder}/ssh_key" in read
    assert f"userknownhostsfile {folder}/known_hosts" in read
    assert "stricthostkeychecking true" in read


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="needs ssh-keygen")
def test_the_key_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    key = public_key(tmp_path)
    assert key.startswith("ssh-ed25519 ")
    assert public_key(tmp_path) == key
    assert (tmp_path / "ssh_key").stat().st_mode & 0o077 == 0

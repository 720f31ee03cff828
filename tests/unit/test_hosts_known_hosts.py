"""known_hosts files as OpenSSH reads them, and lines written without harm to the others."""

from __future__ import annotations

import base64
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.hosts.known_hosts import HostKey, judge, key_types, record


def key(kind="ssh-ed25519", seed=b"a"):
    return HostKey(kind, base64.b64encode(b"\0\0\0\x0bssh-ed25519" + seed * 32).decode())


RIGHT, WRONG = key(seed=b"r"), key(seed=b"w")


def known(tmp_path, *lines):
    file = tmp_path / "known_hosts"
    file.write_text("".join(f"{line}\n" for line in lines))
    return file


@pytest.mark.parametrize(
    ("names", "name"),
    [
        ("web1", "web1"),
        ("web1,10.0.0.1", "10.0.0.1"),
        ("[web1]:2222", "[web1]:2222"),
        ("*.example.org", "web1.example.org"),
        ("web?", "web1"),
        ("WEB1", "web1"),
    ],
)
def test_a_line_makes_its_names_known(tmp_path, names, name):
    assert judge([known(tmp_path, f"{names} {RIGHT.kind} {RIGHT.body} a comment")], name, RIGHT) == "known"


@pytest.mark.parametrize(
    ("names", "name"), [("web1", "web2"), ("web1", "[web1]:2222"), ("[web1]:22", "web1"), ("*,!web1", "web1")]
)
def test_a_line_says_nothing_of_other_names(tmp_path, names, name):
    assert judge([known(tmp_path, f"{names} {RIGHT.kind} {RIGHT.body}")], name, RIGHT) == "unknown"


def test_another_key_under_the_name_is_a_change(tmp_path):
    file = known(tmp_path, f"web1 {WRONG.kind} {WRONG.body}")
    assert judge([file], "web1", RIGHT) == "changed"


def test_a_key_of_another_type_alone_is_a_change_too(tmp_path):
    file = known(tmp_path, f"web1 ssh-rsa {WRONG.body}")
    assert judge([file], "web1", RIGHT) == "changed"
    assert key_types([file], "web1") == ("ssh-rsa",)


def test_one_of_several_keys_is_enough(tmp_path):
    file = known(tmp_path, f"web1 ssh-rsa {WRONG.body}", f"web1 {RIGHT.kind} {RIGHT.body}")
    assert judge([file], "web1", RIGHT) == "known"


def test_a_revoked_key_is_never_known(tmp_path):
    file = known(tmp_path, f"web1 {RIGHT.kind} {RIGHT.body}", f"@revoked * {RIGHT.kind} {RIGHT.body}")
    assert judge([file], "web1", RIGHT) == "revoked"


def test_an_authority_is_no_key_of_the_host(tmp_path):
    file = known(tmp_path, f"@cert-authority * {RIGHT.kind} {RIGHT.body}")
    assert judge([file], "web1", RIGHT) == "unknown"


def test_files_that_are_not_there_and_lines_that_are_broken_say_nothing(tmp_path):
    file = known(tmp_path, "", "# a comment", "web1", "web1 ssh-ed25519", "web1 ssh-ed25519 not*base64")
    assert judge([tmp_path / "nowhere", file], "web1", RIGHT) == "unknown"


def test_a_recorded_key_is_known_and_the_rest_stays_as_it_was(tmp_path):
    before = ["# mine", "web2 ssh-rsa AAAA", "", "broken line"]
    file = known(tmp_path, *before)
    file.chmod(0o644)
    record(file, "[web1]:2222", RIGHT)
    assert judge([file], "[web1]:2222", RIGHT) == "known"
    assert file.read_text().splitlines()[:-1] == before
    assert file.stat().st_mode & 0o777 == 0o644
    assert [entry.name for entry in tmp_path.iterdir()] == ["known_hosts"]


def test_a_new_file_is_private(tmp_path):
    file = tmp_path / "made" / "known_hosts"
    record(file, "web1", RIGHT)
    assert file.stat().st_mode & 0o777 == 0o600
    assert judge([file], "web1", RIGHT) == "known"


def test_replacing_takes_one_name_out_and_leaves_its_neighbours(tmp_path):
    file = known(tmp_path, f"web1,web2 {WRONG.kind} {WRONG.body}", f"web1 ssh-rsa {WRONG.body}")
    record(file, "web1", RIGHT, replace=True)
    assert judge([file], "web1", RIGHT) == "known"
    assert judge([file], "web1", WRONG) == "changed"
    assert judge([file], "web2", WRONG) == "known"
    assert "ssh-rsa" not in file.read_text()


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="no ssh-keygen on this machine")
def test_a_file_of_hashed_names_gets_a_hashed_name_that_openssh_finds(tmp_path):
    file = known(tmp_path, f"web2 {RIGHT.kind} {RIGHT.body}")
    real = tmp_path / "id"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", real], check=True)
    kind, body = (tmp_path / "id.pub").read_text().split()[:2]
    file.write_text(f"web2 {kind} {body}\n")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", file], check=True, capture_output=True)
    record(file, "web1", HostKey(kind, body))
    assert "web1" not in file.read_text()
    found = subprocess.run(
        ["ssh-keygen", "-l", "-F", "web1", "-f", file], capture_output=True, text=True, check=True
    )
    assert HostKey(kind, body).fingerprint in found.stdout


@given(st.from_regex(r"[a-z0-9.*?\[\]:-]{1,12}", fullmatch=True))
def test_a_name_without_wildcards_matches_itself_alone(name):
    plain = name.replace("*", "x").replace("?", "y")
    from ops.hosts.known_hosts import _fits

    assert _fits(plain, plain)
    assert not _fits(plain, plain + "z")

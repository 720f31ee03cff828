"""Which package mirror the base image is made from."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.sandbox.base_image import package_source

STANZAS = """\
Types: deb
# a comment
URIs: http://security.example/debian-security
Suites: bookworm-security
Components: main

Types: deb
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
"""


@pytest.fixture
def apt(tmp_path: Path) -> Path:
    (tmp_path / "sources.list.d").mkdir()
    return tmp_path


def test_the_machines_own_mirror_is_taken_from_a_sources_file(apt: Path) -> None:
    (apt / "sources.list.d" / "debian.sources").write_text(STANZAS)
    assert package_source(apt) == "http://mirror.example/debian"


@pytest.mark.parametrize("options", ["", "[signed-by=/usr/share/keyrings/x.gpg arch=amd64] "])
def test_the_machines_own_mirror_is_taken_from_a_one_line_list(apt: Path, options: str) -> None:
    (apt / "sources.list").write_text(
        f"# old\ndeb {options}http://mirror.example/debian trixie main contrib\n"
    )
    assert package_source(apt) == "http://mirror.example/debian"


def test_a_machine_that_is_not_debian_has_no_debian_mirror(apt: Path) -> None:
    (apt / "sources.list").write_text("deb http://mirror.example/ubuntu noble main universe\n")
    assert package_source(apt) is None

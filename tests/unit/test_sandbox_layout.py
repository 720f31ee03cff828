"""Where the sandbox is: addresses, names and paths."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.errors import UsageError
from ops.sandbox.layout import layout


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OPS_SANDBOX_DIR", str(tmp_path))
    monkeypatch.delenv("OPS_SANDBOX_SUBNET", raising=False)
    return tmp_path


def test_known_names_have_the_same_address_each_time() -> None:
    assert layout().address("web1") == "172.30.77.11"
    assert layout().address("registry") == "172.30.77.5"
    assert layout().address("app1") == "172.30.77.31"
    assert layout().address("app60") == "172.30.77.90"


def test_another_name_gets_the_first_free_address() -> None:
    assert layout().address("cache") == "172.30.77.101"
    assert layout().address("cache", {"172.30.77.101"}) == "172.30.77.102"


def test_no_two_addresses_of_known_names_are_the_same() -> None:
    names = [
        "registry",
        "mirror",
        "builder",
        "web1",
        "web2",
        "db1",
        *(f"app{number}" for number in range(1, 61)),
        "other",
    ]
    assert len({layout().address(name) for name in names}) == len(names)


def test_the_subnet_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPS_SANDBOX_SUBNET", "10.9.8.0/24")
    assert layout().hosts["web2.sandbox"] == "10.9.8.12"


@pytest.mark.parametrize("subnet", ["10.9.8.0/25", "10.9.8.1/24", "nonsense"])
def test_a_subnet_that_cannot_be_used_is_refused_with_an_example(
    subnet: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPS_SANDBOX_SUBNET", subnet)
    with pytest.raises(UsageError) as refused:
        layout()
    assert "/24" in (refused.value.next_step or "")


def test_the_builders_socket_is_in_the_folder_where_its_path_is_short_enough(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPS_SANDBOX_DIR", "/srv/work/.sandbox")
    assert layout().builder_socket == Path("/srv/work/.sandbox/builder/docker.sock")


def test_the_builders_socket_moves_where_its_path_would_be_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPS_SANDBOX_DIR", "/srv/" + "long/" * 30)
    assert len(str(layout().builder_socket)) < 100

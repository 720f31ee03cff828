"""Files and folders that cannot be used are told by their names, with exit code 2."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.config import load
from ops.config.stacks import find_stack
from ops.errors import ConfigError, UsageError
from ops.project import check, show

TOML = 'stack = "shop"\n[environments.staging.servers.web1]\n'


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.delenv("OPS_STACK", raising=False)
    (tmp_path / "ops.toml").write_text(TOML)
    (tmp_path / "compose.yaml").write_text("services: {api: {image: a}}\n")
    return tmp_path


def closed(monkeypatch, method: str, name: str) -> None:
    """Make a method of Path refuse a file: the tests may run as root, who may read everything."""
    real = getattr(Path, method)

    def refusing(self: Path, *given: object, **named: object) -> object:
        if name in self.parts:
            raise PermissionError(13, "Permission denied", str(self))
        return real(self, *given, **named)

    monkeypatch.setattr(Path, method, refusing)


def test_a_yaml_file_that_may_not_be_read_is_named(folder, monkeypatch):
    (folder / "other.yaml").write_text("a: b\n")
    closed(monkeypatch, "read_bytes", "other.yaml")
    with pytest.raises(ConfigError, match=r"other\.yaml: cannot be read: Permission denied") as caught:
        load("staging", start=folder)
    assert caught.value.exit_code == 2


def test_a_raw_env_file_that_is_no_text_is_named(folder):
    (folder / "compose.yaml").write_text("services: {api: {env_file: [{path: raw.env, format: raw}]}}\n")
    (folder / "raw.env").write_bytes(b"A=\xff\n")
    with pytest.raises(ConfigError, match=r"raw\.env: not UTF-8 text \(byte 2\)"):
        load("staging", start=folder)


@pytest.mark.parametrize("stack", ["~nosuchuser/x", "x" * 300, "a\0b"])
def test_a_stack_that_no_path_can_be_is_unknown(folder, stack):
    with pytest.raises(UsageError):
        find_stack(stack, folder, {})


def test_a_folder_that_may_not_be_looked_into_is_told(folder, monkeypatch):
    closed(monkeypatch, "is_file", "secret")
    with pytest.raises(UsageError, match="secret: Permission denied"):
        find_stack("secret", folder, {})


def test_a_current_folder_that_is_gone_is_told(folder, monkeypatch):
    gone = folder / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(UsageError, match="current folder cannot be used"):
        load("staging")
    monkeypatch.chdir(folder)


@pytest.mark.parametrize(
    "text",
    ["a = " + "[" * 5000 + "]" * 5000 + "\n", ".".join(["environments.staging", *"a" * 5000]) + " = 1\n"],
)
def test_toml_that_is_too_deep_is_told(folder, text):
    (folder / "ops.toml").write_text(text)
    with pytest.raises(ConfigError, match=r"ops\.toml"):
        load("staging", start=folder)


@pytest.mark.parametrize(
    "text",
    ["[" * 60000, "[" * 60000 + "]" * 60000, "- " * 60000, "\n".join(" " * i + "a:" for i in range(600))],
)
def test_yaml_that_is_too_deep_is_told_and_ends_nothing(folder, text):
    (folder / "compose.yaml").write_text(text + "\n")
    assert "too deep in one another" in str(check(load("staging", start=folder)).problems[0])


def test_a_compose_file_outside_the_folder_is_shown_and_is_a_problem(folder):
    (folder / "ops.toml").write_text('files = ["/etc/hostname"]\n' + TOML)
    settings = load("staging", start=folder)
    assert show(settings).compose_files == ("/etc/hostname",)
    assert "outside the stack folder" in str(check(settings).problems[0])
    with pytest.raises(ConfigError, match="outside the stack folder"):
        _ = settings.compose_arguments

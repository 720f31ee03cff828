"""The example and the page of the configuration keep up with the schema."""

import shutil
import subprocess
import sys
import tomllib
import typing
from pathlib import Path

import pytest
from pydantic import BaseModel

from ops.config import load
from ops.config.backups import Datastores
from ops.config.models import StackConfig

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "docs" / "ops.example.toml"
NAMED = (
    *("servers", "services", "registries"),
    *(f"datastores.{kind}" for kind in Datastores.model_fields),
)


def keys(model: type[BaseModel], path: str = "") -> list[str]:
    found = []
    for name, field in model.model_fields.items():
        found.append(path + name)
        for inner in models_in(field.annotation):
            found += keys(inner, f"{path}{name}.")
    return found


def models_in(annotation: object) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in typing.get_args(annotation) for model in models_in(argument)]


def written(value: object, path: str = "") -> set[str]:
    """Return the paths of the keys in a TOML document, without the names of named tables."""
    if isinstance(value, list):
        return {found for entry in value for found in written(entry, path)}
    if not isinstance(value, dict):
        return set()
    found = {path + key for key in value}
    for key, inner in value.items():
        entries = inner.values() if path + key in NAMED else [inner]
        for entry in entries:
            found |= written(entry, f"{path}{key}.")
    return found


@pytest.mark.parametrize("environment", ["staging", "production"])
def test_the_example_loads(tmp_path, monkeypatch, environment):
    monkeypatch.delenv("OPS_STACK", raising=False)
    shutil.copy(EXAMPLE, tmp_path / "ops.toml")
    assert load(environment, start=tmp_path).stack == "shop"


def test_the_example_shows_every_key():
    there = written(tomllib.loads(EXAMPLE.read_text(encoding="utf-8")))
    assert [key for key in keys(StackConfig) if key not in there] == []


def test_the_page_of_the_configuration_is_up_to_date():
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "docs", "--check", "config.md"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_every_key_of_the_page_has_a_meaning():
    rows = [
        line
        for line in (ROOT / "docs" / "config.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("| `")
    ]
    assert rows
    assert [row for row in rows if row.endswith("|  |")] == []

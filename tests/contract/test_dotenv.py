"""What the dotenv writer writes, Compose reads back exactly."""

import json
import subprocess
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ops.config.dotenv import compose_form

AWKWARD = (
    "",
    " ",
    "  a b  ",
    "a # b",
    "#",
    "'",
    '"',
    'a"b\'c"',
    "\\",
    "\\\\",
    'a\\"',
    "\\$",
    "\\n",
    "a\\tb\\",
    "\\\n",
    "$",
    "$$",
    "$$$",
    "$a",
    "${a}",
    "$${a:-b}",
    "${a:?no}",
    "$(id)",
    "`id`",
    "a$b${c}$$d\\$e",
    "\n",
    "a\nb\n",
    "\r",
    "a\r\nb",
    "\t",
    "\x01",
    "\x0b\x0c",
    "\x7f",
    "\x85",
    "\u00a0",
    "\u2028",
    "é☃😀",
    "=",
    "=a=",
    "export A=1",
    "a: b",
    "!{}[]",
)
TEXTS = st.one_of(
    st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60),
    st.text(alphabet="$\\\"'{}\n\r\t #=:-abn", max_size=30),
)


@cache
def _no_compose() -> str:
    try:
        done = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False, timeout=30)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return "docker compose is not installed here"
    return "" if done.returncode == 0 else "docker compose does not answer here"


@pytest.fixture(autouse=True)
def _compose() -> None:
    if _no_compose():
        pytest.skip(_no_compose())


def _read_back(
    folder: Path, values: dict[str, str], document: dict[str, object], *arguments: str
) -> dict[str, str]:
    """Return the environment that Compose gives to the service; it prints each `$` doubled."""
    (folder / "values.env").write_bytes(compose_form(values).encode())
    (folder / "compose.yaml").write_text(json.dumps({"services": {"one": {"image": "x", **document}}}))
    done = subprocess.run(
        ["docker", "compose", *arguments, "--project-name", "dotenv", "config", "--format", "json"],
        cwd=folder,
        capture_output=True,
        check=True,
        timeout=60,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(folder)},
    )
    environment = json.loads(done.stdout)["services"]["one"]["environment"]
    return {name: value.replace("$$", "$") for name, value in environment.items()}


def _through_env_file_option(folder: Path, values: dict[str, str]) -> dict[str, str]:
    environment = {name: f"${{{name}}}" for name in values}
    return _read_back(folder, values, {"environment": environment}, "--env-file", "values.env")


def _through_service_env_file(folder: Path, values: dict[str, str]) -> dict[str, str]:
    return _read_back(folder, values, {"env_file": ["values.env"]})


@pytest.mark.parametrize("read_back", [_through_env_file_option, _through_service_env_file])
def test_awkward_values_come_back_as_they_were(tmp_path, read_back):
    values = {f"V{number}": text for number, text in enumerate(AWKWARD)}
    assert read_back(tmp_path, values) == values


@pytest.mark.parametrize("read_back", [_through_env_file_option, _through_service_env_file])
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(texts=st.lists(TEXTS, min_size=50, max_size=150))
def test_any_value_without_nul_comes_back_as_it_was(tmp_path_factory, read_back, texts):
    values = {f"V{number}": text for number, text in enumerate(texts)}
    assert read_back(tmp_path_factory.mktemp("values"), values) == values

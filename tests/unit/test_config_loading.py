"""From a folder and an environment's name to settings."""

import subprocess
import sys
from pathlib import Path

import pytest

from ops.config import load
from ops.errors import ConfigError, UsageError

TWO = "[environments.staging]\n[environments.production]\n"


@pytest.fixture
def stack(tmp_path, monkeypatch):
    monkeypatch.delenv("OPS_STACK", raising=False)
    folder = tmp_path / "compose" / "shop"
    folder.mkdir(parents=True)
    (folder / "ops.toml").write_text(TWO)
    return folder


def mistakes(folder: Path, text: str, environment: str = "staging") -> list[str]:
    (folder / "ops.toml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(environment, start=folder)
    return [line.removeprefix(f"{folder / 'ops.toml'}: ") for line in str(caught.value).splitlines()]


def test_the_folder_gives_the_stack_its_name_and_both_give_the_project(stack):
    settings = load("staging", start=stack)
    assert (settings.folder, settings.stack, settings.project) == (stack, "shop", "shop-staging")


def test_a_project_in_ops_toml_is_kept(stack):
    (stack / "ops.toml").write_text('project = "running"\n' + TWO)
    assert load("staging", start=stack).project == "running"


def test_a_parent_folder_with_ops_toml_is_found(stack):
    (stack / "api" / "src").mkdir(parents=True)
    assert load("staging", start=stack / "api" / "src").folder == stack


def test_a_stack_is_found_by_name_under_compose_of_a_parent(stack, tmp_path):
    (tmp_path / "docs").mkdir()
    assert load("staging", stack="shop", start=tmp_path / "docs").folder == stack


def test_a_stack_is_found_by_its_folder(stack, tmp_path):
    assert load("staging", stack="compose/shop", start=tmp_path).folder == stack


def test_ops_stack_names_the_stack(stack, tmp_path, monkeypatch):
    monkeypatch.setenv("OPS_STACK", "shop")
    assert load("staging", start=tmp_path).folder == stack


def test_no_stack_anywhere_lists_those_under_compose(stack, tmp_path):
    with pytest.raises(UsageError, match="stacks under compose/: shop"):
        load("staging", start=tmp_path)


def test_an_unknown_stack_is_told_with_the_nearest_one(stack, tmp_path):
    with pytest.raises(UsageError, match=r"--stack shpo: no such stack.*did you mean shop"):
        load("staging", stack="shpo", start=tmp_path)


@pytest.mark.parametrize("environment", [None, "prod"])
@pytest.mark.parity("D1")
def test_an_environment_that_is_missing_or_unknown_lists_the_known_ones(stack, environment):
    with pytest.raises(UsageError, match="known: staging, production") as caught:
        load(environment, start=stack)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("typed", "step"),
    [
        ("prodution", "did you mean --env production?"),
        ("live", "add --env with one of them"),
        (None, "add --env with one of them"),
    ],
)
def test_another_environment_than_the_one_meant_is_never_told_to_type(stack, typed, step):
    (stack / "ops.toml").write_text(TWO)
    with pytest.raises(UsageError) as caught:
        load(typed, start=stack)
    assert caught.value.next_step == step


def test_an_ops_toml_without_environments_says_how_to_add_one(stack):
    (stack / "ops.toml").write_text("")
    with pytest.raises(UsageError) as caught:
        load("staging", start=stack)
    assert "[environments.staging]" in str(caught.value.next_step)


def test_an_environment_merges_tables_and_replaces_lists(stack):
    (stack / "ops.toml").write_text(
        'profiles = ["a", "b"]\n[services.api]\nport = 8000\nreplicas = 1\n'
        '[environments.staging]\nprofiles = ["c"]\n[environments.staging.services.api]\nreplicas = 3\n'
    )
    config = load("staging", start=stack).config
    assert (config.profiles, config.services["api"].port, config.services["api"].replicas) == (
        ("c",),
        8000,
        3,
    )


def test_overrides_win_over_the_environment(stack):
    (stack / "ops.toml").write_text("[environments.staging]\nkeep_releases = 7\n")
    assert load("staging", start=stack, overrides={"keep_releases": 9}).config.keep_releases == 9


def test_bad_toml_is_told_with_file_and_line(stack):
    (stack / "ops.toml").write_text('stack = "shop"\nbatch = = 1\n')
    with pytest.raises(ConfigError, match=r"ops\.toml:2: "):
        load("staging", start=stack)


def test_an_unknown_key_in_a_named_table_is_told_with_its_path_and_the_nearest_key(stack):
    assert mistakes(stack, "[services.api]\nreplica = 2\n" + TWO) == [
        "services.api.replica: unknown key; did you mean replicas?"
    ]


def test_an_unknown_key_at_the_top_is_told_with_the_nearest_key(stack):
    assert mistakes(stack, "[server.a]\n" + TWO) == ["server: unknown key; did you mean servers?"]


def test_an_unknown_key_in_a_list_of_tables_is_told_with_its_number(stack):
    assert mistakes(stack, '[[smoke]]\npath = "/"\n[[smoke]]\npth = "/"\n' + TWO) == [
        "smoke[1].pth: unknown key; did you mean path?"
    ]


def test_an_unknown_key_in_another_environment_is_told_too(stack):
    text = "[environments.staging]\n[environments.production.services.api.health]\ntimout = 3\n"
    assert mistakes(stack, text) == [
        "environments.production.services.api.health.timout: unknown key; did you mean timeout?"
    ]


def test_a_wrong_value_in_another_environment_does_not_stop_this_one(stack):
    (stack / "ops.toml").write_text("[environments.staging]\n[environments.production]\nkeep_releases = 0\n")
    assert load("staging", start=stack).environment == "staging"


def test_wrong_values_are_told_in_plain_words_and_all_at_once(stack):
    text = (
        'backup_before_deploy = "perhaps"\nkeep_releases = 1\nconfirm = "maybe"\nprofiles = "one"\n'
        "[servers]\na = 1\n[migrate]\nservice = 'api'\n" + TWO
    )
    assert sorted(mistakes(stack, text)) == [
        "backup_before_deploy: must be true or false, not text",
        'confirm: must be "no", "yes" or "name", not "maybe"',
        "keep_releases: must be at least 2, not 1",
        "migrate.command: is required",
        "profiles: must be a list, not text",
        "servers.a: must be a table, not a number",
    ]


def test_a_wrong_value_of_an_environment_is_told_where_it_stands(stack):
    assert mistakes(stack, '[environments.staging]\nkeep_releases = "x"\n') == [
        "environments.staging.keep_releases: must be a whole number, not text"
    ]


def test_a_batch_of_the_wrong_kind_is_told_once(stack):
    assert mistakes(stack, "batch = [1]\n" + TWO) == [
        'batch: must be a number of servers, at least 1, or a share from "1%" to "100%"'
    ]


def test_parts_that_do_not_fit_together_are_told_one_line_each(stack):
    found = mistakes(stack, "[servers.a]\n[servers.b]\n[services.api]\nstrategy = 'rolling'\n" + TWO)
    assert [line.partition(":")[0].split()[0] for line in found] == ["with", "services.api", "services.api"]


def test_a_registry_password_in_ops_toml_is_refused_without_being_shown(stack):
    found = mistakes(stack, '[registries."r.example.org"]\nusername = "ci"\npassword = "hunter22"\n' + TWO)
    assert len(found) == 1
    assert "env:NAME" in found[0]
    assert "hunter22" not in found[0]


def test_a_folder_name_that_cannot_be_a_stack_asks_for_a_name(stack, tmp_path):
    odd = stack.rename(stack.parent / "My Shop")
    with pytest.raises(ConfigError, match='add stack = "…"'):
        load("staging", start=odd)


def test_compose_files_are_the_base_and_the_one_of_the_environment(stack):
    for name in ("compose.yaml", "compose.staging.yaml", "compose.production.yaml"):
        (stack / name).touch()
    assert [path.name for path in load("staging", start=stack).compose_files] == [
        "compose.yaml",
        "compose.staging.yaml",
    ]


def test_an_old_name_of_the_compose_file_counts(stack):
    (stack / "docker-compose.yml").touch()
    assert [path.name for path in load("staging", start=stack).compose_files] == ["docker-compose.yml"]


def test_compose_arguments_name_project_files_and_profiles(stack):
    (stack / "ops.toml").write_text('files = ["a.yaml", "b/c.yaml"]\nprofiles = ["metrics"]\n' + TWO)
    assert load("staging", start=stack).compose_arguments == (
        "--project-name",
        "shop-staging",
        "--file",
        "a.yaml",
        "--file",
        "b/c.yaml",
        "--profile",
        "metrics",
    )


def test_importing_the_package_imports_neither_pydantic_nor_yaml():
    code = "import sys, ops.config; sys.exit(bool({'pydantic', 'yaml', 'dotenv'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

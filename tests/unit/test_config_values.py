"""Where values come from, which are secret, which are missing."""

import pytest

from ops.commands import Secret
from ops.config import load, missing
from ops.errors import ConfigError

OPS = '[secrets]\nrequired = ["DB_PASSWORD"]\n[environments.staging]\n'


@pytest.fixture
def stack(tmp_path, monkeypatch):
    for name in ("OPS_STACK", "DB_PASSWORD", "TAG", "DEBUG", "UNDECLARED"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "shop").mkdir()
    folder = tmp_path / "shop"
    (folder / "ops.toml").write_text(OPS)
    (folder / "compose.yaml").write_text('services: {api: {image: "api:${TAG}"}}\n')
    return folder


def secret_file(path, text):
    path.write_text(text)
    path.chmod(0o600)


def test_the_process_wins_over_the_environments_file_and_that_over_the_common_one(stack, monkeypatch):
    (stack / ".env").write_text("TAG=common\nDEBUG=common\nONLY=common\n")
    (stack / ".env.staging").write_text("TAG=staging\nDEBUG=staging\n")
    monkeypatch.setenv("TAG", "process")
    values = load("staging", start=stack).values
    assert dict(values) == {"TAG": "process", "DEBUG": "staging", "ONLY": "common"}
    assert values.origins["DEBUG"] == ".env.staging"


def test_the_process_gives_only_names_that_the_stack_declares(stack, monkeypatch):
    monkeypatch.setenv("UNDECLARED", "1")
    assert "UNDECLARED" not in load("staging", start=stack).values


def test_a_name_behind_two_dollars_is_not_declared(stack, monkeypatch):
    (stack / "compose.yaml").write_text('services: {api: {image: a, command: "echo $$UNDECLARED"}}\n')
    monkeypatch.setenv("UNDECLARED", "1")
    assert "UNDECLARED" not in load("staging", start=stack).values


def test_a_name_in_a_comment_is_not_declared(stack, monkeypatch):
    (stack / "compose.yaml").write_text("services: {}  # ${UNDECLARED}\n")
    monkeypatch.setenv("UNDECLARED", "1")
    assert "UNDECLARED" not in load("staging", start=stack).values


def test_a_name_in_ops_toml_is_declared(stack, monkeypatch):
    (stack / "ops.toml").write_text('version = "env:UNDECLARED"\n' + OPS)
    monkeypatch.setenv("UNDECLARED", "1")
    assert load("staging", start=stack).values["UNDECLARED"] == "1"


def test_a_required_secret_is_masked_everywhere(stack):
    secret_file(stack / ".env", "DB_PASSWORD=hunter22\n")
    settings = load("staging", start=stack)
    assert settings.values["DB_PASSWORD"] == Secret("hunter22")
    assert "hunter22" not in repr(settings)
    assert settings.redactor("with hunter22") == "with ***"


def test_the_password_of_a_registry_is_secret(stack, monkeypatch):
    table = '[registries."r.example.org"]\nusername = "ci"\npassword = "env:UNDECLARED"\n'
    (stack / "ops.toml").write_text(table + OPS)
    monkeypatch.setenv("UNDECLARED", "hunter22")
    assert isinstance(load("staging", start=stack).values["UNDECLARED"], Secret)


def test_a_secret_without_other_value_is_taken_from_a_services_env_file(stack):
    (stack / "compose.yaml").write_text("services: {db: {image: a, env_file: [db.env]}}\n")
    secret_file(stack / "db.env", "DB_PASSWORD=hunter22\nOTHER=1\n")
    values = load("staging", start=stack).values
    assert (values.text("DB_PASSWORD"), values.origins["DB_PASSWORD"], "OTHER" in values) == (
        "hunter22",
        "db.env",
        False,
    )


def test_all_missing_values_are_told_at_once_with_where_they_were_looked_for(stack):
    (stack / "compose.yaml").write_text(
        'services: {api: {image: "a:${TAG:?no tag}", command: "${DEBUG?}"}}\n'
    )
    (stack / ".env").write_text("DB_PASSWORD=\n")
    found = [str(error) for error in missing(load("staging", start=stack))]
    assert [line.split(" has no value")[0] for line in found] == ["secret DB_PASSWORD", "TAG", "DEBUG"]
    assert all(".env.staging" in line for line in found)
    assert "(no tag)" in found[1]


def test_an_empty_value_satisfies_a_question_mark_without_colon(stack):
    (stack / "compose.yaml").write_text('services: {api: {image: a, command: "${DEBUG?}"}}\n')
    secret_file(stack / ".env", "DB_PASSWORD=hunter22\nDEBUG=\n")
    assert missing(load("staging", start=stack)) == []


def test_a_secret_that_others_may_read_is_warned_about(stack):
    (stack / ".env").write_text("DB_PASSWORD=hunter22\n")
    (stack / ".env").chmod(0o644)
    assert [line for line in load("staging", start=stack).warnings if "chmod 600" in line]


def test_a_secret_too_short_to_mask_is_warned_about(stack):
    secret_file(stack / ".env", "DB_PASSWORD=abc\n")
    assert [line for line in load("staging", start=stack).warnings if "shorter than 6" in line]


def test_a_secret_inside_another_value_is_warned_about(stack):
    secret_file(stack / ".env", "DB_PASSWORD=hunter22\nURL=db://u:hunter22@db\n")
    assert [line for line in load("staging", start=stack).warnings if line.startswith("URL contains")]


def test_a_dollar_that_compose_would_read_differently_is_warned_about(stack):
    (stack / ".env").write_text("TAG=$DEBUG\n")
    assert [line for line in load("staging", start=stack).warnings if "the $ in TAG" in line]


def test_a_safely_kept_secret_gives_no_warning(stack):
    secret_file(stack / ".env", "DB_PASSWORD='hunter22$x'\nTAG=1\n")
    assert load("staging", start=stack).warnings == ()


def test_a_string_of_ops_toml_resolves_to_the_value_that_it_names(stack):
    (stack / ".env").write_text("TAG=7\n")
    values = load("staging", start=stack).values
    assert (values.resolve("env:TAG"), values.resolve("plain")) == ("7", "plain")
    with pytest.raises(ConfigError, match="env:NOPE"):
        values.resolve("env:NOPE")

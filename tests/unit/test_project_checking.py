"""What `config.check` finds without a server."""

import pytest

from ops.commands import Result
from ops.config import load
from ops.project import check


@pytest.fixture
def stack(tmp_path, monkeypatch):
    for name in ("OPS_STACK", "DB_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "compose.yaml").write_text("services: {api: {image: a}, db: {image: b}}\n")

    def checked(ops: str):
        (tmp_path / "ops.toml").write_text('stack = "shop"\n' + ops + "[environments.staging.servers.web1]\n")
        return check(load("staging", start=tmp_path))

    return checked


def test_a_sound_stack_is_ok_and_lists_its_services(stack):
    found = stack("[services.api]\nport = 8000\n")
    assert (found.ok, found.services, found.problems) == (True, ("api", "db"), ())


def test_without_docker_it_says_that_compose_was_not_asked(stack, tmp_path):
    stack("")
    settings = load("staging", start=tmp_path)
    assert not check(settings).compose
    assert not check(settings, lambda command: Result(127, "", "docker: not found")).compose


def test_the_values_that_are_missing_are_counted(stack):
    found = stack('[secrets]\nrequired = ["DB_PASSWORD"]\n')
    assert (found.secrets, found.wanted) == (0, 1)


def test_a_missing_secret_is_a_problem(stack):
    found = stack('[secrets]\nrequired = ["DB_PASSWORD"]\n')
    assert [str(problem).split(";")[0] for problem in found.problems] == ["secret DB_PASSWORD has no value"]


def test_a_service_that_the_compose_files_do_not_have_is_told_with_the_nearest_one(stack):
    found = stack("[services.apii]\nport = 8000\n")
    assert str(found.problems[0]).endswith(
        "services.apii: no service apii in the compose files; did you mean api?"
    )


def test_a_proxy_that_the_compose_files_do_not_have_is_told(stack):
    found = stack('[proxy]\nservice = "nginx"\nupstreams = "u"\n')
    assert "proxy.service: no service nginx" in str(found.problems[0])


def test_a_broken_compose_file_is_a_problem(stack, tmp_path):
    (tmp_path / "compose.yaml").write_text("services: [\n")
    assert "compose.yaml:2" in str(stack("").problems[0])


def test_services_that_are_only_extended_from_do_not_count(stack, tmp_path):
    (tmp_path / "compose.yaml").write_text("services: {api: {extends: {file: base.yaml, service: web}}}\n")
    (tmp_path / "base.yaml").write_text("services: {web: {image: a}}\n")
    assert stack("").services == ("api",)


def test_a_short_secret_is_a_warning_and_no_problem(stack, tmp_path):
    (tmp_path / ".env").write_text("DB_PASSWORD=abc\n")
    (tmp_path / ".env").chmod(0o600)
    found = stack('[secrets]\nrequired = ["DB_PASSWORD"]\n')
    assert found.ok
    assert "shorter than 6" in found.warnings[0]


def test_no_server_is_a_problem(stack, tmp_path):
    (tmp_path / "ops.toml").write_text('stack = "shop"\n[environments.staging]\n')
    (problem,) = check(load("staging", start=tmp_path)).problems
    assert str(problem).endswith("names no server for staging")


def test_a_backup_of_nothing_is_a_problem_with_the_way_out(stack):
    (problem,) = stack("backup_before_deploy = true\n").problems
    assert "nothing is named that could be backed up" in str(problem)
    assert "[datastores.postgres.NAME]" in str(problem.next_step)


def test_a_backup_of_something_is_none(stack):
    assert stack('backup_before_deploy = true\n[datastores.files.uploads]\npath = "uploads"\n').ok

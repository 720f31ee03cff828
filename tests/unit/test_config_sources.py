"""What travels so that Compose can read the stack on another machine."""

import pytest

from ops.config import load, stack_sources
from ops.errors import ConfigError

OPS = '[secrets]\nrequired = ["DB_PASSWORD"]\n[environments.staging]\n'


@pytest.fixture
def stack(tmp_path, monkeypatch):
    for name in ("OPS_STACK", "DB_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "shop"
    folder.mkdir()
    write(folder, "ops.toml", OPS)
    return folder


def write(folder, path, text):
    file = folder / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def sources(folder, **options):
    found = stack_sources(load("staging", start=folder), **options)
    return {source.path: source.content.decode() for source in found}


def refusal(folder):
    with pytest.raises(ConfigError) as caught:
        sources(folder)
    return str(caught.value)


def test_yaml_of_the_stack_folder_travels_without_dot_folders_and_dependencies(stack):
    for path in ("compose.yaml", "a/b.yml", "node_modules/c.yaml", ".venv/d.yaml", ".github/e.yml"):
        write(stack, path, "services: {}\n")
    assert list(sources(stack)) == ["a/b.yml", "compose.yaml"]


def test_yaml_larger_than_a_mebibyte_stays_at_home(stack):
    write(stack, "compose.yaml", "services: {}\n")
    write(stack, "data.yaml", "a" * (1024 * 1024 + 1))
    assert "data.yaml" not in sources(stack)


def test_an_env_file_travels_in_the_form_that_compose_reads(stack):
    write(stack, "compose.yaml", "services: {api: {image: a, env_file: [{path: env/api.env}]}}\n")
    write(stack, "env/api.env", "# note\nA='x$y'\n")
    assert sources(stack)["env/api.env"] == 'A="x$$y"\n'


def test_secrets_in_an_env_file_are_replaced(stack):
    write(stack, "compose.yaml", "services: {db: {image: a, env_file: .env.staging}}\n")
    write(stack, ".env.staging", "DB_PASSWORD=hunter22\nDB_USER=shop\n")
    found = sources(stack, replace={"DB_PASSWORD": "sentinel"})
    assert found[".env.staging"] == 'DB_PASSWORD="sentinel"\nDB_USER="shop"\n'


def test_dotenv_files_that_nobody_names_stay_at_home(stack):
    write(stack, "compose.yaml", "services: {}\n")
    for name in (".env", ".env.production", "spare.env"):
        write(stack, name, "A=1\n")
    assert list(sources(stack)) == ["compose.yaml"]


def test_included_and_extended_files_bring_their_own_env_files(stack):
    write(stack, "compose.yaml", "include: [sub/part.yaml]\nservices: {}\n")
    write(stack, "sub/part.yaml", "services: {b: {extends: {file: ../.base/base.yaml, service: z}}}\n")
    write(stack, "sub/.env", "T=1\n")
    write(stack, ".base/base.yaml", "services: {z: {image: a, env_file: z.env}}\n")
    write(stack, ".base/z.env", "Z=1\n")
    assert list(sources(stack)) == [
        ".base/base.yaml",
        ".base/z.env",
        "compose.yaml",
        "sub/.env",
        "sub/part.yaml",
    ]


def test_a_name_in_the_path_of_an_env_file_is_filled_in(stack):
    write(stack, "compose.yaml", 'services: {a: {image: a, env_file: "env/${COLOUR:-red}.env"}}\n')
    write(stack, "env/red.env", "A=1\n")
    assert "env/red.env" in sources(stack)


def test_an_env_file_under_a_merge_key_is_found(stack):
    write(stack, "compose.yaml", "x-all: &all {env_file: all.env}\nservices: {a: {<<: *all, image: a}}\n")
    write(stack, "all.env", "A=1\n")
    assert "all.env" in sources(stack)


def test_a_tag_of_compose_is_understood(stack):
    write(stack, "compose.yaml", "services: {a: {image: a, ports: !reset [], env_file: !override [a.env]}}\n")
    write(stack, "a.env", "A=1\n")
    assert "a.env" in sources(stack)


def test_an_env_file_that_is_missing_is_named_unless_it_may_be(stack):
    write(
        stack,
        "compose.yaml",
        "services: {a: {image: a, env_file: [gone.env, {path: may.env, required: false}]}}\n",
    )
    assert refusal(stack) == "compose.yaml: env_file names gone.env, which does not exist"


@pytest.mark.parametrize(
    "text",
    [
        "include: [../other/compose.yaml]\n",
        "services: {a: {env_file: ../a.env}}\n",
        "services: {a: {extends: {file: ../base.yaml, service: a}}}\n",
    ],
)
def test_a_file_outside_the_stack_folder_is_refused(stack, text):
    write(stack, "compose.yaml", text)
    assert "outside the stack folder" in refusal(stack)


def test_a_missing_compose_file_is_named(stack):
    assert refusal(stack) == "compose file compose.yaml: No such file or directory"


def test_bad_yaml_is_told_with_file_and_line(stack):
    write(stack, "compose.yaml", "services:\n  a: [\n")
    assert refusal(stack).startswith("compose.yaml:3: ")


def test_a_secret_with_two_values_is_refused(stack):
    write(stack, ".env", "DB_PASSWORD=hunter22\n")
    write(stack, "compose.yaml", "services: {db: {image: a, env_file: db.env}}\n")
    write(stack, "db.env", "DB_PASSWORD=another7\n")
    assert "db.env: secret DB_PASSWORD has another value here than in .env" in refusal(stack)


def test_a_raw_env_file_stays_raw(stack):
    write(stack, "compose.yaml", "services: {a: {image: a, env_file: [{path: a.env, format: raw}]}}\n")
    write(stack, "a.env", "A='x'$y\n")
    assert sources(stack)["a.env"] == "A='x'$y\n"

"""What the compose files' `build:` sections become, and what is refused in them."""

import pytest

from ops.build.commands import build_command, pushed_by_engine, pushed_digest
from ops.build.definitions import define, one_for_each_name
from ops.config import Version, load
from ops.engines.rendering import sentinel
from ops.errors import ConfigError, Problem, UsageError

VERSION = Version("1.4.2", "c0ffee")
CREATED = "2026-05-01T10:00:00Z"
OPS = """
[secrets]
required = ["DB_PASSWORD"]
[build]
registry = "registry.example.org"
[environments.staging]
"""


@pytest.fixture
def shop(tmp_path, monkeypatch):
    def make(ops=OPS, **variables):
        for name in ("OPS_STACK", "DB_PASSWORD"):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        folder = tmp_path / "shop"
        (folder / "web").mkdir(parents=True, exist_ok=True)
        (folder / "web" / "Dockerfile").write_text("FROM scratch\n")
        (folder / "ops.toml").write_text(ops)
        return load("staging", start=folder)

    return make


def defined(settings, services, *, version=VERSION, only=(), **rest):
    model = {"services": services, **rest}
    return define(settings, model, version, CREATED, only)


def section(settings, **keys):
    return {"web": {"build": {"context": str(settings.folder / "web"), "dockerfile": "Dockerfile", **keys}}}


def command_of(settings, **keys):
    ((definition,), _) = defined(settings, section(settings, **keys))
    return build_command(definition, push=False, environment={}, metadata="m.json", secrets={}).script


def refusal(settings, services, **rest):
    with pytest.raises((ConfigError, Problem)) as caught:
        defined(settings, services, **rest)
    return caught.value


def test_an_image_is_named_for_registry_stack_service_and_version(shop):
    settings = shop()
    ((definition,), warnings) = defined(settings, section(settings))
    assert definition.reference == "registry.example.org/shop/web:1.4.2"
    assert warnings == ()


def test_version_and_commit_are_build_arguments_and_win_over_the_files(shop):
    settings = shop(
        OPS.replace("[environments", 'args = {FLAVOUR = "mild", VERSION = "0"}\n[environments', 1)
    )
    ((definition,), _) = defined(settings, section(settings, args={"VERSION": "dev", "NODE": "22"}))
    assert dict(definition.args) == {
        "VERSION": "1.4.2",
        "REVISION": "c0ffee",
        "NODE": "22",
        "FLAVOUR": "mild",
    }


def test_labels_say_version_commit_time_and_title_beside_the_users_own(shop):
    settings = shop()
    ((definition,), _) = defined(settings, section(settings, labels={"team": "web"}))
    assert dict(definition.labels) == {
        "team": "web",
        "org.opencontainers.image.title": "shop/web",
        "org.opencontainers.image.version": "1.4.2",
        "org.opencontainers.image.revision": "c0ffee",
        "org.opencontainers.image.created": CREATED,
    }


def test_a_commit_that_is_not_known_is_left_out(shop):
    settings = shop()
    ((definition,), _) = defined(settings, section(settings), version=Version("1.4.2"))
    assert "REVISION" not in dict(definition.args)
    assert "org.opencontainers.image.revision" not in dict(definition.labels)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"target": "runtime"}, "--target runtime"),
        ({"network": "host"}, "--network host"),
        ({"shm_size": "67108864"}, "--shm-size 67108864"),
        ({"no_cache": True}, "--no-cache"),
        ({"pull": True}, "--pull"),
        ({"cache_from": ["type=registry,ref=a/b"]}, "--cache-from type=registry,ref=a/b"),
        ({"extra_hosts": ["db=10.0.0.1"]}, "--add-host db=10.0.0.1"),
        ({"extra_hosts": {"db": "10.0.0.1"}}, "--add-host db=10.0.0.1"),
        ({"ssh": ["default"]}, "--ssh default"),
        ({"privileged": True}, "--allow security.insecure"),
        ({"provenance": False}, "--provenance false"),
        (
            {"ulimits": {"nofile": {"soft": 10, "hard": 20}, "nproc": 5}},
            "--ulimit nofile=10:20 --ulimit nproc=5",
        ),
        ({"additional_contexts": {"lib": "/srv/lib"}}, "--build-context lib=/srv/lib"),
        ({"platforms": ["linux/amd64"]}, "--platform linux/amd64"),
    ],
)
def test_a_key_of_the_compose_file_becomes_an_option(shop, keys, words):
    assert f" {words} " in command_of(shop(), **keys)


def test_keys_without_effect_are_told(shop):
    settings = shop()
    _, warnings = defined(settings, section(settings, tags=["shop:latest"], isolation="hyperv"))
    assert warnings == (
        "web: build.tags has no effect; the image is registry.example.org/shop/web:1.4.2",
        "web: build.isolation has no effect here",
    )


def test_an_inline_dockerfile_goes_through_stdin(shop):
    settings = shop()
    ((definition,), _) = defined(settings, section(settings, dockerfile_inline="FROM scratch\n"))
    made = build_command(definition, push=False, environment={}, metadata="m.json", secrets={})
    assert "--file - " in made.script
    assert made.stdin == b"FROM scratch\n"


@pytest.mark.parametrize("key", ["args", "labels", "additional_contexts"])
def test_a_secret_where_a_build_would_show_it_is_refused(shop, key):
    settings = shop()
    error = refusal(settings, section(settings, **{key: {"TOKEN": f"x{sentinel('DB_PASSWORD')}y"}}))
    assert f"build.{key}.TOKEN holds the secret DB_PASSWORD" in str(error)
    assert "--mount=type=secret" in (error.next_step or "")
    assert error.exit_code == 2


def test_a_long_secret_that_is_written_out_is_found_by_its_text(shop):
    settings = shop(DB_PASSWORD="correct horse battery")
    error = refusal(settings, section(settings, args={"TOKEN": "x=correct horse battery"}))
    assert "build.args.TOKEN holds the secret DB_PASSWORD" in str(error)
    assert "correct horse" not in str(error)


def test_a_word_that_is_also_somebodys_weak_password_is_no_secret(shop):
    settings = shop(DB_PASSWORD="postgres")
    defined(settings, section(settings, args={"DB_HOST": "postgres"}))


def test_a_secret_among_the_arguments_of_ops_toml_is_refused(shop):
    ops = OPS.replace("[environments", 'args = {TOKEN = "env:DB_PASSWORD"}\n[environments', 1)
    settings = shop(ops, DB_PASSWORD="hunter2222")
    assert "args.TOKEN of ops.toml holds the secret DB_PASSWORD" in str(refusal(settings, section(settings)))


def test_all_faults_are_told_at_once(shop):
    settings = shop()
    services = section(settings, args={"A": sentinel("DB_PASSWORD")}, dockerfile="Other")
    services |= {"api": {"build": {"context": "/nowhere/api"}}}
    error = refusal(settings, services)
    assert "3 problems" in str(error)
    assert "web: there is no " in str(error)
    assert "api: its build context /nowhere/api does not exist" in str(error)


def test_build_secrets_are_files_or_values_of_variables(shop):
    settings = shop(DB_PASSWORD="hunter2222")
    (settings.folder / "token").write_text("t0ken")
    secrets = {"a": {"environment": "DB_PASSWORD"}, "b": {"file": str(settings.folder / "token")}}
    services = section(settings, secrets=[{"source": "a", "target": "pw"}, {"source": "b"}])
    ((definition,), _) = defined(settings, services, secrets=secrets)
    made = build_command(
        definition, push=False, environment={}, metadata="m", secrets={"pw": "/run/x/0", "b": "/srv/a,b"}
    )
    assert "--secret id=pw,src=/run/x/0" in made.script
    assert "--secret 'id=b,\"src=/srv/a,b\"'" in made.script, "buildx reads the fields as CSV"
    assert "hunter2222" not in made.script + made.shown + repr(definition)


@pytest.mark.parametrize(
    ("definition", "told"),
    [
        ({"file": "/nowhere/token"}, "no readable file /nowhere/token"),
        ({"environment": "NOT_SET"}, "NOT_SET has no value"),
        ({"external": True}, "neither a file nor a variable"),
    ],
)
def test_a_build_secret_that_cannot_be_read_is_refused(shop, definition, told):
    settings = shop()
    assert told in str(
        refusal(settings, section(settings, secrets=[{"source": "a"}]), secrets={"a": definition})
    )


def test_an_image_of_another_service_is_built_first(shop):
    settings = shop()
    services = {
        **section(settings, additional_contexts={"base": "service:base"}),
        "base": section(settings)["web"],
    }
    definitions, _ = defined(settings, services, only=("web",))
    by_service = {each.service: each for each in definitions}
    assert by_service["web"].needs == ("registry.example.org/shop/base:1.4.2",)
    assert dict(by_service["web"].contexts) == {"base": "docker-image://registry.example.org/shop/base:1.4.2"}


def test_a_service_that_builds_nothing_is_refused_with_those_that_do(shop):
    settings = shop()
    with pytest.raises(UsageError, match="service db has no build:") as caught:
        defined(settings, {**section(settings), "db": {"image": "postgres:16"}}, only=("db",))
    assert caught.value.next_step == "services that are built: web"


def test_services_that_share_an_image_build_it_once(shop):
    settings = shop(
        OPS + 'services = {api = {image = "r.org/app:{version}"}, worker = {image = "r.org/app:{version}"}}\n'
    )
    both = {"api": section(settings)["web"], "worker": section(settings)["web"]}
    definitions, _ = defined(settings, both)
    assert [each.service for each in one_for_each_name(definitions)] == ["api"]


def test_one_name_for_two_different_images_is_refused(shop):
    settings = shop(
        OPS + 'services = {api = {image = "r.org/app:{version}"}, worker = {image = "r.org/app:{version}"}}\n'
    )
    both = {"api": section(settings)["web"], "worker": section(settings, target="worker")["web"]}
    assert "api and worker are built differently" in str(refusal(settings, both))


def test_a_repository_as_context_keeps_the_dockerfiles_path_in_it(shop):
    context = "https://github.com/example/shop.git#main"
    settings = shop()
    ((definition,), _) = defined(
        settings, {"web": {"build": {"context": context, "dockerfile": "docker/web"}}}
    )
    assert (definition.context, definition.dockerfile) == (context, "docker/web")


def test_what_a_command_shows_is_free_of_paths_of_this_run(shop):
    settings = shop()
    ((definition,), _) = defined(settings, section(settings))
    made = build_command(
        definition,
        push=True,
        environment={"DOCKER_CONFIG": "/dev/shm/ops.x"},
        metadata="/dev/shm/ops.x/m",
        secrets={},
    )
    assert made.script.startswith("env DOCKER_CONFIG=/dev/shm/ops.x docker buildx build ")
    assert "/dev/shm" not in made.shown
    assert "--push" in made.shown


def test_the_digest_is_read_from_what_buildx_and_the_engine_say():
    assert pushed_digest('{"containerimage.digest": "sha256:aa"}') == "sha256:aa"
    assert pushed_digest("{}") is None
    assert pushed_digest("") is None
    digests = '["r.org/other@sha256:bb", "127.0.0.1:5077/shop/web@sha256:cc"]'
    assert pushed_by_engine(digests, "127.0.0.1:5077/shop/web:1.0") == "sha256:cc"
    assert pushed_by_engine("null", "127.0.0.1:5077/shop/web:1.0") is None

"""The private folder of a build: logins, build secrets, and what of the user's own configuration stays in use."""

import json
from pathlib import Path

import pytest

from ops.build.client import client_environment, private_folder, secret_files
from ops.build.logins import build_logins
from ops.build.sections import BuildSecret, Definition
from ops.commands import Secret
from ops.config import load
from ops.errors import ConfigError

AUTHS = json.dumps({"auths": {"registry.example.org": {"auth": "b3VyczpwYXNz"}}})


@pytest.fixture
def own(tmp_path):
    folder = tmp_path / "dot-docker"
    folder.mkdir()
    return folder


def merged(own, folder):
    variables = client_environment(folder, AUTHS, {"DOCKER_CONFIG": str(own)})
    return json.loads((folder / "docker" / "config.json").read_text()), variables


def test_the_folder_is_the_users_alone_and_gone_when_the_build_fails():
    seen = []

    def fail():
        with private_folder() as folder:
            seen.append((folder, folder.stat().st_mode & 0o777))
            (folder / "secret").write_text("x")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    ((folder, mode),) = seen
    assert mode == 0o700
    assert not folder.exists()


def test_without_logins_docker_uses_the_users_configuration_itself(own, tmp_path):
    assert client_environment(tmp_path, None, {"DOCKER_CONFIG": str(own)}) == {}


def test_other_keys_and_other_logins_of_the_user_stay(own, tmp_path):
    written = {
        "proxies": {"default": {}},
        "cliPluginsExtraDirs": ["/opt"],
        "auths": {"ghcr.io": {"auth": "eA=="}},
    }
    (own / "config.json").write_text(json.dumps(written))
    config, _ = merged(own, tmp_path)
    assert config["proxies"] == {"default": {}}
    assert config["cliPluginsExtraDirs"] == ["/opt"]
    assert set(config["auths"]) == {"ghcr.io", "registry.example.org"}
    assert json.loads((own / "config.json").read_text()) == written


def test_no_credential_helper_is_asked_for_a_registry_of_ops_toml(own, tmp_path):
    (own / "config.json").write_text(
        json.dumps({"credsStore": "desktop", "credHelpers": {"gcr.io": "gcloud"}})
    )
    config, _ = merged(own, tmp_path)
    assert config["credsStore"] == "desktop"
    assert config["credHelpers"] == {"gcr.io": "gcloud", "registry.example.org": ""}


def test_contexts_plugins_and_builders_of_the_user_are_found(own, tmp_path):
    (own / "contexts").mkdir()
    (own / "contexts" / "meta").write_text("x")
    _, variables = merged(own, tmp_path)
    assert (tmp_path / "docker" / "contexts" / "meta").read_text() == "x"
    assert variables == {"DOCKER_CONFIG": str(tmp_path / "docker"), "BUILDX_CONFIG": str(own / "buildx")}


def test_the_users_files_outlive_the_folder(own):
    (own / "contexts").mkdir()
    (own / "contexts" / "meta").write_text("x")
    with private_folder() as folder:
        merged(own, folder)
    assert (own / "contexts" / "meta").read_text() == "x"


@pytest.mark.parametrize("content", [None, "no json", "[]"])
def test_a_configuration_that_is_missing_or_broken_does_no_harm(own, tmp_path, content):
    if content is not None:
        (own / "config.json").write_text(content)
    config, _ = merged(own, tmp_path)
    assert config == json.loads(AUTHS)


def test_logins_and_secrets_are_written_for_the_user_alone(own, tmp_path):
    merged(own, tmp_path)
    definition = Definition(
        "web",
        "r/web:1",
        "/",
        secrets=(BuildSecret("npm", value=Secret("t0ken\n")), BuildSecret("ca", "/srv/ca.pem")),
    )
    files = secret_files(tmp_path, definition)
    assert files["ca"] == "/srv/ca.pem"
    assert Path(files["npm"]).read_bytes() == b"t0ken\n"
    for path in (tmp_path / "docker").iterdir():
        assert path.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / files["npm"]).stat().st_mode & 0o777 == 0o600


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.setenv("PUSH_PASSWORD", "hunter22")
    monkeypatch.delenv("BASE_PASSWORD", raising=False)
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "ops.toml").write_text(
        '[registries."push.example.org"]\nusername = "ci"\npassword = "env:PUSH_PASSWORD"\n'
        '[registries."base.example.org"]\nusername = "ci"\npassword = "env:BASE_PASSWORD"\n[environments.staging]\n'
    )
    return load("staging", start=folder)


def test_a_push_without_a_password_is_refused(settings):
    with pytest.raises(ConfigError, match="BASE_PASSWORD"):
        build_logins(settings, (), ["base.example.org/web:1"])


def test_base_images_may_be_public_so_a_missing_login_is_a_warning(settings):
    definition = Definition("web", "push.example.org/web:1", "/", inline="FROM base.example.org/python\n")
    auths, warnings = build_logins(settings, (definition,), ["push.example.org/web:1"])
    assert set(json.loads(auths or "")["auths"]) == {"push.example.org"}
    (warning,) = warnings
    assert "base.example.org without a login" in warning


def test_registries_that_the_build_does_not_name_are_not_logged_in_to(settings):
    assert build_logins(settings, (Definition("web", "local/web:1", "/", inline="FROM scratch"),), ()) == (
        None,
        (),
    )

"""Which version a command means."""

import subprocess

import pytest

from ops.config import Version, git_revision, load, resolve_version
from ops.deploy.bundle import new_release_id
from ops.errors import UsageError


def git(folder, *argv):
    identity = ("-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false")
    return subprocess.run(
        ["git", *identity, *argv], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.delenv("OPS_STACK", raising=False)
    monkeypatch.delenv("RELEASE", raising=False)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    folder = tmp_path / "shop"
    folder.mkdir()

    def with_version(version: str):
        (folder / "ops.toml").write_text(f'version = "{version}"\n[environments.staging]\n')
        return load("staging", start=folder)

    return with_version


@pytest.fixture
def checkout(settings):
    found = settings("git")
    git(found.folder, "init", "-q")
    git(found.folder, "add", ".")
    git(found.folder, "commit", "-q", "-m", "first")
    return found


def test_git_describes_a_clean_checkout_and_names_the_commit(checkout):
    head = git(checkout.folder, "rev-parse", "HEAD")
    found = resolve_version(checkout, None)
    assert found.revision == head
    assert head.startswith(found.version)


def test_a_tag_is_the_version(checkout):
    git(checkout.folder, "tag", "1.4.2")
    assert resolve_version(checkout, None).version == "1.4.2"


def test_a_dirty_checkout_is_refused_with_what_is_dirty(checkout):
    (checkout.folder / "api.py").touch()
    with pytest.raises(UsageError, match=r"api\.py") as caught:
        resolve_version(checkout, None)
    assert "--allow-dirty" in str(caught.value.next_step)


def test_a_dirty_checkout_that_is_allowed_says_so_in_the_version(checkout):
    git(checkout.folder, "tag", "1.4.2")
    (checkout.folder / "api.py").touch()
    assert resolve_version(checkout, None, allow_dirty=True).version == "1.4.2-dirty"


def test_a_git_tag_that_cannot_be_an_image_tag_is_refused(checkout):
    git(checkout.folder, "tag", "release/1")
    with pytest.raises(UsageError, match="cannot be an image tag"):
        resolve_version(checkout, None)


def test_a_folder_without_git_says_what_to_give(settings):
    with pytest.raises(UsageError) as caught:
        resolve_version(settings("git"), None)
    assert caught.value.next_step == "give --version"
    assert git_revision(settings("git").folder) is None


def test_a_literal_is_taken_as_it_is(settings):
    assert resolve_version(settings("1.0"), None) == Version("1.0", None)


def test_the_option_wins_over_ops_toml(settings):
    assert resolve_version(settings("1.0"), "1.1").version == "1.1"


@pytest.mark.parametrize("text", ["a b", ".1", "-1", "a/b", "a" * 107, "a\n"])
def test_text_that_cannot_be_an_image_tag_is_refused(settings, text):
    with pytest.raises(UsageError, match="cannot be an image tag"):
        resolve_version(settings("1.0"), text)


def test_the_longest_version_gives_a_release_whose_images_can_be_tagged(settings):
    version = resolve_version(settings("1.0"), "a" * 106).version
    assert len(new_release_id(version)) == 128


def test_a_version_can_come_from_a_variable(settings, monkeypatch):
    monkeypatch.setenv("RELEASE", "7")
    assert resolve_version(settings("env:RELEASE"), None).version == "7"


def test_a_variable_without_value_is_named(settings):
    with pytest.raises(UsageError, match="RELEASE"):
        resolve_version(settings("env:RELEASE"), None)

"""A release as files on a server: whole or not at all, secrets for their owner alone."""

import io
import re
import tarfile
from dataclasses import replace

import pytest
from examples import PROXY, facts, release, spec
from shells import run

from ops.commands import Command
from ops.deploy.bundle import describe, discard, new_release_id, upload
from ops.engines.content import Content, pack
from ops.engines.desired import Desired
from ops.engines.layout import Layout
from ops.engines.release import Release

SQL = Content("init.sql", (("init.sql", b"select 1;", 0o644),), False, "aa11")
TOOLS = Content("tools", (("run.sh", b"#!/bin/sh\n", 0o755), ("deep/er.txt", b"x", 0o640)), True, "bb22")
SECRETS = {"TOKEN": 'a"b$c\nd', "OTHER": "not used here"}
RELEASE = release(
    spec("api", config="c0ffee"), id="20260101T000000Z-1-ab12", run_id="run-1", files=("aa11", "bb22")
)


def goal(layout, *contents):
    mounts = tuple((f"{layout.files}/{content.digest}", content) for content in contents)
    return Desired(
        {"services": {"api": {"image": "x", "environment": {"T": "${TOKEN}"}}}},
        {},
        mounts,
        secrets=("TOKEN",),
    )


def members(command):
    with tarfile.open(fileobj=io.BytesIO(command.stdin)) as archive:
        return {member.name: member.mode for member in archive.getmembers()}


@pytest.fixture
def layout(tmp_path):
    return Layout(str(tmp_path / "it's"), "shop", "production")


@pytest.fixture
def root(tmp_path):
    made = tmp_path / "it's" / "shop" / "production"
    for name in ("files", "releases"):
        (made / name).mkdir(parents=True)
    return made


@pytest.fixture
def send(layout, shell):
    def sent(*contents, before=""):
        command = upload(RELEASE, goal(layout, *contents), layout, facts(), SECRETS)
        return run(replace(command, script=before + command.script), shell)

    return sent


def everything(root):
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def test_one_stream_carries_the_release_and_the_content_with_modes(layout):
    assert members(upload(RELEASE, goal(layout, SQL, TOOLS), layout, facts(), SECRETS)) == {
        "release/compose.yaml": 0o644,
        "release/.env": 0o600,
        "release/release.json": 0o644,
        "files/aa11/init.sql": 0o644,
        "files/bb22/run.sh": 0o755,
        "files/bb22/deep/er.txt": 0o640,
    }


def test_content_that_the_server_has_is_not_sent(layout):
    known = facts(files=frozenset({"aa11"}))
    names = members(upload(RELEASE, goal(layout, SQL, TOOLS), layout, known, SECRETS))
    assert "files/aa11/init.sql" not in names
    assert "files/bb22/run.sh" in names


def test_content_that_two_services_mount_is_sent_once(layout):
    command = upload(RELEASE, goal(layout, SQL, SQL), layout, facts(), SECRETS)
    with tarfile.open(fileobj=io.BytesIO(command.stdin)) as archive:
        names = archive.getnames()
    assert names.count("files/aa11/init.sql") == 1


def test_no_secret_stands_in_the_command_or_the_compose_file(layout):
    command = upload(RELEASE, goal(layout), layout, facts(), {"TOKEN": "hunter22"})
    with tarfile.open(fileobj=io.BytesIO(command.stdin)) as archive:
        compose = archive.extractfile("release/compose.yaml").read().decode()
    assert "hunter22" not in command.script + command.shown + compose
    assert "${TOKEN}" in compose


def test_it_arrives_with_its_modes_and_nothing_else(send, root):
    assert send(SQL, TOOLS).ok
    assert everything(root) == [
        "files/aa11/init.sql",
        "files/bb22/deep/er.txt",
        "files/bb22/run.sh",
        f"releases/{RELEASE.id}/.env",
        f"releases/{RELEASE.id}/compose.yaml",
        f"releases/{RELEASE.id}/release.json",
    ]
    assert (root / "files/bb22/run.sh").stat().st_mode & 0o777 == 0o755
    assert [path.name for path in root.iterdir() if path.name.startswith(".")] == []


def test_values_stand_in_a_file_for_their_owner_alone(send, root):
    send()
    env = root / "releases" / RELEASE.id / ".env"
    assert env.stat().st_mode & 0o777 == 0o600
    assert env.read_text().splitlines() == ['TOKEN="a\\"b$$c\\nd"', 'OPS_CONFIG_API="c0ffee"']


def test_releases_and_files_are_for_their_owner_alone(send, root):
    send()
    assert {(root / name).stat().st_mode & 0o777 for name in ("files", "releases")} == {0o700}


def test_containers_may_read_its_content_whatever_the_umask_of_the_login(send, root):
    assert send(TOOLS, before="umask 077; ").ok
    assert (root / "files/bb22/deep").stat().st_mode & 0o777 == 0o755
    assert (root / "files/bb22").stat().st_mode & 0o777 == 0o755


def seen(folder):
    """What a container sees of a mounted folder: by path, the bytes and modes of files, links as they are, folders."""
    return {
        path.relative_to(folder).as_posix(): path.readlink()
        if path.is_symlink()
        else "folder"
        if path.is_dir()
        else (path.read_bytes(), path.stat().st_mode & 0o777)
        for path in folder.rglob("*")
    }


def test_a_container_sees_the_folder_that_plain_compose_would_show_it(send, root, tmp_path):
    init = tmp_path / "stack" / "init"
    (init / "spool" / "in").mkdir(parents=True)
    (init / "lib").mkdir()
    (init / "lib" / "load.sh").write_text("#!/bin/sh\n")
    (init / "lib" / "load.sh").chmod(0o755)
    for name, said in (
        ("01.sh", "lib/load.sh"),
        ("current", "lib"),
        ("lib/up", "../spool"),
        ("outside", "../../secret"),
        ("modules", "/usr/lib/nginx/modules"),
        ("gone", "no such file"),
        ("loop", "loop"),
    ):
        (init / name).symlink_to(said)
    content = pack(tmp_path / "stack", "init")
    assert send(content, before="umask 077; ").ok
    assert seen(root / "files" / content.digest) == seen(init)


def test_a_mounted_folder_with_nothing_in_it_is_there(send, root, tmp_path):
    (tmp_path / "stack" / "plugins").mkdir(parents=True)
    content = pack(tmp_path / "stack", "plugins")
    assert send(content).ok
    assert (root / "files" / content.digest).stat().st_mode & 0o777 == 0o755


def test_the_record_beside_it_reads_back(send, root):
    send()
    assert Release.from_json((root / "releases" / RELEASE.id / "release.json").read_text()) == RELEASE


def test_content_that_stands_there_already_stays_as_it_is(send, root):
    (root / "files" / "aa11").mkdir()
    (root / "files" / "aa11" / "init.sql").write_text("there before")
    assert send(SQL).ok
    assert (root / "files" / "aa11" / "init.sql").read_text() == "there before"


def test_a_release_that_was_half_written_by_a_run_that_died_is_replaced(send, root):
    (root / "releases" / RELEASE.id).mkdir()
    (root / "releases" / RELEASE.id / "left").write_text("")
    assert send().ok
    assert not (root / "releases" / RELEASE.id / "left").exists()


@pytest.mark.parametrize("breaking", ["tar() { return 1; }; ", "mv() { return 1; }; "])
def test_a_failure_leaves_no_release_and_nothing_of_the_stream(send, root, breaking):
    assert not send(SQL, before=breaking).ok
    assert everything(root) == []
    assert sorted(path.name for path in root.iterdir()) == ["files", "releases"]


def test_a_stream_that_is_cut_off_leaves_nothing(layout, root, shell):
    command = upload(RELEASE, goal(layout, SQL), layout, facts(), SECRETS)
    assert not run(replace(command, stdin=command.stdin[:700]), shell).ok
    assert everything(root) == []


def discarded(layout, shell):
    command = discard(RELEASE, layout, frozenset({"bb22"}))
    return run(replace(command, script=f"docker() {{ return 1; }}; {command.script}"), shell)


def test_discarding_removes_the_release_and_the_content_that_came_with_it(send, layout, root, shell):
    send(SQL, TOOLS)
    assert discarded(layout, shell).ok
    assert everything(root) == ["files/aa11/init.sql"]


def test_discarding_twice_is_no_failure(layout, root, shell):
    assert discarded(layout, shell).ok


def test_ids_sort_by_time_and_bear_the_version():
    assert re.fullmatch(r"\d{8}T\d{6}Z-1\.4\.2-[0-9a-f]{4}", new_release_id("1.4.2"))


def test_the_record_names_content_and_the_proxys_folders(layout):
    conf = Content("nginx/conf", (("a.conf", b"x", 0o644),), True, "cc33")
    desired = Desired(
        {"services": {}},
        {"nginx": spec("nginx", pin="nginx@sha256:99")},
        ((f"{layout.files}/aa11/init.sql", SQL), (f"{layout.proxy}/nginx/conf", conf)),
        proxy=replace(PROXY, image=""),
    )
    found = describe(desired, layout, RELEASE)
    assert found.files == ("aa11", "cc33")
    assert found.proxy_folders == {"nginx/conf": "cc33"}
    assert set(found.proxy_files) == {"nginx/conf/a.conf"}
    assert found.proxy.image == "nginx@sha256:99"


def test_titles_name_the_folder_and_not_the_script(layout):
    command = upload(RELEASE, goal(layout), layout, facts(), SECRETS)
    assert isinstance(command, Command)
    assert command.title.startswith(f"write {layout.release(RELEASE.id)}/")

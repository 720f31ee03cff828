"""What of the stack folder travels with a release: what plain Compose would show in the container."""

from dataclasses import replace
from pathlib import Path

import pytest

from ops.engines.content import follow, pack
from ops.errors import ConfigError


@pytest.fixture
def sql(tmp_path):
    """A stack folder with a folder of files and nothing else."""
    for name, text, mode in (
        ("a.txt", "1", 0o644),
        ("a/b/c.sql", "2", 0o600),
        ("a-b", "3", 0o644),
        ("é.sh", "#!/bin/sh\n", 0o755),
    ):
        path = tmp_path / "sql" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
    return tmp_path / "sql"


def test_a_folder_is_packed_whole_with_modes_sorted_by_path(sql, tmp_path):
    assert [(name, mode) for name, _, mode in pack(tmp_path, "sql").files] == [
        ("a/b/c.sql", 0o600),
        ("a-b", 0o644),
        ("a.txt", 0o644),
        ("é.sh", 0o755),
    ]


@pytest.mark.parametrize("left_out", [".git/HEAD", "__pycache__/a.pyc", ".ops/logs/run.log", ".DS_Store"])
def test_what_tools_leave_behind_is_not_packed(tmp_path, left_out):
    (tmp_path / left_out).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / left_out).write_text("x")
    assert replace(pack(tmp_path, "."), source="missing") == pack(tmp_path, "missing")


def test_dotfiles_are_packed(tmp_path):
    (tmp_path / ".htpasswd").write_text("x")
    assert [name for name, _, _ in pack(tmp_path, ".").files] == [".htpasswd"]


def test_what_is_not_there_packs_as_an_empty_folder(tmp_path):
    packed = pack(tmp_path, "missing")
    assert (packed.files, packed.links, packed.empty, packed.folder) == ((), (), (), True)


@pytest.mark.parametrize(
    ("relative", "digest"),
    [
        ("sql", "4c14853abf62faa9978a25f32ecb273266fbd55656968fbc6ee6186a51828cd2"),
        ("sql/a.txt", "068f4c75a8c1d7af1e8e55cc47ac4481e53ba2a52744dd7b34f2932fe050abfb"),
        ("missing", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
    ],
)
def test_the_hash_of_plain_files_is_the_one_that_running_containers_mount(sql, tmp_path, relative, digest):
    packed = pack(tmp_path, relative)
    assert packed.digest == digest, "this change would recreate every container that mounts a file"
    assert follow(tmp_path, packed) == packed


@pytest.mark.parametrize("said", ["a.txt", "a/b", "../init.sql", "/etc/nginx/modules", "gone", "itself"])
def test_a_link_stays_the_link_that_it_is(sql, tmp_path, said):
    before = pack(tmp_path, "sql").files
    (sql / "itself").symlink_to(said)
    packed = pack(tmp_path, "sql")
    assert (packed.files, packed.links) == (before, (("itself", said),))


@pytest.mark.parametrize(
    ("mode", "kept"),
    [(0o664, 0o644), (0o666, 0o644), (0o775, 0o755), (0o660, 0o640), (0o600, 0o600), (0o755, 0o755)],
)
def test_the_umask_of_a_checkout_changes_nothing(tmp_path, mode, kept):
    (tmp_path / "a.sql").write_text("1")
    packed = []
    for one in (kept, mode):
        (tmp_path / "a.sql").chmod(one)
        packed.append(pack(tmp_path, "a.sql"))
    assert packed[0] == packed[1]
    assert packed[1].files == (("a.sql", b"1", kept),)


def test_empty_folders_are_packed_at_any_depth(sql, tmp_path):
    (sql / "spool" / "in").mkdir(parents=True)
    (sql / "a" / "cache").mkdir()
    assert pack(tmp_path, "sql").empty == ("a/cache", "spool/in")


def test_a_folder_with_nothing_but_what_tools_leave_behind_is_an_empty_one(sql, tmp_path):
    (sql / "spool").mkdir()
    before = pack(tmp_path, "sql")
    (sql / "spool" / ".DS_Store").write_text("x")
    assert pack(tmp_path, "sql") == before
    assert before.empty == ("spool",)


def test_the_hash_changes_with_all_that_a_container_sees(sql, tmp_path):
    seen = [pack(tmp_path, "sql").digest]

    def changed():
        seen.append(pack(tmp_path, "sql").digest)
        return len(set(seen)) == len(seen)

    (sql / "a.txt").write_text("2")
    assert changed(), "a byte"
    (sql / "a.txt").chmod(0o600)
    assert changed(), "a mode"
    (sql / "a.txt").rename(sql / "b.txt")
    assert changed(), "a name"
    (sql / "new").mkdir()
    assert changed(), "an empty folder"
    (sql / "new").rename(sql / "newer")
    assert changed(), "the name of an empty folder"
    (sql / "newer").rmdir()
    (sql / "newer").symlink_to("b.txt")
    assert changed(), "a link"
    (sql / "newer").unlink()
    (sql / "newer").symlink_to("a-b")
    assert changed(), "where a link leads"
    (sql / "newer").unlink()
    (sql / "newer").write_text("a-b")
    assert changed(), "a file in place of a link"


def test_content_that_cannot_be_read_is_named(sql, tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(
        ConfigError, match=r"^\./sql/a/b/c\.sql is mounted, but cannot be read here: Permission denied"
    ):
        pack(tmp_path, "sql")


class TestFollow:
    """Links as the files and folders that they lead to."""

    def followed(self, sql, name, said):
        (sql / name).symlink_to(said)
        return follow(sql.parent, pack(sql.parent, "sql"))

    def test_a_link_to_a_file_is_that_file(self, sql, tmp_path):
        (tmp_path / "run.sh").write_text("x")
        (tmp_path / "run.sh").chmod(0o755)
        assert ("l", b"x", 0o755) in self.followed(sql, "l", "../run.sh").files

    def test_a_link_to_a_folder_is_that_folder(self, sql):
        (sql / "a" / "none").mkdir()
        followed = self.followed(sql, "l", "a")
        assert ("l/b/c.sql", b"2", 0o600) in followed.files
        assert followed.empty == ("a/none", "l/none")

    def test_a_link_to_an_empty_folder_is_an_empty_folder(self, sql):
        (sql / "none").mkdir()
        assert self.followed(sql, "l", "none").empty == ("l", "none")

    def test_a_link_to_a_link_is_what_that_leads_to(self, sql):
        (sql / "a" / "inner").symlink_to("../a-b")
        assert ("l/inner", b"3", 0o644) in self.followed(sql, "l", "a").files

    def test_its_hash_is_that_of_the_same_files_without_links(self, sql):
        followed = self.followed(sql, "l", "a.txt")
        (sql / "l").unlink()
        (sql / "l").write_text("1")
        (sql / "l").chmod(0o644)
        assert followed == pack(sql.parent, "sql")

    @pytest.mark.parametrize(
        ("said", "why"),
        [
            ("gone", "gone, which is not there"),
            ("../../..", r"\.\./\.\./\.\., which is outside the stack folder"),
            ("/etc", "/etc, which is outside the stack folder"),
            ("l", "l, which is not there"),
            (".", "., a folder that it stands in itself"),
            ("..", r"\.\., a folder that it stands in itself"),
        ],
    )
    def test_a_link_that_nothing_can_stand_for_is_named(self, sql, said, why):
        with pytest.raises(ConfigError, match=rf"^\./sql/\S+ is a link to {why}"):
            self.followed(sql, "l", said)

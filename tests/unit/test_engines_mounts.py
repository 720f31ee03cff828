"""Where a relative bind mount lives on a server: content, data, or the proxy's own folder."""

import pytest

from ops.engines.content import pack
from ops.engines.layout import Layout
from ops.engines.mounts import classify
from ops.errors import ConfigError

LAYOUT = Layout("/opt", "shop", "production")
ROOT = "/opt/shop/production"


@pytest.fixture
def place(tmp_path):
    (tmp_path / "sql" / "deep").mkdir(parents=True)
    (tmp_path / "sql" / "init.sql").write_text("select 1;")
    (tmp_path / "sql" / "deep" / "run.sh").write_text("#!/bin/sh\n")
    (tmp_path / "sql" / "deep" / "run.sh").chmod(0o755)

    def classified(relative, *, read_only=True, proxy=False, data=(), content=()):
        return classify(
            tmp_path,
            relative,
            read_only=read_only,
            service="db",
            proxy=proxy,
            data=data,
            content=content,
            layout=LAYOUT,
        )

    return classified


def test_a_file_of_the_stack_folder_is_content_under_the_hash_of_its_bytes(place, tmp_path):
    mount = place("sql/init.sql")
    assert mount.path == f"{ROOT}/files/{pack(tmp_path, 'sql/init.sql').digest}/init.sql"
    assert mount.content.files == (("init.sql", b"select 1;", 0o644),)


def test_a_file_mounted_for_writing_is_content_as_well(place):
    assert place("sql/init.sql", read_only=False).content is not None


def test_a_folder_mounted_read_only_is_content_under_its_hash(place, tmp_path):
    assert place("sql").path == f"{ROOT}/files/{pack(tmp_path, 'sql').digest}"


def test_what_is_not_there_is_data_and_lives_in_shared(place):
    mount = place("uploads", read_only=False)
    assert (mount.path, mount.content) == (f"{ROOT}/shared/uploads", None)


def test_a_folder_mounted_for_writing_is_refused_until_persist_names_it(place):
    with pytest.raises(ConfigError, match=r"service db mounts the folder \./sql for writing") as refusal:
        place("sql", read_only=False)
    assert '[persist] data = ["sql"]' in refusal.value.next_step


def test_a_folder_that_persist_calls_data_lives_in_shared(place):
    assert place("sql", read_only=False, data=["./sql/"]).path == f"{ROOT}/shared/sql"


def test_what_stands_below_a_folder_that_persist_calls_data_is_data(place):
    assert place("sql/init.sql", data=["sql"]).path == f"{ROOT}/shared/sql/init.sql"


def test_a_folder_whose_name_only_begins_like_one_of_persist_is_not_meant(place):
    assert place("sql", data=["sq"]).content is not None


def test_a_folder_that_persist_calls_content_is_content_although_it_is_written_to(place):
    assert place("sql", read_only=False, content=["sql"]).content is not None


def test_content_that_is_not_there_is_refused(place):
    with pytest.raises(ConfigError, match="calls content, but it is not there"):
        place("seed", content=["seed"])


def test_a_folder_of_the_proxy_keeps_its_path(place):
    mount = place("sql", proxy=True)
    assert mount.path == f"{ROOT}/proxy/sql"
    assert mount.content is not None


def test_a_single_file_of_the_proxy_goes_by_its_hash(place):
    assert place("sql/init.sql", proxy=True).path.startswith(f"{ROOT}/files/")


def test_a_link_in_a_folder_of_the_proxy_stands_for_what_it_leads_to(place, tmp_path):
    (tmp_path / "sql" / "link.sql").symlink_to("init.sql")
    content = place("sql", proxy=True).content
    assert ("link.sql", b"select 1;", 0o644) in content.files
    assert content.links == ()


def test_a_mount_that_is_a_link_to_nothing_is_refused(place, tmp_path):
    (tmp_path / "seed").symlink_to("gone")
    with pytest.raises(ConfigError, match=r"service db mounts \./seed, a link to gone, which is not there"):
        place("seed")


def test_a_mount_that_is_a_link_to_a_folder_is_that_folder(place, tmp_path):
    (tmp_path / "seed").symlink_to("sql")
    assert place("seed").path == place("sql").path

"""The proxy's upstream files and configuration: written by real shells, with a `docker` that answers for nginx."""

import hashlib
import subprocess
from dataclasses import replace
from types import SimpleNamespace

import pytest
from examples import PROXY, release, spec

from ops.engines.layout import Layout
from ops.engines.nginx import (
    apply_configuration,
    configuration_changed,
    parse_version,
    resting_upstream,
    upstream_text,
    workers_query,
    write_upstream,
)

DOCKER = """#!/bin/sh
echo "$*" >> "{log}"
case "$*" in
    "ps -q "*) [ -e "{stopped}" ] || echo proxy-id ;;
    "top "*) printf 'PID COMMAND\\n10 nginx: master process\\n11 nginx: worker process\\n12 nginx: worker process is shutting down\\n' ;;
    *"nginx -t -q") ! grep -rqs 'refuse me' "{proxy}" || { echo 'nginx: [emerg] unknown directive' >&2; exit 1; } ;;
    "compose "*" nginx -t") ! grep -rqs 'cannot try' "{proxy}" || { echo 'Address already in use' >&2; exit 1; }
        ! grep -rqs 'refuse me' "{proxy}" || { echo 'nginx: configuration file /etc/nginx/nginx.conf test failed' >&2; exit 1; } ;;
    *"nginx -s reload") [ ! -e "{stuck}" ] || exit 1 ;;
esac
"""


def listed(text):
    return [line.strip() for line in text.splitlines() if " server " in line]


def test_an_upstream_of_names_is_resolved_by_dockers_dns():
    text = upstream_text(spec("api"), ["shop-api-1", "shop-api-2"], resolve=True)
    assert "    resolver 127.0.0.11 valid=1s ipv6=off;" in text.splitlines()
    assert listed(text) == [
        "server shop-api-1:8000 resolve max_fails=1 fail_timeout=2s;",
        "server shop-api-2:8000 resolve max_fails=1 fail_timeout=2s;",
    ]


def test_an_upstream_of_addresses_names_no_resolver():
    text = upstream_text(spec("api"), ["10.0.0.1"], resolve=False)
    assert "resolve" not in text
    assert listed(text) == ["server 10.0.0.1:8000 max_fails=1 fail_timeout=2s;"]


def test_backups_stand_behind_the_servers():
    text = upstream_text(spec("api"), ["new"], backups=["old"], resolve=True)
    assert listed(text)[1] == "server old:8000 resolve max_fails=1 fail_timeout=2s backup;"


def test_ip_hash_knows_no_backups():
    text = upstream_text(spec("api", balance="ip_hash"), ["new"], backups=["old"], resolve=True)
    assert "    ip_hash;" in text.splitlines()
    assert "old" not in text


@pytest.mark.parametrize(("balance", "line"), [("least_conn", ["    least_conn;"]), ("round_robin", [])])
def test_the_balance_stands_before_the_servers_and_round_robin_needs_no_word(balance, line):
    text = upstream_text(spec("api", balance=balance), ["a"], resolve=True).splitlines()
    assert [found for found in text if "least_conn" in found or "round_robin" in found] == line


def test_an_upstream_without_servers_is_one_that_nginx_accepts_and_that_answers_502():
    assert listed(upstream_text(spec("api"), [], resolve=True)) == ["server 127.0.0.1:8000 down;"]


def test_at_rest_an_upstream_names_the_containers_where_nginx_resolves():
    assert resting_upstream(spec("api"), ["a", "b"], resolve=True) == upstream_text(
        spec("api"), ["a", "b"], resolve=True
    )


def test_at_rest_an_old_nginx_gets_the_services_name():
    assert listed(resting_upstream(spec("api"), ["a", "b"], resolve=False))[0].startswith("server api:8000 ")


@pytest.mark.parametrize("resolve", [True, False])
def test_a_service_at_rest_without_containers_is_named_by_nothing_that_must_resolve(resolve):
    assert listed(resting_upstream(spec("api"), [], resolve=resolve)) == ["server 127.0.0.1:8000 down;"]


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("nginx version: nginx/1.27.4\n", (1, 27, 4)),
        ("nginx version: nginx/1.26.3 (Debian)", (1, 26, 3)),
        (
            "nginx version: nginx/1.27.4\nnginx version: nginx/1.25.5\n",
            (1, 25, 5),
        ),  # the one that runs, the one that comes
        ("OCI runtime exec failed", ()),
    ],
)
def test_the_version_of_nginx_is_read(text, version):
    assert parse_version(text) == version


@pytest.fixture
def server(tmp_path, shell):
    layout = Layout(str(tmp_path / "it's"), "shop", "production")
    proxy = tmp_path / "it's" / "shop" / "production" / "proxy"
    found = SimpleNamespace(
        layout=layout,
        proxy=proxy,
        files=proxy.parent / "files",
        log=tmp_path / "calls",
        stopped=tmp_path / "stopped",
        stuck=tmp_path / "stuck",
    )
    proxy.mkdir(parents=True)
    (tmp_path / "docker").write_text(
        DOCKER.replace("{log}", str(found.log))
        .replace("{stopped}", str(found.stopped))
        .replace("{proxy}", str(proxy))
        .replace("{stuck}", str(found.stuck))
    )
    (tmp_path / "docker").chmod(0o755)

    def run(command):
        done = subprocess.run(
            [shell, "-c", f"PATH={tmp_path}:$PATH; {command.script}"],
            input=command.stdin,
            capture_output=True,
            check=False,
        )
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    found.run = run
    found.calls = lambda: [line for line in found.log.read_text().splitlines() if line.startswith("exec")]
    return found


class TestUpstreams:
    """write_upstream"""

    @pytest.fixture(autouse=True)
    def upstream(self, server):
        self.server = server
        self.file = server.proxy / "nginx" / "upstreams" / "api.conf"

    def write(self, text):
        return self.server.run(write_upstream(self.server.layout, "shop", PROXY, "api", text))

    def test_a_file_is_put_in_place_tested_and_loaded(self):
        assert self.write("one\n")[0] == 0
        assert self.file.read_text() == "one\n"
        assert self.server.calls() == ["exec proxy-id nginx -t -q", "exec proxy-id nginx -s reload"]

    def test_it_tells_the_workers_from_before_the_reload(self):
        assert self.write("one\n")[1].split() == ["11", "12"]

    def test_others_may_read_it(self):
        self.write("one\n")
        assert self.file.stat().st_mode & 0o777 == 0o644
        assert self.file.parent.stat().st_mode & 0o777 == 0o755

    def test_a_file_that_nginx_refuses_is_put_back_as_it_was(self):
        self.write("one\n")
        status, _, stderr = self.write("refuse me\n")
        assert status == 65
        assert "unknown directive" in stderr
        assert "the old one stands" in stderr
        assert self.file.read_text() == "one\n"

    def test_a_first_file_that_nginx_refuses_is_removed(self):
        assert self.write("refuse me\n")[0] == 65
        assert list(self.file.parent.glob("[!.]*")) == []

    def test_a_file_that_is_not_loaded_is_put_back_as_it_was(self):
        self.write("one\n")
        self.server.stuck.touch()
        assert self.write("two\n")[0] == 66
        assert self.file.read_text() == "one\n"

    def test_the_same_text_again_is_not_loaded_again(self):
        self.write("one\n")
        before = self.server.calls()
        assert self.write("one\n")[0] == 0
        assert self.server.calls() == before

    def test_the_same_text_again_tells_the_workers_that_still_end_their_requests(self):
        self.write("one\n")
        assert self.write("one\n")[1].split() == ["12"]

    def test_a_file_of_a_run_that_died_before_the_reload_is_loaded(self):
        self.write("one\n")
        self.file.write_text("two\n")
        before = len(self.server.calls())
        assert self.write("two\n")[0] == 0
        assert len(self.server.calls()) == before + 2

    def test_the_text_from_before_is_loaded_after_one_that_was_refused(self):
        self.write("one\n")
        self.write("refuse me\n")
        assert self.write("two\n")[0] == 0
        assert self.file.read_text() == "two\n"

    def test_without_a_running_proxy_the_file_waits_for_its_start(self):
        self.server.stopped.touch()
        assert self.write("one\n") == (0, "", "")
        assert self.file.read_text() == "one\n"
        assert self.server.calls() == []

    def test_nothing_is_left_beside_it_that_nginx_would_include(self):
        self.write("one\n")
        self.write("refuse me\n")
        self.write("two\n")
        assert [path.name for path in self.file.parent.glob("[!.]*")] == ["api.conf"]


def test_the_workers_are_the_lines_that_say_so(server):
    assert server.run(workers_query("shop", PROXY)) == (0, "11\n12\n", "")


def test_without_a_proxy_there_are_no_workers(server):
    server.stopped.touch()
    assert server.run(workers_query("shop", PROXY)) == (0, "", "")


class TestConfiguration:
    """apply_configuration and configuration_changed"""

    @pytest.fixture(autouse=True)
    def proxy(self, server):
        self.server = server
        self.proxy = server.proxy

    def goal(self, **folders):
        """Return a release whose proxy folders hold files: name of the folder -> {file: text}."""
        digests, files = {}, {}
        for folder, contents in folders.items():
            name = folder.replace("__", "/")
            digests[name] = f"digest-of-{folder}"
            place = self.server.files / digests[name]
            subprocess.run(["rm", "-rf", str(place)], check=True)
            for file, text in contents.items():
                (place / file).parent.mkdir(parents=True, exist_ok=True)
                (place / file).write_text(text)
                files[f"{name}/{file}"] = hashlib.sha256(text.encode()).hexdigest()
        return release(spec("api", strategy="rolling"), proxy=PROXY, proxy_folders=digests, proxy_files=files)

    def apply(self, goal):
        return self.server.run(apply_configuration(self.server.layout, "shop", goal, ["api"]))

    def changed(self, goal):
        present = {
            path.relative_to(self.proxy).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in self.proxy.rglob("*")
            if path.is_file()
        }
        return configuration_changed(goal, present)

    def shown(self):
        return {
            path.relative_to(self.proxy).as_posix(): path.read_text()
            for path in sorted(self.proxy.rglob("*"))
            if path.is_file()
        }

    def test_the_releases_files_are_written_tested_and_loaded(self):
        goal = self.goal(nginx__conf={"a.conf": "1", "deep/b.conf": "2"})
        assert self.apply(goal)[0] == 0
        assert self.shown() == {"nginx/conf/a.conf": "1", "nginx/conf/deep/b.conf": "2"}
        assert self.server.calls() == ["exec proxy-id nginx -t -q", "exec proxy-id nginx -s reload"]

    def test_a_file_that_the_release_lacks_is_removed(self):
        self.apply(self.goal(nginx__conf={"a.conf": "1", "b.conf": "2"}))
        self.apply(self.goal(nginx__conf={"a.conf": "1"}))
        assert self.shown() == {"nginx/conf/a.conf": "1"}

    def test_what_nginx_refuses_is_put_back_as_it_was(self):
        self.apply(self.goal(nginx__conf={"a.conf": "1", "b.conf": "2"}))
        status, _, stderr = self.apply(self.goal(nginx__conf={"a.conf": "refuse me", "c.conf": "3"}))
        assert status == 65
        assert "the old one stands" in stderr
        assert self.shown() == {"nginx/conf/a.conf": "1", "nginx/conf/b.conf": "2"}

    def renew(self, goal):
        (self.proxy.parent / "releases" / goal.id).mkdir(parents=True, exist_ok=True)
        return self.server.run(apply_configuration(self.server.layout, "shop", goal, ["api"], renewed=True))

    def test_for_a_proxy_that_is_renewed_it_is_tested_with_the_new_image_and_not_loaded(self):
        assert self.renew(self.goal(nginx__conf={"a.conf": "1"}))[0] == 0
        assert self.shown() == {"nginx/conf/a.conf": "1"}
        assert self.server.calls() == []
        assert "--entrypoint nginx nginx -t" in self.server.log.read_text()

    def test_what_the_new_image_refuses_is_put_back_as_it_was(self):
        self.apply(self.goal(nginx__conf={"a.conf": "1"}))
        status, _, stderr = self.renew(self.goal(nginx__conf={"a.conf": "refuse me"}))
        assert (status, "the old one stands" in stderr, "test failed" in stderr) == (65, True, True)
        assert self.shown() == {"nginx/conf/a.conf": "1"}

    def test_a_test_that_cannot_be_made_leaves_it_to_the_gate(self):
        assert self.renew(self.goal(nginx__conf={"a.conf": "cannot try"}))[0] == 0

    def test_a_generated_upstream_stays_as_it_is(self):
        upstream = self.proxy / "nginx" / "upstreams" / "api.conf"
        upstream.parent.mkdir(parents=True)
        upstream.write_text("generated")
        self.apply(self.goal(nginx__upstreams={"api.conf": "of the checkout", "old.conf": "x"}))
        assert upstream.read_text() == "generated"

    def test_a_generated_upstream_stays_where_a_parent_folder_is_what_is_mounted(self):
        upstream = self.proxy / "nginx" / "upstreams" / "api.conf"
        upstream.parent.mkdir(parents=True)
        upstream.write_text("generated")
        self.apply(self.goal(nginx={"upstreams/api.conf": "of the checkout", "nginx.conf": "x"}))
        assert upstream.read_text() == "generated"

    def test_an_upstream_of_a_service_that_no_longer_rolls_is_removed(self):
        stale = self.proxy / "nginx" / "upstreams" / "gone.conf"
        stale.parent.mkdir(parents=True)
        stale.write_text("generated")
        self.apply(self.goal(nginx__upstreams={".gitkeep": ""}))
        assert not stale.exists()

    def test_a_folder_without_files_is_no_failure(self):
        assert self.apply(self.goal(nginx__upstreams={}, nginx__conf={"a.conf": "1"}))[0] == 0
        assert (self.proxy / "nginx" / "upstreams").is_dir()

    def test_without_a_running_proxy_the_files_wait_for_its_start(self):
        self.server.stopped.touch()
        assert self.apply(self.goal(nginx__conf={"a.conf": "1"}))[0] == 0
        assert self.server.calls() == []

    def test_after_it_nothing_is_changed_any_more(self):
        goal = self.goal(nginx__conf={"a.conf": "1", ".htpasswd": "x"}, nginx__upstreams={".gitkeep": ""})
        assert self.changed(goal)
        self.apply(goal)
        assert not self.changed(goal)

    @pytest.mark.parametrize(
        "content", [{"a.conf": "2"}, {}, {"a.conf": "1", "b.conf": "2"}, {".htpasswd": "x", "a.conf": "1"}]
    )
    def test_a_file_more_or_less_or_different_is_a_change(self, content):
        self.apply(self.goal(nginx__conf={"a.conf": "1"}))
        assert self.changed(self.goal(nginx__conf=content))

    def test_a_generated_upstream_is_no_change(self):
        goal = self.goal(nginx__upstreams={"api.conf": "of the checkout"})
        self.apply(goal)
        self.server.run(write_upstream(self.server.layout, "shop", PROXY, "api", "generated\n"))
        assert not self.changed(goal)

    def test_a_dotfile_that_the_release_lacks_is_no_change(self):
        goal = self.goal(nginx__conf={"a.conf": "1"})
        self.apply(goal)
        (self.proxy / "nginx" / "conf" / ".left").write_text("")
        assert not self.changed(goal)

    def test_a_release_without_a_proxy_has_no_configuration(self):
        assert not configuration_changed(replace(self.goal(), proxy=None), {"a": "b"})

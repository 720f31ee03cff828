"""What is on a server: the questions run for real, their answers read."""

import json
import subprocess
from pathlib import Path

import pytest

from ops.engines.facts import Image, containers_query, host_queries, parse_containers, read_facts
from ops.engines.layout import Layout

MACHINE = (
    '{"docker":"26.1.5+dfsg1","architecture":"x86_64","cpus":4}\n2.26.1-4\n1767225600.123456789\n'
    "/opt/shop/production\noverlay 1000 400 600 40% /\n/var/lib/docker\noverlay 9000 4000 5000 40% /var\n"
)
LONG = "longer than a line of base64 is " * 5
CONTAINER = {
    "id": "abc",
    "name": "/shop-api-2",
    "image": "sha256:11",
    "reference": "api@sha256:22",
    "state": {"Status": "running", "ExitCode": 0, "Health": {"Status": "healthy"}, "StartedAt": "2026"},
    "restarts": 1,
    "labels": {
        "com.docker.compose.service": "api",
        "com.docker.compose.container-number": "2",
        "com.docker.compose.project.working_dir": "/srv/shop",
        "ops.config": "c0ffee",
    },
    "networks": {"default": {"IPAddress": "172.18.0.3"}, "other": {"IPAddress": ""}},
    "created": "2026",
}


def with_(**changes):
    return json.dumps(CONTAINER | changes)


def read(**answers):
    names = ("machine", "containers", "bystanders", "volumes", "networks", "images", "state")
    return read_facts(tuple({"machine": MACHINE, **answers}.get(name, "") for name in names))


def test_a_container_is_read_from_dockers_own_words():
    (found,) = parse_containers(with_())
    assert (found.name, found.service, found.number, found.running) == ("shop-api-2", "api", 2, True)
    assert (found.config, found.health, found.restarts, found.addresses) == (
        "c0ffee",
        "healthy",
        1,
        ("172.18.0.3",),
    )
    assert found.working_dir == "/srv/shop"


def test_a_container_that_docker_is_about_to_restart_does_not_run():
    (found,) = parse_containers(with_(state={"Status": "running", "Restarting": True}))
    assert (found.state, found.running) == ("restarting", False)


def test_a_container_without_labels_networks_and_health_is_read():
    (found,) = parse_containers(with_(labels=None, networks=None, state={"Status": "created"}))
    assert (found.service, found.number, found.addresses, found.health) == ("", 0, (), "")


def test_containers_come_by_service_and_number_not_by_text():
    names = [("b", "1"), ("a", "10"), ("a", "9")]
    labels = [{"com.docker.compose.service": s, "com.docker.compose.container-number": n} for s, n in names]
    found = parse_containers("\n".join(with_(labels=label) for label in labels))
    assert [(c.service, c.number) for c in found] == [("a", 9), ("a", 10), ("b", 1)]


def test_versions_clock_and_free_bytes_are_read():
    found = read()
    assert (found.docker, found.compose, found.cpus, found.clock) == (
        "26.1.5+dfsg1",
        "2.26.1-4",
        4,
        1767225600.123456789,
    )
    assert found.free == {"/opt/shop/production": 600 * 1024, "/var/lib/docker": 5000 * 1024}


def test_other_containers_are_read_with_their_ports_and_project():
    row = {
        "name": "x",
        "image": "i",
        "ports": "0.0.0.0:80->80/tcp",
        "project": "p",
        "service": "s",
        "stack": "",
        "environment": "",
    }
    (found,) = read(bystanders=json.dumps(row) + "\n").bystanders
    assert (found.project, found.ports) == ("p", "0.0.0.0:80->80/tcp")


def test_labels_of_volumes_are_read():
    rows = [{"Name": "a", "Labels": "k=v,l=w=x"}, {"Name": "b", "Labels": ""}]
    found = read(volumes="\n".join(map(json.dumps, rows)))
    assert found.volumes == {"a": {"k": "v", "l": "w=x"}, "b": {}}


def test_an_image_is_found_by_tag_digest_and_id():
    row = {"Repository": "r.test:5000/a", "Tag": "1", "Digest": "sha256:dd", "ID": "sha256:ii"}
    found = read(images=json.dumps(row))
    for reference in ("r.test:5000/a:1", "r.test:5000/a@sha256:dd", "sha256:ii"):
        assert found.local(reference) == Image("r.test:5000/a", "1", "sha256:dd", "sha256:ii")
    assert found.local("r.test:5000/a:2") is None


def test_a_server_with_nothing_on_it_is_read():
    found = read()
    assert (found.current, found.releases, found.fence_token, found.holder, found.heartbeat_age) == (
        None,
        {},
        0,
        None,
        None,
    )


def state_of(folder: Path, shell: str) -> object:
    script = host_queries(Layout(str(folder), "shop", "production"), "shop")[-1].script
    done = subprocess.run([shell, "-c", script], capture_output=True, check=True, text=True)
    assert done.stderr == ""
    return read(state=done.stdout)


@pytest.fixture
def root(tmp_path):
    made = tmp_path / "it's here" / "shop" / "production"
    made.mkdir(parents=True)
    return made


def test_the_state_of_a_server_is_read_from_its_files(root, shell):
    for name in ("r1", "r2"):
        (root / "releases" / name).mkdir(parents=True)
        (root / "releases" / name / "release.json").write_text(
            f'{{"id": "{name}",\n "odd": "tab\\t ünd {LONG}"}}\n'
        )
    (root / "releases" / "r2" / "compose.yaml").write_text("name: shop\n")
    (root / "current").symlink_to("releases/r2")
    (root / "fence").write_text("7 run-1\n")
    (root / "files" / "aa11").mkdir(parents=True)
    (root / "proxy" / "nginx" / "conf.d").mkdir(parents=True)
    (root / "proxy" / "nginx" / "conf.d" / "two words.conf").write_text("")
    (root / "locks" / "change").mkdir(parents=True)
    (root / "locks" / "change" / "holder.json").write_text('{"run_id": "run-1"}\n')
    found = state_of(root.parents[1], shell)
    assert found.current == "r2"
    assert found.releases["r1"] == f'{{"id": "r1",\n "odd": "tab\\t ünd {LONG}"}}\n'
    assert found.compose_yaml == "name: shop\n"
    assert (found.fence_token, found.fence_run) == (7, "run-1")
    assert found.files == {"aa11"}
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert found.proxy_content == {"nginx/conf.d/two words.conf": empty}
    assert found.holder == '{"run_id": "run-1"}\n'
    assert 0 <= found.heartbeat_age < 10


def test_the_state_of_a_server_without_the_stack_is_empty(tmp_path, shell):
    assert state_of(tmp_path, shell).releases == {}


def test_the_state_of_an_empty_folder_is_empty(root, shell):
    found = state_of(root.parents[1], shell)
    assert (found.current, found.files, found.proxy_content) == (None, frozenset(), {})


def test_a_lock_whose_holder_died_at_once_has_an_age_and_no_holder(root, shell):
    (root / "locks" / "change").mkdir(parents=True)
    found = state_of(root.parents[1], shell)
    assert found.holder is None
    assert found.heartbeat_age is not None


def stub(tmp_path, shell, script, body):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "docker").write_text(f"#!/bin/sh\n{body}\n")
    (tmp_path / "bin" / "docker").chmod(0o755)
    line = f"PATH={tmp_path}/bin:$PATH; {script}"
    return subprocess.run([shell, "-c", line], capture_output=True, check=False, text=True)


def test_free_space_is_asked_of_the_nearest_folder_that_exists(tmp_path, shell):
    layout = Layout(str(tmp_path / "not" / "yet"), "shop", "production")
    script = host_queries(layout, "shop")[0].script
    body = f'case "$1" in info) printf \'{{"docker":"1","architecture":"a","cpus":1}}\\n2\\n{tmp_path}\\n\';; esac'
    found = read(machine=stub(tmp_path, shell, script, body).stdout)
    assert set(found.free) == {layout.root, str(tmp_path)}
    assert all(free > 0 for free in found.free.values())


@pytest.mark.parametrize(("listed", "own"), [("2.26.1-4", "exit 9"), ("", "echo 2.26.1-4")])
def test_compose_is_asked_for_its_version_only_where_docker_does_not_list_it(listed, own, tmp_path, shell):
    script = host_queries(Layout("/opt", "shop", "production"), "shop")[0].script
    info = f'{{"docker":"1","architecture":"a","cpus":1}}\\n{listed}\\n/\\n'
    done = stub(tmp_path, shell, script, f"case \"$1\" in info) printf '{info}';; compose) {own};; esac")
    assert read(machine=done.stdout).compose == "2.26.1-4"


def test_a_docker_without_compose_fails_the_question(tmp_path, shell):
    script = host_queries(Layout("/opt", "shop", "production"), "shop")[0].script
    body = "case \"$1\" in info) printf '{}\\n\\n/\\n';; *) echo no such command >&2; exit 1;; esac"
    done = stub(tmp_path, shell, script, body)
    assert (done.returncode, done.stderr) == (1, "no such command\n")


def test_a_docker_that_does_not_answer_fails_the_question(tmp_path, shell):
    script = host_queries(Layout("/opt", "shop", "production"), "shop")[0].script
    done = stub(tmp_path, shell, script, "echo 'permission denied' >&2; exit 1")
    assert (done.returncode, done.stderr) == (1, "permission denied\n")


def test_a_container_that_vanishes_between_two_looks_is_no_failure(tmp_path, shell):
    body = 'case "$1" in ps) echo a b;; inspect) echo "{}"; exit 1;; esac'
    done = stub(tmp_path, shell, containers_query("shop").script, body)
    assert (done.returncode, done.stdout) == (0, "{}\n")


def test_a_project_without_containers_answers_nothing(tmp_path, shell):
    done = stub(tmp_path, shell, containers_query("shop").script, 'case "$1" in ps) ;; *) exit 9;; esac')
    assert (done.returncode, done.stdout) == (0, "")


def test_a_docker_that_cannot_list_fails_the_question(tmp_path, shell):
    assert stub(tmp_path, shell, containers_query("shop").script, "exit 1").returncode == 1

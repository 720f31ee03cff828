"""The throw-away registry: started for who needs it, stopped by the last, and never someone else's."""

import json
import os
import re
from contextlib import contextmanager

import pytest

from ops.build.throwaway import serve_images, throwaway_registry
from ops.build.users import Users
from ops.commands import Result
from ops.config import load
from ops.errors import FailedUnchanged, OpsError
from ops.hosts import Cancellation, Cancelled
from ops.hosts.fake import FakeHost

PORT = 5077
ADDRESS, FIND = re.compile("^docker context inspect"), re.compile("^ids=.*opsbook-registry-5077")
FETCH, START = (
    re.compile("docker pull -q registry:2$"),
    re.compile("^docker run --detach --name opsbook-registry-5077 "),
)
REMOVE, LOGS = "docker rm --force opsbook-registry-5077", re.compile("^docker logs")


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("OPS_STACK", "OPS_REGISTRY_IMAGE"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "ops.toml").write_text("[environments.staging]\n")
    (folder / "compose.yaml").write_text("services: {web: {build: ./web}}\n")
    return load("staging", start=folder)


class Answering:
    """A connection to a registry."""

    def __init__(self):
        self.rest = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"

    def sendall(self, data): ...
    def settimeout(self, seconds): ...
    def close(self): ...

    def makefile(self, mode, buffering=-1):
        import io

        return io.BytesIO(self.rest)

    def recv(self, size):
        data, self.rest = self.rest[:size], self.rest[size:]
        return data


class Engine(FakeHost):
    """This machine's engine, with or without a registry's container."""

    def __init__(self, *, address="unix:///var/run/docker.sock", local=True):
        super().__init__("here")
        self.state = {"container": None, "starts": 0, "removals": 0}
        self.local = local
        self.allow(ADDRESS, stdout=f"{address}\n")
        self.allow(
            FIND,
            answer=lambda _: Result(
                0, json.dumps(self.state["container"]) if self.state["container"] else ""
            ),
        )
        self.allow(FETCH).allow(LOGS, stderr="cannot listen")
        self.allow(START, answer=self.started).allow(REMOVE, answer=self.removed)

    def there(self, *, stack="shop", owner=None, running=True, answers=True):
        labels = {"ops.registry": stack, "ops.owner": str(os.getuid()) if owner is None else owner}
        self.state["container"] = {"running": running, "labels": labels}
        if answers:
            self.connections["127.0.0.1", PORT] = Answering
        return self

    def started(self, command):
        self.state["starts"] += 1
        self.there(stack=re.search(r"ops\.registry=(\S+)", command.script)[1], answers=self.local)
        return Result(0)

    def removed(self, command):
        self.state["removals"] += 1
        self.state["container"] = None
        self.connections.clear()
        return Result(0)


def refusal(settings, engine):
    with pytest.raises(FailedUnchanged) as caught, throwaway_registry(settings, engine):
        pass
    return caught.value


def test_it_runs_for_the_time_of_the_block_with_a_volume_of_the_stack(settings):
    engine = Engine()
    with throwaway_registry(settings, engine):
        assert engine.state["container"] is not None
    assert engine.state["container"] is None
    (start,) = [script for script in engine.scripts if START.search(script)]
    assert "--publish 127.0.0.1:5077:5000" in start
    assert "--volume opsbook-registry-shop:/var/lib/registry" in start


def test_the_last_user_stops_it(settings):
    engine = Engine()
    with throwaway_registry(settings, engine):
        with throwaway_registry(settings, engine):
            assert engine.state["starts"] == 1
        assert engine.state["container"] is not None, "the first one still uses it"
    assert engine.state["container"] is None


def test_it_is_stopped_when_the_run_fails_or_is_interrupted(settings):
    engine, cancellation = Engine(), Cancellation()

    def interrupted():
        with throwaway_registry(settings, engine, cancellation):
            cancellation.cancel()
            cancellation.check()

    with pytest.raises(Cancelled):
        interrupted()
    assert engine.state["container"] is None


def test_one_that_a_killed_run_left_is_used_and_then_stopped(settings):
    engine = Engine().there()
    with throwaway_registry(settings, engine):
        assert engine.state["starts"] == 0
    assert engine.state["container"] is None


@pytest.mark.parametrize(
    "left", [{"running": False, "answers": False}, {"answers": False}, {"stack": "other"}]
)
def test_one_that_cannot_be_used_is_replaced(settings, left):
    engine = Engine().there(**left)
    with throwaway_registry(settings, engine):
        assert engine.state["starts"] == 1
        assert engine.state["container"]["labels"]["ops.registry"] == "shop"


def test_another_stacks_registry_at_work_is_left_alone(settings, tmp_path):
    engine, other = Engine().there(stack="other"), Users(tmp_path / "cache" / "opsbook", PORT)
    other.join()
    error = refusal(settings, engine)
    assert "stack other" in error.message
    assert "forward_port" in (error.next_step or "")
    assert engine.state["removals"] == 0


def test_another_users_registry_is_left_alone(settings):
    engine = Engine().there(owner="4711")
    assert "4711" in refusal(settings, engine).message
    assert engine.state["removals"] == 0


def test_a_port_that_another_program_has_is_refused(settings):
    engine = Engine()
    engine.connections["127.0.0.1", PORT] = Answering
    assert "port 5077 of this machine is taken" in refusal(settings, engine).message
    assert engine.state["starts"] == 0


@pytest.mark.parametrize("address", ["ssh://build@far", "tcp://10.0.0.5:2375", "tcp://builder:2376"])
def test_an_engine_on_another_machine_is_refused_before_anything_starts(settings, address):
    engine = Engine(address=address)
    assert "on another machine" in refusal(settings, engine).message
    assert engine.state["starts"] == 0


@pytest.mark.parametrize(
    "address", ["tcp://127.0.0.1:2375", "tcp://localhost:2375", "tcp://[::1]:2375", "npipe://x", ""]
)
def test_an_engine_on_this_machine_is_used(settings, address):
    engine = Engine(address=address)
    with throwaway_registry(settings, engine):
        assert engine.state["starts"] == 1


def test_an_engine_whose_ports_are_not_this_machines_is_refused_and_cleared(settings, monkeypatch):
    monkeypatch.setattr("ops.build.registry_container.START_SECONDS", 0.2)
    engine = Engine(local=False)
    assert "on another machine" in refusal(settings, engine).message
    assert engine.state["container"] is None


def test_the_image_of_the_registry_may_be_another(settings, monkeypatch):
    monkeypatch.setenv("OPS_REGISTRY_IMAGE", "mirror.example.org/registry:3")
    engine = Engine().allow(re.compile("docker pull -q mirror.example.org/registry:3$"))
    with throwaway_registry(settings, engine):
        pass
    (start,) = [script for script in engine.scripts if START.search(script)]
    assert start.endswith(" mirror.example.org/registry:3")


def test_an_image_that_cannot_be_pulled_is_one_error_with_the_ways_out(settings):
    engine = Engine().allow(FETCH, status=1, stderr="no such host")
    error = refusal(settings, engine)
    assert "registry:2" in error.message
    assert "OPS_REGISTRY_IMAGE" in (error.next_step or "")


class Server(FakeHost):
    """A server that notes when its forward is open."""

    def __init__(self, name, refuses=False):
        super().__init__(name)
        self.refuses, self.open = refuses, False

    @contextmanager
    def expose(self, port, to_port):
        if self.refuses:
            raise OpsError("sshd does not let it", target=self.name)
        self.exposed.append((port, to_port))
        self.open = True
        try:
            yield
        finally:
            self.open = False


def test_every_server_reaches_it_for_the_time_of_the_block(settings):
    engine, servers = Engine(), {name: Server(name) for name in ("web1", "web2")}
    with serve_images(settings, engine)(servers):
        assert all(server.open for server in servers.values())
        assert engine.state["container"] is not None
    assert not any(server.open for server in servers.values())
    assert servers["web1"].exposed == [(PORT, PORT)]
    assert engine.state["container"] is None


def test_a_server_that_refuses_the_forward_is_named_and_the_others_are_closed(settings):
    engine, servers = Engine(), {"web1": Server("web1"), "web2": Server("web2", refuses=True)}
    with pytest.raises(OpsError) as caught, serve_images(settings, engine)(servers):
        pass
    assert caught.value.target == "web2"
    assert "forward_port" in (caught.value.next_step or "")
    assert not servers["web1"].open
    assert engine.state["container"] is None


@pytest.mark.parametrize(
    ("ops", "compose"),
    [
        ('[build]\nregistry = "r.example.org"\n', "services: {web: {build: ./web}}\n"),
        ("", "services: {web: {image: nginx}}\n"),
        ('[services.web]\nimage = "r.example.org/web:{version}"\n', "services: {web: {build: ./web}}\n"),
    ],
)
def test_a_stack_that_needs_none_needs_no_docker_here(settings, ops, compose):
    (settings.folder / "ops.toml").write_text(f"{ops}[environments.staging]\n")
    (settings.folder / "compose.yaml").write_text(compose)
    with FakeHost("here") as engine, serve_images(load("staging", start=settings.folder), engine)({}):
        assert engine.scripts == []

"""A key that is refused, a server that hangs up and one that does not answer are told apart."""

from __future__ import annotations

import socket

import paramiko
import pytest

from ops.hosts.keys import KeyAuthentication, NotAuthenticated
from ops.hosts.route import Endpoint


class Server:
    """A transport whose server answers every key alike; `stands` is what it says of the connection then."""

    auth_timeout = 20.0

    def __init__(self, error, *, stands=True):
        self.error = error
        self.stands = stands
        self.offered = 0

    def auth_publickey(self, user, key):
        self.offered += 1
        raise self.error

    def is_active(self):
        return self.stands


@pytest.fixture
def endpoint(tmp_path):
    """A way with two keys."""
    paths = (tmp_path / "first", tmp_path / "second")
    for path in paths:
        paramiko.ECDSAKey.generate().write_private_key_file(str(path))
    return Endpoint("web1.example", 22, "deploy", paths)


def told(endpoint, server):
    with pytest.raises(NotAuthenticated) as caught:
        KeyAuthentication(endpoint).authenticate(server)
    return caught.value


def test_each_key_that_is_refused_is_named(endpoint):
    found = told(endpoint, Server(paramiko.AuthenticationException("Authentication failed.")))
    assert str(found).count("not accepted") == 2
    assert "authorized_keys" in found.next_step


def test_a_server_that_does_not_answer_has_not_refused_the_key(endpoint):
    server = Server(paramiko.AuthenticationException("Authentication timeout."))
    assert str(told(endpoint, server)) == f"no answer to {endpoint.identity_files[0]} within 20 s"
    assert server.offered == 1


@pytest.mark.parametrize("stands", [True, False])
def test_a_server_that_hangs_up_has_not_refused_the_key(endpoint, stands):
    """Also where the transport does not know yet that it is over."""
    why = "Authentication failed: transport shut down or saw EOF"
    server = Server(paramiko.AuthenticationException(why), stands=stands)
    found = told(endpoint, server)
    assert "first: the server hung up" in str(found)
    assert "not accepted" not in str(found)
    assert server.offered == 1


def test_an_agent_that_does_not_sign_is_not_told_as_the_server(endpoint):
    found = told(endpoint, Server(TimeoutError("timed out")))
    assert "the agent did not sign" in str(found)


def test_an_agent_that_does_not_answer_is_named(endpoint, tmp_path, monkeypatch):
    monkeypatch.setattr("ops.hosts.keys._LIST", 0.1)
    with socket.socket(socket.AF_UNIX) as agent:
        agent.bind(str(tmp_path / "agent"))
        agent.listen()
        silent = Endpoint(**{**vars(endpoint), "agent": str(tmp_path / "agent")})
        found = told(silent, Server(paramiko.AuthenticationException("Authentication failed.")))
    assert "the agent did not answer" in str(found)

"""Smoke checks through the proxy, and the request that they and the probes make."""

import re
import socket
import ssl
import threading
import time
from pathlib import Path

import pytest
from web import Web, web_host

from ops.config.services import Smoke
from ops.gates import http
from ops.gates.smoke import SmokeFailed, check, smoke
from ops.hosts import Cancellation, Cancelled
from ops.hosts.fake import FakeHost


@pytest.fixture
def web():
    made = Web()
    yield made
    made.close()


def found(web, **fields):
    return check(web_host(web, ("127.0.0.1", 80)), Smoke(**fields), Path("/"), "web1.test")


def test_the_expected_answer_is_no_difference(web):
    web.answer = lambda path: (200, "version 2")
    assert found(web, path="/version", contains="version 2") is None
    assert web.paths == ["/version"]


def test_another_status_is_told_with_the_beginning_of_the_body(web):
    web.answer = lambda path: (502, "bad gateway")
    assert found(web) == "status 502, expected 200; body begins 'bad gateway'"


def test_a_status_other_than_200_may_be_what_is_expected(web):
    web.answer = lambda path: (401, "")
    assert found(web, status=401) is None


def test_a_body_without_the_text_is_told(web):
    assert found(web, contains="version") == "the body lacks 'version'; it begins 'ok'"


@pytest.mark.parity("D12")
def test_an_answer_that_takes_too_long_is_told(web):
    def answer(path):
        time.sleep(0.06)  # the thing itself: an answer that takes its time
        return 200, ""

    web.answer = answer
    fault = found(web, max_seconds=0.05)
    assert fault == "no answer (timed out)" or fault.endswith("s, allowed are 0.05 s"), fault


def test_no_answer_is_told():
    fault = check(FakeHost(), Smoke(), Path("/"), "web1.test")
    assert fault.startswith("no answer (")


@pytest.mark.parametrize(("host", "header"), [("", "web1.test"), ("shop.example", "shop.example")])
def test_the_proxy_is_asked_for_the_servers_address_or_the_host_that_is_given(web, host, header):
    found(web, host=host)
    assert web.hosts == [header]


def test_another_port_stands_in_the_host_header(web):
    check(web_host(web, ("127.0.0.1", 8080)), Smoke(port=8080), Path("/"), "web1.test")
    assert web.hosts == ["web1.test:8080"]


def test_a_fresh_proxy_may_fail_twice(web, monkeypatch):
    answers = iter([502, 502, 200])
    web.answer = lambda path: (next(answers), "")
    monkeypatch.setattr(Cancellation, "wait", lambda self, seconds: None)
    smoke(publishing(web, "0.0.0.0:80->80/tcp"), Smoke(), Path("/"), "web1.test", Cancellation(), "shop")


def test_three_wrong_answers_fail(web, monkeypatch):
    web.answer = lambda path: (500, "")
    monkeypatch.setattr(Cancellation, "wait", lambda self, seconds: None)
    host = publishing(web, "0.0.0.0:80->80/tcp")
    with pytest.raises(SmokeFailed, match="smoke check http://…:80/up: status 500"):
        smoke(host, Smoke(path="/up"), Path("/"), "web1.test", Cancellation(), "shop")
    assert len(web.paths) == 3


def test_an_interrupt_ends_the_tries(web):
    web.answer = lambda path: (500, "")
    cancellation = Cancellation()
    cancellation.cancel()
    with pytest.raises(Cancelled):
        smoke(publishing(web, "0.0.0.0:80->80/tcp"), Smoke(), Path("/"), "web1.test", cancellation, "shop")


@pytest.mark.parametrize(
    ("ports", "at"),
    [
        ("10.0.0.1:80->8000/tcp", "10.0.0.1"),
        ("10.0.0.2:8080->80/tcp\n\n443/tcp, 10.0.0.1:80->80/tcp", "10.0.0.1"),
        ("10.0.0.3:80->80/udp, 10.0.0.1:79-81->79-81/tcp", "10.0.0.1"),
        ("[fd00::1]:80->80/tcp", "fd00::1"),
        ("fd00::1:80->80/tcp", "fd00::1"),
        ("0.0.0.0:80->80/tcp, :::80->80/tcp", "127.0.0.1"),
        ("[::]:80->80/tcp", "127.0.0.1"),
        ("10.0.0.1:80->80/tcp, 127.0.0.1:80->80/tcp", "127.0.0.1"),
        ("80/tcp", "127.0.0.1"),
        ("", "127.0.0.1"),
    ],
)
def test_a_port_is_asked_where_it_is_published(web, ports, at):
    host = publishing(web, ports, at)
    smoke(host, Smoke(), Path("/"), "web1.test", Cancellation(), "shop-production")
    assert web.hosts == ["web1.test"]
    assert "label=com.docker.compose.project=shop-production" in host.scripts[0]


def test_where_docker_does_not_answer_a_port_is_asked_as_ever(web):
    host = web_host(web, ("127.0.0.1", 80)).expect(re.compile("^docker ps"), status=1)
    smoke(host, Smoke(), Path("/"), "web1.test", Cancellation(), "shop")
    assert web.paths == ["/"]


def publishing(web, ports, at="127.0.0.1"):
    """Return a host whose containers publish ports, and that answers at one address alone."""
    return web_host(web, (at, 80)).expect(re.compile("^docker ps"), stdout=f"{ports}\n")


class Tunnel:
    """A stream with the four verbs of a connection; what comes after `close` is lost, as with an SSH channel."""

    def __init__(self, stream):
        self._stream = stream
        self.closed = False
        self.settimeout, self.sendall = stream.settimeout, stream.sendall

    def recv(self, size):
        return b"" if self.closed else self._stream.recv(size)

    def close(self):
        self.closed = True


class Pieces:
    """What a server says, piece by piece."""

    def __init__(self, *pieces):
        self._pieces = list(pieces)

    def settimeout(self, seconds):
        return

    def sendall(self, data):
        return

    def recv(self, size):
        return self._pieces.pop(0) if self._pieces else b""


def test_a_body_that_comes_behind_its_headers_through_a_tunnel_is_read():
    tunnel = Tunnel(Pieces(b"HTTP/1.0 200 OK\r\nContent-Length: 9\r\n\r\n", b"version 2"))
    host = FakeHost()
    host.connections["10.0.0.1", 80] = lambda: tunnel
    assert http.request(host, "10.0.0.1", 80, "/").body == "version 2"
    assert tunnel.closed


def test_https_is_spoken_through_a_tunnel(tmp_path):
    key, cert = certificate(tmp_path, "shop.test")
    near, far = socket.socketpair()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(cert, key)

    def serve():
        with server.wrap_socket(far, server_side=True) as stream:
            stream.recv(4096)
            stream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            stream.recv(1)  # until the other side has read it

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    host = FakeHost()
    host.connections["127.0.0.1", 443] = lambda: Tunnel(near)
    check_ = Smoke(scheme="https", port=443, host="shop.test", ca=cert.name, contains="ok")
    assert check(host, check_, tmp_path, "web1.test") is None
    near.close()
    thread.join(5)


def test_a_certificate_for_another_name_is_no_answer(tmp_path):
    key, cert = certificate(tmp_path, "other.test")
    near, far = socket.socketpair()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(cert, key)

    def serve():
        try:
            server.wrap_socket(far, server_side=True).close()
        except ssl.SSLError:
            far.close()

    threading.Thread(target=serve, daemon=True).start()
    host = FakeHost()
    host.connections["127.0.0.1", 443] = lambda: near
    fault = check(host, Smoke(scheme="https", port=443, host="shop.test", ca=cert.name), tmp_path, "")
    assert fault.startswith("no answer (")
    assert "other.test" in fault or "mismatch" in fault


def certificate(folder, name):
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    text = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "key.pem").write_bytes(text)
    return folder / "key.pem", folder / "cert.pem"

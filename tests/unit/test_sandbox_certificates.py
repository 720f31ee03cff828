"""The sandbox's authority and what it signs."""

from __future__ import annotations

import ssl
import stat
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from ops.sandbox.certificates import authority, issue, write_private


def test_the_authority_is_made_once_and_its_key_is_private(tmp_path: Path) -> None:
    first = authority(tmp_path)
    assert authority(tmp_path) == first
    assert stat.S_IMODE((tmp_path / "ca.key").stat().st_mode) == 0o600


def test_a_certificate_names_its_hosts_and_addresses_and_is_signed_by_the_authority(tmp_path: Path) -> None:
    certificate = x509.load_pem_x509_certificate(
        issue(tmp_path, "shop.example", ["www.shop.example", "10.0.0.1"])[0]
    )
    issuer = x509.load_pem_x509_certificate(authority(tmp_path).encode())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["shop.example", "www.shop.example"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["10.0.0.1"]
    certificate.verify_directly_issued_by(issuer)


def test_a_tls_client_that_trusts_the_authority_accepts_a_server_with_the_certificate(tmp_path: Path) -> None:
    certificate, key = issue(tmp_path, "shop.example", [])
    (tmp_path / "tls.crt").write_bytes(certificate)
    (tmp_path / "tls.key").write_bytes(key)
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(tmp_path / "tls.crt", tmp_path / "tls.key")
    trusting = ssl.create_default_context(cafile=str(tmp_path / "ca.crt"))
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trusting.wrap_bio(to_client, to_server, server_hostname="shop.example")
    server = serving.wrap_bio(to_server, to_client, server_side=True)
    done: set[ssl.SSLObject] = set()
    for _ in range(6):
        for side in (client, server):
            try:
                side.do_handshake()
                done.add(side)
            except ssl.SSLWantReadError:
                continue
    assert done == {client, server}


def test_each_certificate_has_its_own_key(tmp_path: Path) -> None:
    certificates = [x509.load_pem_x509_certificate(issue(tmp_path, "shop.example", [])[0]) for _ in range(2)]
    keys = [each.public_key() for each in certificates]
    assert all(isinstance(key, ec.EllipticCurvePublicKey) for key in keys)
    assert keys[0] != keys[1]


def test_a_private_file_that_is_written_again_stays_private(tmp_path: Path) -> None:
    file = tmp_path / "folder" / "secret"
    file.parent.mkdir()
    file.write_text("old")
    write_private(file, b"new")
    assert file.read_bytes() == b"new"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600

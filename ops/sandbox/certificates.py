"""The sandbox's own certificate authority, and certificates from it for the registry and for rehearsals of
HTTPS.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

__all__ = ["authority", "issue", "write_private"]

AUTHORITY_DAYS = 3650
CERTIFICATE_DAYS = 825  # browsers and Go refuse longer ones from some authorities


def write_private(path: Path, content: bytes) -> None:
    """Given a path and its content, write it so that only this user can read it, at no moment otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
    new.replace(path)


def authority(directory: Path) -> str:
    """Given the sandbox's folder, return the authority's certificate as PEM, made on the first call with its
    key beside it.
    """
    certificate, key = directory / "ca.crt", directory / "ca.key"
    if not (certificate.is_file() and key.is_file()):
        private = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Opsbook sandbox authority")])
        usage = x509.KeyUsage(
            digital_signature=True,
            key_cert_sign=True,
            crl_sign=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=False,
            decipher_only=False,
        )
        builder = (
            _builder(name, name, private.public_key(), AUTHORITY_DAYS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
        )
        write_private(key, _pem(private))
        certificate.write_bytes(
            builder.sign(private, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        )
    return certificate.read_text()


def issue(directory: Path, name: str, sans: Sequence[str]) -> tuple[bytes, bytes]:
    """Given a common name and alternative names (DNS names or IP addresses), return (certificate, key) as
    PEM.

    The certificate is followed by nothing: clients that trust `ca.crt` in `directory` need no chain.
    """
    authority(directory)
    issuer = x509.load_pem_x509_certificate((directory / "ca.crt").read_bytes())
    issuer_key = serialization.load_pem_private_key((directory / "ca.key").read_bytes(), None)
    assert isinstance(issuer_key, ec.EllipticCurvePrivateKey)
    private = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    names = x509.SubjectAlternativeName([_general_name(san) for san in dict.fromkeys([name, *sans])])
    builder = (
        _builder(subject, issuer.subject, private.public_key(), CERTIFICATE_DAYS)
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False
        )
    )
    return builder.sign(issuer_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM), _pem(private)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    # An hour back, so that a server whose clock lags a little accepts it at once.
    start = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _general_name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )

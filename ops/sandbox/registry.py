"""The two registries: a private one with TLS and a password, and a mirror that serves look-alikes as Docker
Hub would.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import ssl
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import bcrypt

from ops.errors import FailedUnchanged
from ops.sandbox import certificates
from ops.sandbox.containers import Container
from ops.sandbox.docker import answers, docker
from ops.sandbox.images import Images
from ops.sandbox.layout import LABEL, Layout
from ops.sandbox.look_alikes import LookAlike

__all__ = ["MIRROR", "REGISTRY", "USERNAME", "fill_mirror", "mirror", "mirror_volume", "private", "wait"]

REGISTRY, MIRROR = "registry.sandbox:5000", "mirror.sandbox:5001"
USERNAME = "opsbook"
READY_SECONDS = 30
MANIFESTS = (
    "application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.manifest.v1+json, "
    "application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json"
)


def private(layout: Layout, image: str, password: str) -> Container:
    """Given the registry image and its password, return the container of `registry.sandbox:5000`; its
    content goes with it.
    """
    folder = _identity(layout, "registry")
    entries = folder / "htpasswd"
    if not entries.is_file() or not _admits(entries.read_bytes(), password):
        # The cost is low because nobody but this machine ever sees the hash, and each request has it checked.
        entry = USERNAME.encode() + b":" + bcrypt.hashpw(password.encode(), bcrypt.gensalt(5)) + b"\n"
        certificates.write_private(entries, entry)
    access = {
        "REGISTRY_AUTH": "htpasswd",
        "REGISTRY_AUTH_HTPASSWD_REALM": "Opsbook sandbox",
        "REGISTRY_AUTH_HTPASSWD_PATH": "/identity/htpasswd",
    }
    return _container(layout, "registry", image, 5000, folder, access, ())


def mirror(layout: Layout, image: str) -> Container:
    """Given the registry image, return the container of `mirror.sandbox:5001`; its content outlives it."""
    options = ("--publish", "127.0.0.1::5001", "--volume", f"{mirror_volume(layout)}:/var/lib/registry")
    return _container(layout, "mirror", image, 5001, _identity(layout, "mirror"), {}, options)


def mirror_volume(layout: Layout) -> str:
    """Return the name of the volume that keeps the mirror's images over a `sandbox.down`."""
    return layout.container("mirror")


def fill_mirror(layout: Layout, images: Images, say: Callable[[str], None]) -> None:
    """Given the images, push each look-alike that the running mirror does not have yet, under all its
    upstream names.

    Goes through a port on loopback, which a Docker engine trusts without a certificate. Raises
    FailedUnchanged when the mirror does not answer within 30 s, DockerFailed when a push fails.
    """
    published = docker("port", layout.container("mirror"), "5001/tcp").split()[0]
    context = ssl.create_default_context(cafile=str(layout.directory / "ca.crt"))
    wait(published, context)

    def push(look_alike: LookAlike, reference: str, image: str) -> None:
        missing = [
            f"{look_alike.repository}:{tag}"
            for tag in look_alike.tags
            if not _has(published, context, f"/v2/{_path(look_alike.repository)}/manifests/{tag}", image)
        ]
        if missing:
            say(f"{missing[0]} in the sandbox is a look-alike: {look_alike.holds}.")
        for name in missing:
            there = f"{published}/{_path(name)}"
            docker("tag", reference, there)
            try:
                docker("push", "--quiet", there, seconds=300)
            finally:
                answers("image", "rm", "--no-prune", there)

    with ThreadPoolExecutor(max_workers=4) as pool:
        for future in [pool.submit(push, *each) for each in images.look_alikes]:
            future.result()


def _path(name: str) -> str:
    """Return where Docker Hub has an image: those of a plain name belong to `library`."""
    return name if "/" in name else f"library/{name}"


def wait(published: str, context: ssl.SSLContext, seconds: float = READY_SECONDS) -> None:
    """Given where the engine publishes a registry (address:port), return once it answers.

    The engine takes connections at a published port before the container listens, and ends them at once.
    Raises FailedUnchanged after `seconds`.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            _get(published, context, "/v2/")
            return
        except FailedUnchanged:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.1)


def _container(
    layout: Layout,
    name: str,
    image: str,
    port: int,
    folder: Path,
    settings: dict[str, str],
    options: tuple[str, ...],
) -> Container:
    environment = {
        "REGISTRY_HTTP_ADDR": f":{port}",
        "REGISTRY_HTTP_TLS_CERTIFICATE": "/identity/tls.crt",
        "REGISTRY_HTTP_TLS_KEY": "/identity/tls.key",
        "REGISTRY_STORAGE_DELETE_ENABLED": "true",
        "OTEL_TRACES_EXPORTER": "none",
        **settings,
    }
    words = tuple(word for key, value in environment.items() for word in ("--env", f"{key}={value}"))
    # A new identity is a new container: the registry reads these files once.
    identity = ("--label", f"{LABEL}.identity={(folder / 'made-for').read_text()}")
    mount = ("--volume", f"{folder}:/identity:ro")
    return Container(name, layout.address(name), image, (*words, *mount, *identity, *options), "registry")


def _identity(layout: Layout, name: str) -> Path:
    folder = layout.directory / name
    authority = certificates.authority(layout.directory)
    made_for = folder / "made-for"
    fingerprint = hashlib.sha256(authority.encode()).hexdigest()[:16]
    if not made_for.is_file() or made_for.read_text() != fingerprint:
        names = ["localhost", "127.0.0.1", layout.address(name)]
        certificate, key = certificates.issue(layout.directory, f"{name}.sandbox", names)
        certificates.write_private(folder / "tls.crt", certificate)
        certificates.write_private(folder / "tls.key", key)
        made_for.write_text(fingerprint)
    return folder


def _admits(entries: bytes, password: str) -> bool:
    user, _, hashed = entries.strip().partition(b":")
    return user == USERNAME.encode() and bcrypt.checkpw(password.encode(), hashed)


def _has(published: str, context: ssl.SSLContext, path: str, image: str) -> bool:
    response, body = _get(published, context, path)
    if response.status != 200:
        return False
    # An engine's id of an image is its configuration's digest, or with the containerd store the manifest's.
    manifest = json.loads(body)
    return image in (manifest.get("config", {}).get("digest"), response.headers.get("Docker-Content-Digest"))


def _get(published: str, context: ssl.SSLContext, path: str) -> tuple[http.client.HTTPResponse, bytes]:
    connection = http.client.HTTPSConnection(published, context=context, timeout=10)
    try:
        connection.request("GET", path, headers={"Accept": MANIFESTS})
        response = connection.getresponse()
        return response, response.read()
    except (OSError, http.client.HTTPException) as error:
        raise FailedUnchanged(
            f"the mirror does not answer at {published}: {error}",
            target="mirror",
            next_step="inv sandbox.up once more",
        ) from None
    finally:
        connection.close()

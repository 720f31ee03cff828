"""The images of the sandbox: the servers' own, and look-alikes of upstream images where no registry can be
reached.

Nothing on this machine's engine gets an upstream name: look-alikes are `opsbook-sandbox/<folder>:<content>`
here, and carry upstream names in the sandbox's mirror alone.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from ops.errors import UsageError
from ops.sandbox.base_image import SUITE, bootstrap
from ops.sandbox.docker import DockerFailed, answers, docker
from ops.sandbox.layout import LABEL
from ops.sandbox.look_alikes import LOOK_ALIKES, LookAlike

__all__ = ["Images", "Kind", "decide", "prepare", "remove"]

Kind = Literal["upstream", "look-alike"]
FOLDERS = Path(__file__).with_name("dockerfiles")
CERTIFICATES = Path("/usr/local/share/ca-certificates")
OURS = "opsbook-sandbox"
UPSTREAM_BASE, UPSTREAM_REGISTRY = "debian:trixie-slim", "registry:2"
PULL_SECONDS = 20


@dataclass(frozen=True)
class Images:
    """What this machine's engine has: references of the server and registry images, and (look-alike,
    reference, id) each.
    """

    kind: Kind
    server: str
    registry: str
    look_alikes: tuple[tuple[LookAlike, str, str], ...]


def decide(remembered: str | None, say: Callable[[str], None]) -> Kind:
    """Given the kind remembered from earlier, return which images to use; where nothing is remembered, a
    pull decides.

    OPS_SANDBOX_IMAGES (`upstream` or `look-alike`) wins over both. Raises UsageError when it says anything
    else.
    """
    wanted = os.environ.get("OPS_SANDBOX_IMAGES") or remembered
    if wanted is None:
        say(f"Asking the engine for {UPSTREAM_BASE} ({PULL_SECONDS} s at most) ...")
        wanted = (
            "upstream" if answers("pull", "--quiet", UPSTREAM_BASE, seconds=PULL_SECONDS) else "look-alike"
        )
        if wanted == "look-alike":
            say("No image registry can be reached: look-alikes from Debian packages stand in.")
    if wanted not in ("upstream", "look-alike"):
        raise UsageError(
            f"OPS_SANDBOX_IMAGES={wanted} is neither upstream nor look-alike",
            next_step="unset OPS_SANDBOX_IMAGES",
        )
    return cast(Kind, wanted)


def prepare(kind: Kind, say: Callable[[str], None], also: Collection[str] = ()) -> Images:
    """Given the kind, return the images, after building those whose folder, base or arguments changed since.

    `also` names the look-alikes wanted of those that are built on demand. Raises UsageError where it names
    another, DockerFailed when a build or a pull fails.
    """
    if unknown := set(also) - {each.repository for each in LOOK_ALIKES if each.on_demand}:
        raise UsageError(
            f"no image {min(unknown)} is built on demand",
            next_step="leave it out: the usual images are always there",
        )
    there = _built()
    look_alikes = [each for each in LOOK_ALIKES if not each.on_demand or each.repository in also]
    if kind == "upstream":
        root = UPSTREAM_BASE
        for image in (UPSTREAM_BASE, UPSTREAM_REGISTRY):
            if not answers("image", "inspect", image):
                docker("pull", "--quiet", image, seconds=300)
    else:
        root = f"{OURS}/debian:{SUITE}"
        if root not in there:
            say(f"Making a Debian {SUITE} base image with mmdebstrap ...")
            bootstrap(root)
    base = _build("base", root, {}, there, say)
    wanted: list[tuple[str, Mapping[str, str]]] = [("server", {})]
    if kind == "look-alike":
        wanted += [(each.folder, each.arguments) for each in look_alikes if each.folder != "base"]
    # Two at a time: they wait for the network and for the disk in turns.
    with ThreadPoolExecutor(max_workers=2) as pool:
        futures = [pool.submit(_build, folder, base, arguments, there, say) for folder, arguments in wanted]
        references = {_key(*each): future.result() for each, future in zip(wanted, futures, strict=True)}
    references[_key("base", {})] = base
    if any(reference not in there for reference in references.values()):
        there = _built()
        unasked = {f"{OURS}/{each.folder}" for each in LOOK_ALIKES if each not in look_alikes}
        kept = {reference for reference in there if reference.partition(":")[0] in unasked}
        _remove_stale({root, *references.values(), *kept}, there)
    found = tuple(
        (
            each,
            references[_key(each.folder, each.arguments)],
            there[references[_key(each.folder, each.arguments)]],
        )
        for each in look_alikes
        if kind == "look-alike"
    )
    registry = UPSTREAM_REGISTRY if kind == "upstream" else references[_key("registry", {})]
    return Images(kind, references[_key("server", {})], registry, found)


def remove() -> None:
    """Remove every image that the sandbox made on this machine's engine."""
    if there := _built():
        docker("image", "rm", "--force", *there)


def _built() -> dict[str, str]:
    listed = docker(
        "image",
        "ls",
        "--no-trunc",
        "--filter",
        f"reference={OURS}/*",
        "--format",
        "{{.Repository}}:{{.Tag}} {{.ID}}",
    )
    return dict(line.split(" ", 1) for line in listed.splitlines())


def _key(folder: str, arguments: Mapping[str, str]) -> str:
    return "-".join([folder, *arguments.values()])


def _build(
    folder: str, base: str, arguments: Mapping[str, str], there: Mapping[str, str], say: Callable[[str], None]
) -> str:
    with tempfile.TemporaryDirectory(prefix="opsbook-image-") as temporary:
        context = Path(temporary)
        _lay_out(folder, context)
        reference = (
            f"{OURS}/{_key(folder, arguments)}:{_content(context, [base, *sorted(arguments.values())])}"
        )
        if reference in there:
            return reference
        say(f"Building the {_key(folder, arguments)} image ...")
        words = [
            word
            for name, value in {"BASE": base, **arguments}.items()
            for word in ("--build-arg", f"{name}={value}")
        ]
        try:
            docker(
                "build", "--quiet", "--label", f"{LABEL}=1", "--tag", reference, *words, context, seconds=900
            )
        except DockerFailed as error:
            error.next_step = (
                "make the package mirror reachable; a firm's CA belongs into /usr/local/share/ca-certificates"
            )
            raise
        return reference


def _lay_out(folder: str, context: Path) -> None:
    shutil.copytree(FOLDERS / folder, context, dirs_exist_ok=True)
    for file in context.iterdir():
        # An installed package loses its executable bits on some file systems.
        file.chmod(0o755 if file.read_bytes().startswith(b"#!") else 0o644)
    if folder == "base":
        (context / "certificates").mkdir()
        for certificate in sorted(CERTIFICATES.rglob("*.crt")):
            shutil.copyfile(certificate, context / "certificates" / certificate.name)


def _content(context: Path, more: list[str]) -> str:
    digest = hashlib.sha256("\0".join(more).encode())
    for file in sorted(context.rglob("*")):
        if file.is_file():
            digest.update(f"\0{file.relative_to(context)}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:12]


def _remove_stale(kept: set[str], there: Mapping[str, str]) -> None:
    # One that a running container still needs stays until the next time.
    for reference in set(there) - kept:
        answers("image", "rm", reference)

"""A release as files: what is written to a server before anything switches, and what removes it again."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime

from ops.commands import Command, quote
from ops.config.dotenv import compose_form
from ops.deploy.commit import image_tag
from ops.engines.compose import compose_yaml, dotenv_values
from ops.engines.desired import Desired
from ops.engines.facts import HostFacts
from ops.engines.layout import Layout
from ops.engines.release import Release
from ops.engines.rendering import tarball

__all__ = ["describe", "discard", "new_release_id", "upload"]


def new_release_id(version: str) -> str:
    """Return a fresh id: `<UTC>-<version>-<4 hex>`; ids sort by time."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{version}-{secrets.token_hex(2)}"


def describe(desired: Desired, layout: Layout, base: Release) -> Release:
    """Return a server's release record: `base` with what this server runs."""
    from dataclasses import replace

    folders, files = {}, {}
    for path, content in desired.contents:
        if path.startswith(layout.proxy + "/"):
            folder = path.removeprefix(layout.proxy + "/")
            folders[folder] = content.digest
            files.update(
                {f"{folder}/{name}": hashlib.sha256(data).hexdigest() for name, data, _ in content.files}
            )
    proxy = desired.proxy
    if proxy is not None:
        proxy = replace(proxy, image=desired.services[proxy.service].pin)
    return replace(
        base,
        services=desired.services,
        proxy=proxy,
        proxy_folders=folders,
        proxy_files=files,
        files=tuple(sorted({content.digest for _, content in desired.contents})),
    )


def upload(
    release: Release, desired: Desired, layout: Layout, facts: HostFacts, secret_values: Mapping[str, str]
) -> Command:
    """Return the command that writes a release's folder, and the content that the server lacks, in one stream.

    The folder appears whole or not at all. `.env` is 0600 from its first byte on.
    """
    used = {name: secret_values.get(name, "") for name in desired.secrets}
    entries = [
        ("release/compose.yaml", compose_yaml(desired.model, release.project).encode(), 0o644),
        ("release/.env", compose_form(dotenv_values(release, used)).encode(), 0o600),
        ("release/release.json", release.to_json().encode(), 0o644),
    ]
    links: list[tuple[str, str]] = []
    folders: list[str] = []
    lacking = {
        content.digest: content for _, content in desired.contents if content.digest not in facts.files
    }
    for digest, content in lacking.items():
        place = f"files/{digest}"
        entries += [(f"{place}/{name}", data, mode) for name, data, mode in content.files]
        links += [(f"{place}/{name}", said) for name, said in content.links]
        folders += [f"{place}/{name}" for name in content.empty]
        if not (content.files or content.links or content.empty):
            folders.append(place)
    incoming = f".incoming-{release.run_id}"
    clean = f"rm -rf {quote(f'{layout.root}/{incoming}')}"  # a full disk ends the script inside this folder
    script = (
        f"umask 022; cd {quote(layout.root)} && chmod 700 files releases && rm -rf {quote(incoming)} && mkdir -m 700 {quote(incoming)} || exit 1; "
        f"trap {quote(clean)} EXIT; cd {quote(incoming)} && tar -xpf - || exit 1; "
        'for f in files/*; do [ -d "$f" ] || continue; [ -e "../$f" ] || mv "$f" "../$f" || exit 1; done; '
        f"rm -rf ../releases/{quote(release.id)} && mv release ../releases/{quote(release.id)}; s=$?; cd ..; exit $s"
    )
    return Command(
        script,
        stdin=tarball(entries, links, folders),
        changes=f"release {release.id}",
        timeout=300,
        title=f"write {layout.release(release.id)}/ (compose.yaml, .env, release.json)",
    )


def discard(release: Release, layout: Layout, fresh_files: frozenset[str]) -> Command:
    """Return the command that removes an uploaded release, the content that came with it, and its images' own names."""
    folders = " ".join(quote(f"files/{digest}") for digest in sorted(fresh_files))
    tags = " ".join(quote(image_tag(release, service)) for service in release.services)
    return Command(
        f"docker image rm {tags} >/dev/null 2>&1; "  # there are none before the commit
        f"cd {quote(layout.root)} && rm -rf {quote(f'releases/{release.id}')} {folders}",
        changes=f"release {release.id}",
        title=f"remove releases/{release.id}",
    )

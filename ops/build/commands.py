"""The commands of a build, made and not run. No secret stands in any of them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence

from ops.build.sections import Definition
from ops.commands import Command, command, quote
from ops.commands.quoting import quote_all

__all__ = ["build_command", "digest_query", "push_command", "pushed_by_engine", "pushed_digest"]


def build_command(
    definition: Definition,
    *,
    push: bool,
    environment: Mapping[str, str],
    metadata: str,
    secrets: Mapping[str, str],
) -> Command:
    """Return the command that builds one image, into this machine's engine or with `push` into its registry.

    `environment` are variables for docker, `secrets` maps ids of BuildKit secrets to files, `metadata` is the
    file where buildx writes the digest. Its title is the same line without what is of this run only.
    """
    words = ["docker", "buildx", "build", *_options(definition), "--push" if push else "--load"]
    own = ["--progress", "plain", "--metadata-file", metadata]
    for name, file in secrets.items():
        own += ["--secret", _fields(f"id={name}", f"src={file}")]
    shown = [word for secret in definition.secrets for word in ("--secret", f"id={secret.id}")]
    return Command(
        quote_all((*_with(environment), *words, *own, definition.context)),
        stdin=definition.inline.encode(),
        changes=f"image {definition.reference}",
        timeout=None,
        title=quote_all((*words, *shown, definition.context)),
    )


def push_command(reference: str, environment: Mapping[str, str]) -> Command:
    """Return the command that has the engine push an image."""
    return Command(
        quote_all((*_with(environment), "docker", "push", reference)),
        changes=f"the registry of {reference}",
        timeout=None,
        title=f"docker push {quote(reference)}",
    )


def pushed_digest(metadata: str) -> str | None:
    """Given what buildx wrote about a build that pushed, return the digest of the image's manifest."""
    digest = json.loads(metadata).get("containerimage.digest") if metadata.strip() else None
    return digest if isinstance(digest, str) else None


def digest_query(reference: str) -> Command:
    """Return the command that prints the digests under which the engine knows an image."""
    return command("docker", "image", "inspect", "--format", "{{json .RepoDigests}}", reference)


def pushed_by_engine(digests: str, reference: str) -> str | None:
    """Given the answer of `digest_query`, return the digest that the reference's repository gave."""
    repository = reference.rpartition(":")[0]
    found: Sequence[str] = json.loads(digests) or ()
    return next((each.partition("@")[2] for each in found if each.partition("@")[0] == repository), None)


def _with(environment: Mapping[str, str]) -> tuple[str, ...]:
    return ("env", *(f"{name}={value}" for name, value in environment.items())) if environment else ()


def _options(definition: Definition) -> list[str]:
    words = ["--tag", definition.reference, "--file", definition.dockerfile or "-"]
    if definition.target:
        words += ["--target", definition.target]
    for name, value in definition.args:
        words += ["--build-arg", f"{name}={value}"]
    for name, value in definition.labels:
        words += ["--label", f"{name}={value}"]
    for name, value in definition.contexts:
        words += ["--build-context", f"{name}={value}"]
    if definition.platforms:
        words += ["--platform", ",".join(definition.platforms)]
    return [*words, *definition.options]


def _fields(*fields: str) -> str:
    """Return fields as buildx reads them: one line of CSV."""
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(fields)
    return line.getvalue()

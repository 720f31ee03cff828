"""Tasks of the sandbox: throw-away servers on this machine to rehearse on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from invoke.context import Context

from ops.errors import UsageError
from ops.tasks.boundary import Answer, task
from ops.tasks.output import say as progress

if TYPE_CHECKING:
    from ops import sandbox as sandbox_module

__all__ = ["certificate", "down", "status", "up"]


@task(
    help={
        "servers": "Names, with commas between (default: web1,web2,db1).",
        "also": "Images to have ready that are built on demand alone (mongo, qdrant/qdrant), with commas between.",
        "json": "Print one JSON document.",
        "quiet": "Print nothing on success.",
    }
)
def up(
    c: Context, servers: str = "web1,web2,db1", also: str = "", json: bool = False, quiet: bool = False
) -> Answer:
    """Start throw-away servers, a registry and an image builder on this machine's Docker engine."""
    from ops import sandbox

    say = _silent if quiet else progress
    names = _names(servers)
    if not names:
        raise UsageError("--servers names no server", next_step="leave it out, or write --servers web1,web2")
    there = sandbox.up(names, also=_names(also), say=say)
    lines = [_listing(there), f"Try: ssh -F {there.ssh_config} {there.servers[0].host} docker version"]
    return Answer(text="\n".join(lines), data=_public(there))


@task(
    help={
        "clean": "Remove the images, the mirror and the folder too.",
        "json": "Print one JSON document.",
        "quiet": "Print nothing on success.",
    }
)
def down(c: Context, clean: bool = False, json: bool = False, quiet: bool = False) -> Answer:
    """Remove the throw-away servers; built images and keys stay unless --clean."""
    from ops import sandbox

    sandbox.down(clean, say=_silent if quiet else progress)
    return Answer(text="The sandbox is down.")


@task(help={"json": "Print one JSON document."})
def status(c: Context, json: bool = False) -> Answer:
    """List the throw-away servers, their addresses and the registry."""
    from ops import sandbox

    there = sandbox.status()
    text = _listing(there) if there.servers else "No sandbox is up. Next: inv sandbox.up"
    return Answer(text=text, data=_public(there))


@task(
    help={
        "name": "Host name that it is for; more names or addresses follow with commas between.",
        "out": "Folder for <name>.crt and <name>.key (default: the current one).",
        "json": "Print one JSON document.",
        "quiet": "Print nothing on success.",
    }
)
def certificate(
    c: Context, name: str = "", out: str = ".", json: bool = False, quiet: bool = False
) -> Answer:
    """Issue a TLS certificate from the sandbox's own authority."""
    from ops import sandbox
    from ops.sandbox.certificates import write_private

    names = _names(name)
    if not names:
        raise UsageError("which host is the certificate for?", next_step="add --name shop.example")
    if "/" in names[0]:
        raise UsageError(f"{names[0]} is no host name", next_step="add --name shop.example")
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    public, private = folder / f"{names[0]}.crt", folder / f"{names[0]}.key"
    pem, key = sandbox.issue_certificate(names[0], names[1:])
    write_private(private, key)
    public.write_bytes(pem)
    trust = sandbox.status().ca_certificate
    data = {"certificate": str(public), "key": str(private), "ca_certificate": str(trust)}
    return Answer(text=f"{public} and {private} are written; clients trust {trust}.", data=data)


def _names(listed: str) -> list[str]:
    return [name.strip() for name in listed.split(",") if name.strip()]


def _silent(line: str) -> None:
    pass


def _listing(there: sandbox_module.Sandbox) -> str:
    rows = [f"{each.host:<16} {each.address:<15} {each.state}" for each in there.servers]
    images = (
        "look-alikes built from packages" if there.images == "look-alike" else "as upstream publishes them"
    )
    rows.append(
        f"Registry: {there.registry}, user {there.username}, password in {there.directory}/sandbox.json"
    )
    rows.append(f"Images:   {images}")
    return "\n".join(rows)


def _public(there: sandbox_module.Sandbox) -> dict[str, object]:
    return {
        "directory": str(there.directory),
        "servers": {
            each.name: {"host": each.host, "address": each.address, "state": each.state}
            for each in there.servers
        },
        "images": there.images,
        "registry": {"address": there.registry, "username": there.username},
        "mirror": there.mirror,
        "builder_socket": str(there.builder_socket),
        "ssh_config": str(there.ssh_config),
    }

"""Files and folders that services mount: what is content, what is data, and where each lives on a server."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from posixpath import relpath
from typing import Any

from ops.config.settings import Settings
from ops.engines.content import Content, follow, pack
from ops.engines.layout import Layout
from ops.engines.release import ProxySpec
from ops.engines.rendering import temporary_root
from ops.errors import ConfigError

__all__ = ["Mount", "Settled", "StackFolder", "classify", "settle_file", "settle_mounts"]


@dataclass(frozen=True)
class Mount:
    """A bind mount's new source on the server, and the content that must stand there (None for data)."""

    path: str
    content: Content | None


@dataclass(frozen=True)
class StackFolder:
    """The stack folder as it is here, as Compose saw it (`resolved`), and what stands in its place on a server."""

    resolved: str
    settings: Settings
    layout: Layout
    proxy: ProxySpec | None

    def relative(self, path: str) -> str | None:
        """Return a path that Compose resolved, relative to the stack folder; None for one outside it."""
        if path == self.resolved:
            return "."
        if not path.startswith(self.resolved + "/"):
            return None
        return path[len(self.resolved) :].strip("/") or "."

    def strayed(self, path: str) -> str:
        """Return a path that leads out of the stack folder as the compose files have it; empty for any other.

        It is relative to the first compose file's folder, where relative paths of compose files start.
        """
        root = temporary_root(self.resolved)
        if self.relative(path) is not None or not (path == root or path.startswith(root + "/")):
            return ""
        first = self.settings.compose_files[0].parent.relative_to(self.settings.folder).as_posix()
        return relpath(path, f"{self.resolved}/{first}")


@dataclass(frozen=True)
class Settled:
    """The content that paths on the server stand for, and what forbids to settle others."""

    contents: Mapping[str, Content] = field(default_factory=dict)
    problems: tuple[ConfigError, ...] = ()


def settle_mounts(name: str, service: dict[str, Any], stack: StackFolder) -> Settled:
    """Turn the sources of a service's bind mounts from the stack folder into paths on the server, in place."""
    contents: dict[str, Content] = {}
    problems: list[ConfigError] = []
    for volume in service.get("volumes") or ():
        if volume.get("type") != "bind":
            continue
        source = volume.get("source", "")
        relative = stack.relative(source)
        if written := stack.strayed(source):
            problems.append(_outside(f"service {name} mounts {written}"))
            volume["source"] = stack.layout.shared  # told once: no other check finds it again
        if relative is None:
            continue
        try:
            mount = _place(name, volume, relative, stack)
        except ConfigError as error:
            problems.append(error)
            mount = Mount(
                f"{stack.layout.shared}/{relative}", None
            )  # told once: no other check finds it again
        volume["source"] = mount.path
        if mount.content is not None:
            contents[mount.path] = mount.content
        else:  # nobody else makes a folder there; Compose's long form would refuse its absence
            volume["bind"] = {**(volume.get("bind") or {}), "create_host_path": True}
    return Settled(contents, tuple(problems))


def _place(name: str, volume: Mapping[str, Any], relative: str, stack: StackFolder) -> Mount:
    proxy, folder = stack.proxy, stack.settings.folder
    if proxy is not None and (name, relative) == (proxy.service, proxy.upstreams):
        # Its files are generated, so a checkout may well lack the folder.
        return Mount(f"{stack.layout.proxy}/{relative}", follow(folder, pack(folder, relative)))
    return classify(
        folder,
        relative,
        read_only=bool(volume.get("read_only")),
        service=name,
        proxy=proxy is not None and proxy.service == name,
        data=stack.settings.config.persist.data,
        content=stack.settings.config.persist.content,
        layout=stack.layout,
    )


def _outside(what: str) -> ConfigError:
    return ConfigError(
        f"{what}, which is outside the stack folder: it is on no server",
        next_step="move it into the stack folder (the one with ops.toml), or write the path that it has on the servers, from / on",
    )


def settle_file(what: str, definition: dict[str, Any], stack: StackFolder) -> Settled:
    """Turn the file of a config or secret from the stack folder into a path on the server, in place."""
    relative = stack.relative(definition["file"])
    if written := stack.strayed(definition["file"]):
        definition["file"] = stack.layout.shared
        return Settled(problems=(_outside(f"{what} is the file {written}"),))
    if relative is None:
        return Settled()
    try:
        if not (stack.settings.folder / relative).is_file():
            raise ConfigError(f"{what}: the file ./{relative} is not there")
        content = pack(stack.settings.folder, relative)
    except ConfigError as error:
        definition["file"] = f"{stack.layout.shared}/{relative}"
        return Settled(problems=(error,))
    definition["file"] = _content_path(content, stack.layout)
    return Settled({definition["file"]: content})


def classify(
    folder: Path,
    relative: str,
    *,
    read_only: bool,
    service: str,
    proxy: bool,
    data: Sequence[str],
    content: Sequence[str],
    layout: Layout,
) -> Mount:
    """Given a bind source inside the stack folder, return where it lives on the server.

    `[persist]` decides where it names the path. Else what stands in the stack folder is content and what does
    not is data. Folders of the proxy keep one path for ever, so that a change of configuration recreates nothing; they
    are compared and changed file by file, so links in them stand for what they lead to. Raises ConfigError for a folder
    that is mounted for writing and is not named by `[persist]`, for a link to nothing, and for content that cannot be
    read.
    """
    path = folder / relative
    if _named(relative, data):
        return Mount(f"{layout.shared}/{relative}", None)
    if not path.exists():
        if path.is_symlink():
            raise ConfigError(
                f"service {service} mounts ./{relative}, a link to {path.readlink()}, which is not there"
            )
        if _named(relative, content):
            raise ConfigError(
                f"service {service} mounts ./{relative}, which [persist] calls content, but it is not there"
            )
        return Mount(f"{layout.shared}/{relative}", None)
    if path.is_dir() and not read_only and not proxy and not _named(relative, content):
        raise ConfigError(
            f"service {service} mounts the folder ./{relative} for writing: is it content of a release, or data that "
            "outlives releases?",
            next_step=f'say so in ops.toml: [persist] data = ["{relative}"] (or content = ["{relative}"]), or mount it read-only',
        )
    packed = pack(folder, relative)
    if proxy and packed.folder:
        return Mount(f"{layout.proxy}/{relative}", follow(folder, packed))
    return Mount(_content_path(packed, layout), packed)


def _content_path(content: Content, layout: Layout) -> str:
    where = f"{layout.files}/{content.digest}"
    return where if content.folder else f"{where}/{PurePosixPath(content.source).name}"


def _named(relative: str, names: Iterable[str]) -> bool:
    wanted = PurePosixPath(relative)
    for name in names:
        listed = PurePosixPath(name)
        if listed == wanted or listed in wanted.parents:
            return True
    return False

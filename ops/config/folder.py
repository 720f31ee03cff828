"""The YAML files of a stack folder and the text in them that Compose interpolates."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import yaml

from ops.errors import ConfigError

__all__ = ["LARGEST", "content_of", "load_yaml", "parse_yaml", "scalars", "yaml_files"]

LARGEST = 1024 * 1024  # a larger YAML file is data, not configuration
_DEEPEST = 500  # libyaml's composer calls itself for each level; too many end the process without a word
_SKIPPED = {"node_modules", "__pycache__"}  # .venv and .git begin with a dot, as all that tools leave behind
_LOADER: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _ComposeLoader(_LOADER):  # type: ignore[misc, valid-type]  # libyaml's class where it is built in
    """Reads Compose's own tags (!reset, !override) as the value that they stand before."""


def _untagged(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> object:
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return loader.construct_scalar(node) if isinstance(node, yaml.ScalarNode) else None


_ComposeLoader.add_multi_constructor("!", _untagged)


def yaml_files(folder: Path) -> tuple[Path, ...]:
    """Return the YAML files below a folder, sorted, without dot-folders, node_modules and large files."""
    found = []
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in _SKIPPED)
        for name in files:
            path = Path(parent, name)
            if name.endswith((".yml", ".yaml")) and path.is_file() and path.stat().st_size <= LARGEST:
                found.append(path)
    return tuple(sorted(found))


def content_of(path: Path) -> bytes:
    """Return the bytes of a file. Raises ConfigError that names it where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read: {error.strerror}", next_step=f"let this user read {path}"
        ) from error


def parse_yaml(content: bytes, name: str) -> yaml.Node | None:
    """Given a YAML file, return its node tree, tags such as !reset untouched; None for an empty one.

    Raises ConfigError with file and line for bad syntax.
    """
    _refuse_depth(content, name)
    try:
        node: yaml.Node | None = yaml.compose(content, Loader=_LOADER)
    except (yaml.YAMLError, RecursionError) as error:
        raise _refusal(error, name) from error
    return node


def load_yaml(content: bytes, name: str) -> object:
    """Given a compose file, return its data, merge keys followed and Compose's tags dropped.

    Raises ConfigError with file and line for bad syntax.
    """
    _refuse_depth(content, name)
    try:
        data: object = yaml.load(content, Loader=_ComposeLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise _refusal(error, name) from error
    return data


def _refuse_depth(content: bytes, name: str) -> None:
    longest = max(map(len, content.splitlines()), default=0)
    if content.count(b"[") + content.count(b"{") + longest <= _DEEPEST:
        return  # it cannot be that deep: what stands in one another is indented or in brackets
    depth = 0
    try:
        for event in yaml.parse(content, Loader=_LOADER):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > _DEEPEST:
                raise ConfigError(f"{name}: lists or tables stand too deep in one another")
    except (yaml.YAMLError, ValueError):
        return  # told with its line by who reads it in earnest


def _refusal(error: Exception, name: str) -> ConfigError:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        return ConfigError(f"{name}:{error.problem_mark.line + 1}: {error.problem or 'not YAML'}")
    return ConfigError(f"{name}: not YAML ({' '.join(str(error).split())})")


def scalars(node: yaml.Node | None) -> Iterator[str]:
    """Given a node tree, return the text of its values; Compose does not interpolate keys."""
    seen: set[int] = set()
    stack = [node]
    while stack:
        node = stack.pop()
        if node is None or id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.ScalarNode):
            yield node.value
        elif isinstance(node, yaml.SequenceNode):
            stack += reversed(node.value)
        elif isinstance(node, yaml.MappingNode):
            stack += [value for _, value in reversed(node.value)]

"""The keys of a `build:` section that become options of `docker buildx build` as they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["option_words", "unused_keys"]

_FLAGS = {"no_cache": "--no-cache", "pull": "--pull"}
_VALUES = {"network": "--network", "shm_size": "--shm-size", "provenance": "--provenance", "sbom": "--sbom"}
_LISTS = {
    "cache_from": "--cache-from",
    "cache_to": "--cache-to",
    "entitlements": "--allow",
    "extra_hosts": "--add-host",
    "no_cache_filter": "--no-cache-filter",
    "ssh": "--ssh",
}
_ELSEWHERE = {
    "additional_contexts", "args", "context", "dockerfile", "dockerfile_inline", "labels", "platforms",
    "privileged", "secrets", "target", "ulimits",
}  # fmt: skip


def option_words(build: Mapping[str, Any]) -> tuple[str, ...]:
    """Given a `build:` section as Compose resolved it, return the options for its plain keys."""
    words: list[str] = []
    for key, option in _FLAGS.items():
        if build.get(key):
            words.append(option)
    for key, option in _VALUES.items():
        if build.get(key) is not None:
            words += [option, _text(build[key])]
    for key, option in _LISTS.items():
        value = build.get(key) or ()
        entries = (
            [f"{name}={_text(inner)}" for name, inner in value.items()]
            if isinstance(value, Mapping)
            else value
        )
        for entry in entries:
            words += [option, _text(entry)]
    if build.get("privileged"):
        words += ["--allow", "security.insecure"]
    for name, limit in (build.get("ulimits") or {}).items():
        both = f"{limit['soft']}:{limit['hard']}" if isinstance(limit, Mapping) else _text(limit)
        words += ["--ulimit", f"{name}={both}"]
    return tuple(words)


def unused_keys(service: str, build: Mapping[str, Any], reference: str) -> list[str]:
    """Return one warning for each key that has no effect here."""
    used = {*_FLAGS, *_VALUES, *_LISTS, *_ELSEWHERE}
    found = []
    for key in build:
        if key == "tags":
            found.append(f"{service}: build.tags has no effect; the image is {reference}")
        elif key not in used and not key.startswith("x-"):
            found.append(f"{service}: build.{key} has no effect here")
    return found


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)

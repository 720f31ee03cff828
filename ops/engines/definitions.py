"""What a service's containers are made from: its definition, what that refers to, and the hash of both."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

__all__ = ["altered", "definition_hash", "drop_unused", "secret_variables", "used_definitions"]


def used_definitions(
    service: Mapping[str, Any], definitions: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Return the configs and secrets, by kind and name, that a service refers to."""
    return {
        kind: {entry["source"]: definitions[kind].get(entry["source"]) for entry in service.get(kind) or ()}
        for kind in ("configs", "secrets")
    }


def secret_variables(used: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """Given a service's `used_definitions`, return the variables that its secrets take their values from."""
    secrets = used["secrets"].values()
    return {definition["environment"] for definition in secrets if definition and "environment" in definition}


def definition_hash(service: Mapping[str, Any], used: Mapping[str, Any]) -> str:
    """Return the hash of a service as it is rendered, secrets as stand-ins.

    What may change without a new container is left out, as in Compose's own hash. Every container bears this hash:
    where the same service comes out with another one, it is recreated.
    """
    kept = {key: value for key, value in service.items() if key not in ("depends_on", "profiles")}
    kept["deploy"] = {key: value for key, value in (kept.get("deploy") or {}).items() if key != "replicas"}
    return hashlib.sha256(json.dumps([kept, used], sort_keys=True).encode()).hexdigest()


def altered(
    before: Mapping[str, Any], after: Mapping[str, Any], kind: str
) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Given two models, return the networks or volumes (`kind`) that both have and that differ.

    By name in the compose files: the name that Docker knows in the first model, and the keys whose values differ. No
    hash of a service has them, and Docker changes neither in place.
    """
    were, are = before.get(kind) or {}, after.get(kind) or {}
    found = {}
    for name in (name for name in are if name in were):
        old, new = were[name] or {}, are[name] or {}
        keys = tuple(sorted(key for key in {*old, *new} if old.get(key) != new.get(key)))
        if keys:
            found[name] = old.get("name") or name, keys
    return found


def drop_unused(model: dict[str, Any]) -> None:
    """Remove from a model the networks, volumes, configs and secrets that none of its services refers to."""
    services = model["services"].values()
    used = {
        "networks": {n for s in services for n in s.get("networks") or ()},
        "volumes": {
            v["source"]
            for s in services
            for v in s.get("volumes") or ()
            if v.get("type") == "volume" and v.get("source")
        },
        "configs": {c["source"] for s in services for c in s.get("configs") or ()},
        "secrets": {c["source"] for s in services for c in s.get("secrets") or ()},
    }
    for kind, names in used.items():
        kept = {name: value for name, value in (model.get(kind) or {}).items() if name in names}
        if kept:
            model[kind] = kept
        else:
            model.pop(kind, None)

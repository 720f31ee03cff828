"""The Go templates that Opsbook hands to `docker --format`, filled in."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

__all__ = ["filled"]

_FIELD = re.compile(r'\{\{(json )?\(?\.([\w.]*)(?: "([^"]*)")?\)?\}\}')
_TAGS = "{{range .RepoTags}}{{println .}}{{end}}"
_COMPOSE = '{{range .ClientInfo.Plugins}}{{if eq .Name "compose"}}{{.Version}}{{end}}{{end}}'


def filled(template: str, document: Mapping[str, Any]) -> str:
    """Return a template with the fields of a document; `{{json .}}` is the whole of it."""
    if template == _TAGS:
        return "".join(f"{tag}\n" for tag in document["RepoTags"])
    template = template.replace(_COMPOSE, "{{.Compose}}")
    return _FIELD.sub(lambda match: _field(match, document), template)


def _field(match: re.Match[str], document: Mapping[str, Any]) -> str:
    as_json, path, argument = match.groups()
    value: Any = document
    for part in path.split(".") if path else ():
        value = value[part]
    if argument is not None:
        value = (value or {}).get(argument, "")
    return json.dumps(value) if as_json else str(value)

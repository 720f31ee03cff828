"""The one place where secrets are taken out of text that people or files will see."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable
from urllib.parse import quote as url_quote
from urllib.parse import quote_plus

from ops.commands.secret import Secret

__all__ = ["SHORTEST", "Redactor", "forms"]

_GO = str.maketrans({character: f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"})
SHORTEST = 6  # a shorter secret would mask half of every line: it gets a warning in its place


def forms(value: str) -> set[str]:
    """Given a secret text, return the spellings it takes in output: plain, base64, URL- and JSON-escaped, as a
    literal of Python (`print(os.environ)`) and as a word of a shell (`set -x`).

    Base64 is given for each of the three alignments, without the characters that depend on the neighbours.
    """
    found = {value, url_quote(value, safe=""), url_quote(value), quote_plus(value)}
    found |= {json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]}
    # Go escapes for HTML too, PHP the slash.
    found.add(json.dumps(value, ensure_ascii=False)[1:-1].translate(_GO))
    found.add(json.dumps(value)[1:-1].replace("/", "\\/"))
    found |= {repr(value)[1:-1], repr(value.encode())[2:-1]}
    found |= {value.replace("'", word) for word in ("'\\''", "'\"'\"'")}
    found.add(value.replace("$", "$$"))
    data = value.encode()
    for shift in range(3):
        encoded = base64.b64encode(b"\0" * shift + data).decode()
        start = (0, 2, 3)[shift]
        spare = (shift + len(data)) % 3
        end = len(encoded) - (0, 3, 2)[spare]
        stable = encoded[start:end]
        found |= {stable, stable.translate(str.maketrans("+/", "-_"))}
    found |= {line for line in value.splitlines() if len(line) >= SHORTEST}
    return {form for form in found if len(form) >= SHORTEST}


class Redactor:
    """Replaces each known secret in text by `***`, in all its spellings, the longest first."""

    def __init__(self, secrets: Iterable[Secret] = ()) -> None:
        spellings: set[str] = set()
        for secret in secrets:
            if len(secret.reveal()) >= SHORTEST:
                spellings |= forms(secret.reveal())
        ordered = sorted(spellings, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, ordered))) if ordered else None

    def __call__(self, text: str) -> str:
        return self._pattern.sub("***", text) if self._pattern else text

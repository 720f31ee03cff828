"""The output of a build as it comes: lines for the log, steps for people, and the end for an error."""

from __future__ import annotations

import codecs
import re
from collections import deque
from collections.abc import Callable

from ops.commands import Redactor

__all__ = ["BuildOutput"]

_STEP = re.compile(r"#\d+ (\[(?!internal\]).+\].*|exporting to image|pushing \S+ with docker|pushing layers)")
_RULE = "------"
_KEPT, _SHOWN = 60, 20


class BuildOutput:
    """Takes bytes of buildx's plain progress or of `docker push`; secrets are masked line by line."""

    def __init__(self, log: Callable[[str], None], say: Callable[[str], None], redact: Redactor) -> None:
        self._log, self._say, self._redact = log, say, redact
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._rest = ""
        self._told: set[str] = set()
        self._last: deque[str] = deque(maxlen=_KEPT)

    def feed(self, data: bytes) -> None:
        """Take the next bytes; a line counts when it is complete, or a secret cut in two would pass."""
        *lines, self._rest = (self._rest + self._decoder.decode(data)).split("\n")
        for line in lines:
            self._line(line)

    def finish(self) -> None:
        """Take what came without a line break at the end."""
        self._rest += self._decoder.decode(b"", final=True)
        if self._rest:
            self._line(self._rest)
            self._rest = ""

    @property
    def tail(self) -> str:
        """What says why a build failed: buildx's own summary where it wrote one, else the last lines."""
        lines = [line for line in self._last if line.strip()]
        if _RULE in lines:
            lines = lines[lines.index(_RULE) :]
            return "\n".join([*lines[: _SHOWN - 1], *lines[_SHOWN - 1 :][-1:]])
        return "\n".join(lines[-5:])

    @property
    def verdict(self) -> str:
        """The last line that begins with ERROR or `error`, without that word; else the last line."""
        lines = [line for line in self._last if line.strip()]
        for line in reversed(lines):
            if match := re.match(r"(?:ERROR|error|Error response from daemon): (.*)", line):
                return match[1]
        return lines[-1] if lines else ""

    def _line(self, line: str) -> None:
        line = self._redact(line.rstrip("\r").rpartition("\r")[2])
        self._last.append(line)
        self._log(line)
        step = _STEP.fullmatch(line)
        if step and step[1] not in self._told:
            self._told.add(step[1])
            self._say(step[1])

"""A notifier that appends one line to a file on the operator's machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from ops.outcomes import Outcome

if TYPE_CHECKING:
    from ops.config.models import Notify

__all__ = ["LogNotifier"]


class LogNotifier:
    """One JSON document a line; the file and its folder are made when missing."""

    def __init__(self, target: Notify, folder: Path) -> None:
        self._path = folder / target.path

    def tell(self, outcome: Outcome, exit_code: int, message: str | None) -> None:
        """Append the line; raises OSError where the file cannot be written."""
        line = {
            "at": outcome.started_at,
            "action": outcome.action,
            "stack": outcome.stack,
            "environment": outcome.environment,
            "version": outcome.version,
            "release": outcome.release,
            "exit_code": exit_code,
            "seconds": outcome.seconds,
            "message": message,
        }
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")

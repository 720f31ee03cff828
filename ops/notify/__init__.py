"""Who is told how a run ended. A notifier that fails is a warning, never the run's failure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ops.notify.base import Notifier
from ops.notify.log import LogNotifier
from ops.outcomes import Outcome

if TYPE_CHECKING:
    from ops.config.models import Notify

__all__ = ["NOTIFIERS", "Notifier", "notify"]

NOTIFIERS: Mapping[str, Callable[[Notify, Path], Notifier]] = {"log": LogNotifier}


def notify(
    targets: Sequence[Notify], folder: Path, outcome: Outcome, exit_code: int, message: str | None
) -> list[str]:
    """Tell each target that wants to hear of this end; return one warning for each that could not be told."""
    end = "success" if exit_code == 0 else "failure"
    warnings = []
    for target in targets:
        if end not in target.on:
            continue
        try:
            NOTIFIERS[target.kind](target, folder).tell(outcome, exit_code, message)
        except OSError as error:
            warnings.append(f"notifier {target.kind}: {error}")
    return warnings

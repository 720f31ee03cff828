"""What a notifier is."""

from __future__ import annotations

from typing import Protocol

from ops.outcomes import Outcome

__all__ = ["Notifier"]


class Notifier(Protocol):
    """Tells somebody how a run ended."""

    def tell(self, outcome: Outcome, exit_code: int, message: str | None) -> None:
        """Deliver one message; raises OSError when it cannot be delivered."""
        ...

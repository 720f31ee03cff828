"""What can go wrong, said so that the reader knows what happened, where, what is left and what to type next.

Each class carries the exit code that the tasks return; docs/tasks.md lists them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ops.outcomes import Outcome

__all__ = [
    "ConfigError",
    "FailedUnchanged",
    "Interrupted",
    "Locked",
    "NeedsPerson",
    "OpsError",
    "Problem",
    "RolledBack",
    "Unreachable",
    "UsageError",
    "gathered",
]


class OpsError(Exception):
    """A failure told in four parts; `exit_code` is what a task ends with.

    `message` says what happened, `target` on which server or service, `left_behind` what now differs from
    before, `next_step` the command or the edit that helps.
    """

    exit_code = 1
    outcome: Outcome | None = None  # what a run had done by then; the run adds it on the way up

    def __init__(
        self,
        message: str,
        *,
        target: str | None = None,
        left_behind: str | None = None,
        next_step: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.target = target
        self.left_behind = left_behind
        self.next_step = next_step

    def __str__(self) -> str:
        return f"{self.target}: {self.message}" if self.target else self.message

    def mask(self, redact: Callable[[str], str]) -> None:
        """Take secrets out of all four parts: what a command wrote may hold one."""
        self.message = redact(self.message)
        self.left_behind = redact(self.left_behind) if self.left_behind else None
        self.next_step = redact(self.next_step) if self.next_step else None
        self.args = (self.message,)


class FailedUnchanged(OpsError):
    """The run failed before it changed anything (disk full, missing tag, registry down)."""

    exit_code = 1


class UsageError(OpsError):
    """The command was asked for something that does not exist or cannot be combined."""

    exit_code = 2


class ConfigError(OpsError):
    """The configuration, the compose files or the secrets do not allow the command."""

    exit_code = 2


class RolledBack(OpsError):
    """The run failed after changes began, and each touched server is back on its own previous release."""

    exit_code = 3


class NeedsPerson(OpsError):
    """The run failed and what is on the servers has to be looked at; `left_behind` says what is there."""

    exit_code = 4


class Locked(OpsError):
    """Another run holds the lock; the message names its holder."""

    exit_code = 5


class Unreachable(OpsError):
    """A server could not be reached or did not prove who it is, before anything was changed."""

    exit_code = 6


class Interrupted(OpsError):
    """A person or the system stopped the run, and it was rolled back (130 for SIGINT, 143 for SIGTERM, 129 for SIGHUP)."""

    exit_code = 130

    def __init__(
        self,
        message: str,
        *,
        signal_number: int = 2,
        target: str | None = None,
        left_behind: str | None = None,
        next_step: str | None = None,
    ) -> None:
        super().__init__(message, target=target, left_behind=left_behind, next_step=next_step)
        self.exit_code = 128 + signal_number


class Problem(OpsError):
    """Several findings told together; the exit code is the gravest of theirs (6 before 2 before 1)."""

    def __init__(self, findings: Sequence[OpsError]) -> None:
        first = findings[0]
        if len(findings) == 1:
            message = str(first)
        else:
            message = f"{len(findings)} problems:\n" + "\n".join(f"  - {finding}" for finding in findings)
        steps = list(dict.fromkeys(finding.next_step for finding in findings if finding.next_step))
        left = list(dict.fromkeys(finding.left_behind for finding in findings if finding.left_behind))
        super().__init__(
            message,
            target=None,
            left_behind="; ".join(left) or None,
            next_step="\n".join(steps) or None,
        )
        self.findings = tuple(findings)
        codes = [finding.exit_code for finding in findings]
        self.exit_code = next((code for code in (6, 5, 4, 3, 2) if code in codes), 1)

    def mask(self, redact: Callable[[str], str]) -> None:
        """See OpsError; the findings are masked as well."""
        super().mask(redact)
        for finding in self.findings:
            finding.mask(redact)


def gathered(findings: Sequence[OpsError]) -> OpsError:
    """Return the error that tells all findings: the only one itself, with its own class and target, else a Problem."""
    return findings[0] if len(findings) == 1 else Problem(findings)

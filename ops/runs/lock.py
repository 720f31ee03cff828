"""The lock of a stack in an environment: a folder on the state host, with its holder and a heartbeat."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from ops.commands import Command, quote
from ops.engines.layout import Layout
from ops.errors import Locked, NeedsPerson, OpsError

__all__ = ["HELD", "Holder", "acquire", "beat", "held_error", "release"]

HELD = 75


@dataclass(frozen=True)
class Holder:
    """Who holds the lock. `previous` maps servers to their releases from before, for the way back."""

    run_id: str
    action: str
    who: str
    started_at: str
    version: str | None = None
    release: str | None = None
    previous: Mapping[str, str | None] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return the text of holder.json."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str | None) -> Holder | None:
        """Read holder.json; None where a run died before it was written."""
        try:
            return Holder(**json.loads(text)) if text else None
        except (ValueError, TypeError):
            return None


def acquire(
    layout: Layout, holder: Holder, entry: str, *, floor: int, take_over: str | None, stale_after: float
) -> Command:
    """Return the command that takes the lock, raises the state host's fence, writes the journal's first line, and
    prints a fence token above `floor` and above all given before.

    `take_over` names a dead run whose lock may be taken once its heartbeat is `stale_after` seconds old by the
    server's clock. Where another holds the lock it prints the heartbeat's age and the holder, and ends with HELD.
    """
    claim = ""
    if take_over is not None:
        claim = (
            f'if [ "$age" -ge {int(stale_after)} ] && '
            f"{{ [ ! -e locks/change/holder.json ] || grep -qF {quote(take_over)} locks/change/holder.json; }}; then "
            "mv locks/change locks/dead.$$ 2>/dev/null && rm -rf locks/dead.$$ && mkdir locks/change 2>/dev/null && got=1; fi; "
        )
    return Command(
        f"umask 077; mkdir -p {quote(layout.root)} && cd {quote(layout.root)} && mkdir -p locks releases files shared proxy || exit 1; "
        "got=; mkdir locks/change 2>/dev/null && got=1; "
        'if [ -z "$got" ]; then [ -d locks/change ] || exit 1; '
        "age=$(( $(date +%s) - $(stat -c %Y locks/change/heartbeat 2>/dev/null || stat -c %Y locks/change) )); "
        f"{claim}"
        f'[ -n "$got" ] || {{ echo "$age"; cat locks/change/holder.json 2>/dev/null; exit {HELD}; }}; fi; '
        "read -r line && printf '%s\\n' \"$line\" > locks/change/holder.json && : > locks/change/heartbeat || { rm -rf locks/change; exit 1; }; "
        f't=$(cat locks/change.token 2>/dev/null || echo 0); [ "$t" -ge {floor} ] || t={floor}; t=$((t + 1)); '
        'echo "$t" > locks/change.token || exit 1; exec 9>>.fence.lock; '
        f"flock -x -w 60 9 || {{ rm -rf locks/change; echo 'a command of an earlier run is still at work here' >&2; exit 97; }}; "
        f'printf \'%s %s\\n\' "$t" {quote(holder.run_id)} > fence && cat >> journal.jsonl && echo "$t"',
        stdin=f"{holder.to_json()}\n{entry}\n".encode(),
        changes="lock",
        timeout=70,
        title="take the lock",
    )


def beat(layout: Layout, phase: str) -> Command:
    """Return the command that shows that the holder lives and where it is."""
    return Command(
        f"cd {quote(layout.lock)} && printf '%s\\n' {quote(phase)} > phase && touch heartbeat",
        changes="heartbeat",
        timeout=15,
        title="heartbeat",
    )


def release(layout: Layout, entry: str) -> Command:
    """Return the command that writes the journal's last line of the run and gives the lock back."""
    return Command(
        f"cd {quote(layout.root)} && printf '%s\\n' {quote(entry)} >> journal.jsonl && rm -rf locks/change",
        changes="journal and lock",
        title="journal; unlock",
    )


def held_error(text: str, *, stale_after: float, environment: str, stack: str) -> OpsError:
    """Given what `acquire` printed, return the error: a living holder, or a run that died and the ways on."""
    first, _, rest = text.partition("\n")
    age = float(first) if first.strip().isdigit() else 0.0
    holder = Holder.from_json(rest)
    where = f"--env {environment} --stack {stack}"
    told = (
        f"{holder.action} by {holder.who}, run {holder.run_id}, since {holder.started_at}"
        if holder
        else "an unknown run"
    )
    if age < stale_after:
        return Locked(
            f"locked: {told}; last sign of life {age:.0f} s ago",
            next_step=f"wait for it (--wait SECONDS), or look: inv deploy.status {where}",
        )
    return NeedsPerson(
        f"an earlier run died: {told}; no sign of life for {age:.0f} s",
        left_behind="its lock, and whatever it had done by then; the old release may serve beside parts of the new",
        next_step=f"inv deploy {where} --resume   finishes it with the same version\n"
        f"inv deploy.rollback {where}   goes back to the release from before it",
    )

"""The lock of a stack in an environment: a folder on the state host, with its holder and a heartbeat."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from ops.commands import Command, quote
from ops.engines.layout import Layout
from ops.errors import Locked, NeedsPerson, OpsError
from ops.runs.journal import append

__all__ = [
    "AGE",
    "BUSY",
    "HELD",
    "LONG",
    "UNWRITTEN",
    "Holder",
    "abandon",
    "acquire",
    "age_of",
    "amend",
    "beat",
    "held_error",
    "look",
    "read_look",
    "release",
    "ways_on",
]

HELD, BUSY, UNWRITTEN = 75, 97, 74

LONG = 10 * 365 * 86400.0  # seconds: older is a heartbeat that `abandon` put back to the epoch


def age_of(folder: str) -> str:
    """Return shell that sets `age` to the milliseconds since a lock's last heartbeat, by the server's clock.

    Whole seconds would let a run that lives look dead.
    """
    return (
        f"beat=$({{ stat -c %.3Y {folder}/heartbeat || stat -c %.3Y {folder}; }} 2>/dev/null | tr -d .,); "
        "now=$(date +%s%3N); age=$(( now - ${beat:-$now} )); "
    )


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


AGE = age_of("locks/change")


def acquire(
    layout: Layout, holder: Holder, entry: str, *, floor: int, take_over: str | None, stale_after: float
) -> Command:
    """Return the command that takes the lock, raises the state host's fence, writes the journal's first line, and
    prints a fence token above `floor` and above all given before.

    `take_over` names a dead run whose lock may be taken once its heartbeat is `stale_after` seconds old by the
    server's clock and no command of it is at work here any more (else: BUSY). Before the token it prints `dead` when
    it took such a lock, `new` otherwise. Where another holds the lock it prints the heartbeat's age in milliseconds
    and the holder, and ends with HELD.
    """
    claim = ""
    if take_over is not None:
        dead = (
            f'[ "$age" -ge {round(stale_after * 1000)} ] && '
            f"{{ [ ! -e locks/change/holder.json ] || grep -qF {quote(take_over)} locks/change/holder.json; }}"
        )
        # Two may want it at once: who gets the fence's lock looks again, and the other finds a holder that lives.
        claim = (
            f"if {dead}; then flock -x -w 60 9 || {{ echo 'its last command is still at work here' >&2; exit {BUSY}; }}; "
            f"{AGE} if {dead}; then got=dead; fi; fi; "
        )
    return Command(
        f"umask 077; mkdir -p {quote(layout.root)} && cd {quote(layout.root)} && mkdir -p locks releases files shared proxy || exit 1; "
        "exec 9>>.fence.lock || exit 1; "
        "got=; mkdir locks/change 2>/dev/null && got=new; "
        # Given back since the first try, or there is no right to make it: the second try tells.
        '[ -n "$got" ] || [ -d locks/change ] || { mkdir locks/change && got=new; } || exit 1; '
        f'if [ -z "$got" ]; then {AGE} {claim}'
        f'[ -n "$got" ] || {{ echo "$age"; cat locks/change/holder.json 2>/dev/null; exit {HELD}; }}; fi; '
        # The lock of a run that died stays one, for whoever comes next to take at once.
        "back() { if [ $got = dead ]; then touch -d @0 locks/change/heartbeat; else rm -rf locks/change; fi; exit $1; }; "
        "read -r line && printf '%s\\n' \"$line\" > locks/change/.holder && mv -f locks/change/.holder locks/change/holder.json "
        "&& touch locks/change/heartbeat || back 1; "
        f't=$(cat locks/change.token 2>/dev/null || echo 0); [ "$t" -ge {floor} ] || t={floor}; t=$((t + 1)); '
        'echo "$t" > locks/change.token || back 1; '
        f"flock -x -w 60 9 || {{ echo 'a command of an earlier run is still at work here' >&2; back {BUSY}; }}; "
        f"{{ printf '%s %s\\n' \"$t\" {quote(holder.run_id)} > fence && touch locks/change/heartbeat && "
        + append()
        + '; } || back 1; echo "$got $t"',
        stdin=f"{holder.to_json()}\n{entry}\n".encode(),
        changes="lock",
        timeout=140,
        title="take the lock",
    )


def look(layout: Layout) -> Command:
    """Return the command that prints what `acquire` does where another holds the lock; nothing where nobody does."""
    return Command(
        f"cd {quote(layout.root)} 2>/dev/null && [ -d locks/change ] || exit 0; {AGE} "
        'echo "$age"; cat locks/change/holder.json 2>/dev/null || true',
        title="who holds the lock",
    )


def read_look(text: str) -> tuple[float, Holder | None]:
    """Given what `look` printed, return the heartbeat's age in seconds and the holder."""
    first, _, rest = text.partition("\n")
    return (int(first) / 1000 if first.strip().isdigit() else 0.0), Holder.from_json(rest)


def amend(layout: Layout, holder: Holder) -> Command:
    """Return the command that corrects what the lock says of its holder, once more is known behind the lock."""
    return Command(
        f"cd {quote(layout.lock)} && cat > .holder && mv -f .holder holder.json",
        stdin=f"{holder.to_json()}\n".encode(),
        changes="lock",
        title="correct the lock's holder",
    )


def beat(layout: Layout, phase: str) -> Command:
    """Return the command that shows that the holder lives and where it is; on a full disk it lives all the same."""
    return Command(
        f"cd {quote(layout.lock)} && touch heartbeat && {{ printf '%s\\n' {quote(phase)} > phase || true; }}",
        changes="heartbeat",
        timeout=15,
        title="heartbeat",
    )


def release(layout: Layout, entry: str) -> Command:
    """Return the command that writes the journal's last line of the run and gives the lock back.

    It ends with UNWRITTEN where the line could not be written: the lock is given back all the same.
    """
    return Command(
        _last_line(layout, entry, "rm -rf locks/change"),
        changes="journal and lock",
        title="journal; unlock",
    )


def abandon(layout: Layout, entry: str) -> Command:
    """Return the command that writes the journal's last line and leaves the lock as that of a dead run, at once.

    It ends with UNWRITTEN where only the line could not be written.
    """
    return Command(
        _last_line(layout, entry, "touch -d @0 locks/change/heartbeat"),
        changes="journal and lock",
        timeout=15,
        title="journal; mark the lock as left behind",
    )


def _last_line(layout: Layout, entry: str, then: str) -> str:
    """A full disk takes the line, not the lock: what comes `then` needs no room."""
    return (
        f"cd {quote(layout.root)} || exit 1; {append(entry)}; written=$?; "
        f"{then} || exit 1; [ $written = 0 ] || exit {UNWRITTEN}"
    )


def held_error(text: str, *, stale_after: float, where: str) -> OpsError:
    """Given what `acquire` printed, return the error: a living holder, or a run that died and the ways on.

    `where` is the options that mean this stack and environment.
    """
    age, holder = read_look(text)
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
    how = "was left unfinished" if age > LONG else f"died; no sign of life for {age:.0f} s"
    return NeedsPerson(
        f"an earlier run {how}: {told}",
        left_behind="its lock, and whatever it had done by then; the old release may serve beside parts of the new",
        next_step=ways_on(holder.action if holder else "", where),
    )


def ways_on(action: str, where: str) -> str:
    """Return the commands that lead on from a run that was left unfinished: a version that is fled is not resumed."""
    if action.startswith("restore"):
        return f"inv restore.undo {where}   takes back what it had done; then the restore again"
    if action.startswith("stack."):
        return f"inv deploy.unlock {where}   removes its lock; then run {action} again"
    if action == "deploy.rollback":
        return (
            f"inv deploy.rollback {where}   finishes it\n"
            f"inv deploy {where} --resume --version VERSION   deploys in its place"
        )
    return (
        f"inv deploy {where} --resume   finishes it with the same version (--version for another)\n"
        f"inv deploy.rollback {where}   goes back to the release from before it"
    )

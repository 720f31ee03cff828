"""How commands travel: one shell script on stdin, and frames around what each command writes.

The server is asked to execute one constant line (`invocation`); everything else is read from stdin. So nothing
of a command is an argument of any process, the login shell (bash, fish, csh) has nothing to quote, and what its
rc file prints comes before the first marker and is dropped. A plain `sh` would not do: dash 0.5.12 (Debian 12
and 13) reads its script in blocks and would swallow the stdin of the commands behind it; `read` and GNU
`head -c` take exactly the bytes they are told.

On stdin: the length of the script and a newline, the script, then the stdin bytes of each command.
On stdout and stderr: a marker that begins, and a marker behind each command with its index and exit status.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ops.commands import Command, quote

__all__ = [
    "ENDING",
    "Begin",
    "End",
    "Event",
    "FrameReader",
    "Script",
    "batch",
    "end_group",
    "held",
    "invocation",
    "streaming",
]

ENDING = 30.0  # seconds: what `end_group` takes at most, also on a busy server
_SIGN = b"\x1e"


@dataclass(frozen=True)
class Begin:
    """The shell runs; `group` is its process group on the host."""

    group: int


@dataclass(frozen=True)
class End:
    """The command of that index ended (the status is known on stdout only)."""

    index: int
    status: int


Event = bytes | Begin | End


@dataclass(frozen=True)
class Script:
    """A script ready to travel: the marker of its frames, how many commands it frames, and what to send.

    One that is `held` is ended on the host when its stdin ends: the stdin is to be kept open for as long as somebody
    listens.
    """

    marker: bytes
    count: int
    parts: tuple[bytes, ...] = field(repr=False)
    held: bool = False


def invocation(*, sudo: bool) -> str:
    """Return the line that a host executes, the same for all commands; every login shell reads it alike."""
    shell = 'sh -c \'read -r n; eval "$(head -c "$n")"\''
    return f"sudo -n {shell}" if sudo else shell


def batch(commands: Sequence[Command]) -> Script:
    """Given commands, return the script that runs one after another, each with its own stdin, until one fails."""
    return _script(
        [_framed(command.script, len(command.stdin)) for command in commands],
        [command.stdin for command in commands],
    )


def held(command: Command) -> Script:
    """Given one command, return the script that runs it for as long as somebody listens: a dump must not go on alone."""
    if command.stdin:
        return batch((command,))
    return _script([_framed(command.script, 0)], [], held=True)


def streaming(command: Command) -> Script:
    """Given one command, return the script that leaves the rest of stdin to it, up to its end."""
    return _script([f"( eval {quote(command.script)} )"], [])


def end_group(group: int, *, grace: float = 3.0) -> str:
    """Return the script that ends a process group: TERM, and KILL for what is left after `grace` seconds."""
    steps = round(grace / 0.1)  # dash reads `kill -TERM -- -N` as a faulty number, so: -s
    return (
        f"kill -s TERM -- -{group} 2>/dev/null || exit 0; i=0; "
        f"while [ $i -lt {steps} ]; do kill -s 0 -- -{group} 2>/dev/null || exit 0; sleep 0.1; i=$((i+1)); done; "
        f"kill -s KILL -- -{group} 2>/dev/null; exit 0"
    )


def _framed(script: str, length: int) -> str:
    body = f"( eval {quote(script)} )"
    if not length:
        return f"{body} </dev/null"
    # What the command leaves unread is drained, or the next one would read it.
    return f"head -c {length} | {{ {body}; _ops_s=$?; cat >/dev/null; exit $_ops_s; }}"


def _script(bodies: Sequence[str], inputs: Sequence[bytes], *, held: bool = False) -> Script:
    marker = secrets.token_hex(16)
    # Printed from two halves: a command that prints its own script or variables must not print a marker.
    sign = f"{marker[:16]} {marker[16:]}"
    lines = [
        "read -r _ops_g _ops_g _ops_g _ops_g _ops_g _ops_s </proc/self/stat || _ops_g=$$",
        f"printf '\\036%s%s B %s\\n' {sign} \"$_ops_g\"; printf '\\036%s%s B 0\\n' {sign} >&2",
    ]
    if held:  # through 7, as what runs in the background has no stdin of its own
        lines.append(
            'exec 7<&0; { cat; kill -s TERM -- -"$_ops_g"; } <&7 >/dev/null 2>&1 & _ops_w=$!; exec 7<&-; '
            "trap 'kill $_ops_w 2>/dev/null' EXIT"
        )
    for index, body in enumerate(bodies):
        lines.append(body)
        lines.append(
            f"_ops_s=$?; printf '\\036%s%s E {index} %s\\n' {sign} $_ops_s; "
            f"printf '\\036%s%s E {index} 0\\n' {sign} >&2; [ $_ops_s = 0 ] || exit 0"
        )
    lines.append("exit 0")
    # In braces: a shell runs nothing of a group before it read its end, so a script cut on its way does nothing.
    text = "\n".join(("{", *lines, "}\n")).encode(errors="surrogateescape")
    head = str(len(text)).encode() + b"\n" + text
    return Script(_SIGN + marker.encode(), len(bodies), (head, *inputs), held)


class FrameReader:
    """Takes the bytes of one stream as they come and gives back output and frames, byte for byte."""

    def __init__(self, marker: bytes) -> None:
        self._marker = marker
        self._held = b""
        self._begun = False
        self.preamble = b""

    def feed(self, data: bytes) -> Iterator[Event]:
        """Given the next bytes, yield output (never empty), `Begin` and `End` in order."""
        data = self._held + data if self._held else data
        at = 0
        while (found := data.find(self._marker, at)) >= 0:
            yield from self._output(data[at:found])
            newline = data.find(b"\n", found)
            if newline < 0:
                self._held = data[found:]
                return
            kind, *numbers = data[found + len(self._marker) : newline].split()
            at = newline + 1
            if kind == b"B":
                self._begun = True
                yield Begin(int(numbers[0]))
            else:
                yield End(int(numbers[0]), int(numbers[1]))
        possible = data.find(_SIGN, max(at, len(data) - len(self._marker) + 1))
        upto = possible if possible >= 0 else len(data)
        self._held = data[upto:]
        yield from self._output(data[at:upto])

    def _output(self, data: bytes) -> Iterator[bytes]:
        if not self._begun:
            self.preamble = (self.preamble + data)[-2000:]
        elif data:
            yield data

"""Files: a folder on a server as a tar.

A restore is written beside the folder. In the swap what lies in the folder moves, not the folder itself, because a
container has it mounted. The moves go through three names, so that whoever comes after a swap that was cut off knows how
far it came: `.ops-old-TAG.part`, some of what was live is in it and the rest still in the folder; `.ops-old-TAG.half`, all
of it is, and some of the restored is in the folder; `.ops-old-TAG`, the swap is done.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ops.commands import Command, quote, quote_all
from ops.datastores.base import Counts, Incoming, Looked, Packing, Scratch, Stream, chosen, read_lines
from ops.datastores.increments import PROGRESS
from ops.datastores.shell import TAG, alone, held, through_zstd
from ops.errors import FailedUnchanged, UsageError

__all__ = ["Files"]

PART = "files"
_MEMBERS = "ops-members "
# What tar says when a file was written to or went away under its hands: GNU tar's exit status is then 1.
_CHANGED = re.compile(
    r"tar: (.+: (?:file changed as we read it|File removed before we read it|File shrank by \d+ bytes.*))"
)
_RUN = "[0-9]" * 8 + "T" + "[0-9]" * 6 + "Z-" + "[0-9a-f]" * 4  # as a shell's pattern


@dataclass(frozen=True)
class Files:
    """A folder; `include` and `exclude` are globs relative to it, in which `*` matches `/` too, as in GNU tar.

    `states` is the folder in which tar keeps, for increments, what it has seen; empty, none are wanted. What it keeps
    bears the id of the backup that it belongs to, and goes once there is a newer one.
    """

    name: str
    server: str
    path: str
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    states: str = ""

    @property
    def kind(self) -> str:
        return "files"

    def look(self) -> Command:
        path = quote(self.path)
        return Command(
            "command -v zstd >/dev/null && printf 'zstd\\tyes\\n'; "
            "tar --version | grep -q GNU || { echo 'GNU tar is needed here' >&2; exit 1; }; "
            "printf 'tar\\t%s\\n' \"$(tar --version | head -n 1)\"; "
            f"[ -d {path} ] && printf 'there\\tyes\\n'; "
            # A link is followed: what it leads to is what is dumped, swapped and mounted.
            f"printf 'path\\t%s\\n' \"$(readlink -m -- {path})\"; "
            f"printf 'states\\t%s\\n' \"$(cd {quote(self.states or '/nowhere')} 2>/dev/null && echo {quote(self.name)}.*.snar)\"",
            title=f"look at {self.path}",
        )

    def read(self, text: str) -> Looked:
        said = read_lines(text)
        return Looked(
            {"tar": said["tar"].rpartition(" ")[2]},
            engine=False,
            server="zstd" in said,
            facts={"path": said["path"], "states": said.get("states", "")},
            there="there" in said,
        )

    def streams(self, looked: Looked, packing: Packing, mark: str) -> tuple[Stream, ...]:
        return self._tar(looked, packing, mark)

    @property
    def increments(self) -> bool:
        return bool(self.states)

    def begin(self, looked: Looked) -> Command | None:
        return None

    def base(
        self, looked: Looked, packing: Packing, mark: str, begun: Mapping[str, Any]
    ) -> tuple[Stream, ...]:
        return self._tar(looked, packing, mark, f"mkdir -p -m 700 -- {quote(self.states)}")

    def increment(
        self, looked: Looked, packing: Packing, mark: str, last: Mapping[str, Any]
    ) -> tuple[Stream, ...]:
        was, state = self._state(last["state"]), self._state(mark)
        return self._tar(looked, packing, mark, f"cp -- {quote(was)} {quote(state)}")

    def trouble(self, looked: Looked, last: Mapping[str, Any]) -> str | None:
        if "state" not in last:
            return "the last full backup was taken without increments"
        if last["of"] != self._of(looked):
            return "its path or its globs are others than in the last backup"
        if f"{self.name}.{last['state']}.snar" not in looked.facts["states"].split(" "):
            return f"{self._state(last['state'])} is gone, which says what the last backup holds"
        return None

    def settled(self, looked: Looked, now: Mapping[str, Any]) -> Command:
        kept, states = quote(self._state(now["state"])), f"{quote(self.states)}/{quote(self.name)}"
        return self._command(
            f'for p in {states}.{_RUN}.snar; do [ "$p" = {kept} ] || rm -f -- "$p"; done',
            f"remove what earlier increments of {self.path} went by",
        )

    def _state(self, mark: str) -> str:
        return f"{self.states}/{self.name}.{mark}.snar"

    def _of(self, looked: Looked) -> list[str]:
        """What an increment must have in common with what it builds on."""
        return [looked.facts["path"], *self.exclude]

    def _tar(self, looked: Looked, packing: Packing, mark: str, prepare: str = "") -> tuple[Stream, ...]:
        """Return the folder as a tar; where something is to `prepare`, as one that GNU tar's increments can follow."""
        if not looked.there:
            raise FailedUnchanged(
                f"datastore {self.name}: there is no folder {self.path}", target=self.server
            )
        where = chosen(packing, engine=False, server=looked.server)
        taking = (
            "tar",
            "--create",
            "--file=-",
            "--format=posix",
            "--numeric-owner",
            "--sparse",
            "--acls",
            "--xattrs",
        )
        # A device may have another number after a reboot, and is the same all the same.
        following = (f"--listed-incremental={self._state(mark)}", "--no-check-device") if prepare else ()
        tar = quote_all(
            (
                *taking,
                *following,
                *("--verbose", "--index-file=/dev/fd/5", "--anchored"),
                *(f"--exclude=./{glob}" for glob in self.exclude),
                *("--null", "--no-recursion" if self.include else "--sort=name", "--files-from=-"),
            )
        )
        # With globs all folders go along, so that each comes back with its owner and mode.
        wanted = f"-ignore_readdir_race \\( -type d -o {_matching(self.include)} \\)"
        listing = f"find . {wanted} -print0" if self.include else "printf '.\\0'"
        progress = json.dumps({"state": mark, "of": self._of(looked)})
        told = f"; printf '%s\\n' {quote(PROGRESS + progress)} >&2" if prepare else ""
        # tar goes to 4, its list of members through 3 to be counted, the statuses to 7. tar's status 1 is no failure: the
        # archive is whole, and something in it changed while it was read.
        script = (
            f"{f'{prepare} || exit 1; ' if prepare else ''}"
            f"cd {quote(looked.facts['path'])} || exit 1; export LC_ALL=C; exec 4>&1; "
            f"_ops_t=$( {{ {{ {{ {listing} || echo listing >&7; }} | {tar} 5>&3 >&4; echo $? >&7; }} 3>&1 | "
            f"printf '{_MEMBERS}%s\\n' \"$(wc -l)\" >&2; }} 7>&1 ); case $_ops_t in 0|1) ;; *) exit 1 ;; esac{told}"
        )
        body = through_zstd(script, packing) if where == "server" else script
        ending = "tar" if where == "none" else "tar.zst"
        return (Stream(PART, Command(body, timeout=None, title=f"tar {self.path}"), ending, where),)

    def details_of(self, looked: Looked) -> Mapping[str, Any]:
        return {"include": list(self.include), "exclude": list(self.exclude)}

    def reading(self, details: Mapping[str, Any], part: str) -> Command | None:
        return Command("tar --list --file=- >/dev/null", timeout=None, title="tar --list")

    def scratch(self, details: Mapping[str, Any], tag: str, folder: str) -> Scratch:
        place = f"{folder}/scratch-{tag}"
        make = f"mkdir -p -m 700 -- {quote(place)}"
        return Scratch(
            replace(self, path=f"{place}/{self.name}"),
            Command(
                held(make, f"rm -rf -- {quote(place)}"),
                changes="a throw-away folder",
                timeout=None,
                title=f"mkdir {place}",
            ),
        )

    def narrowed(
        self, details: Mapping[str, Any], counts: Counts, wanted: Collection[str]
    ) -> tuple[Mapping[str, Any], Counts]:
        raise UsageError(f"{self.name} is a folder, which is restored as a whole: --only {self.name}")

    def beside(self, details: Mapping[str, Any], looked: Looked, tag: str) -> Command:
        live, new = looked.facts["path"], self._place(looked, "new", tag)
        stale, cut = f"{quote(live)}.ops-new-{TAG}", f"{quote(live)}.ops-old-{TAG}"
        return self._command(
            f'for p in {cut}.part {cut}.half; do [ ! -e "$p" ] || '
            "{ echo 'the swap of an earlier restore was cut off: inv restore.undo first' >&2; exit 1; }; done; "
            f"rm -rf -- {stale} {stale}.list; mkdir -p -- {quote(live)} && mkdir -m 700 -- {quote(new)} || exit 1; "
            f'[ "$(stat -c %d -- {quote(live)})" = "$(stat -c %d -- {quote(new)})" ] || '
            f"{{ rmdir -- {quote(new)}; echo 'the folder is a filesystem of its own: name one in it, or its parent' >&2; exit 1; }}",
            "make a folder beside the live one",
        )

    def incoming(self, details: Mapping[str, Any], looked: Looked, tag: str) -> tuple[Incoming, ...]:
        new = self._place(looked, "new", tag)
        script = (
            f"cd {quote(new)} && tar --extract --file=- --same-permissions --same-owner --numeric-owner --acls --xattrs "
            f"--verbose > {quote(f'{new}.list')}"
        )
        command = Command(script, changes="files", timeout=None, title=f"untar beside {self.path}")
        return (Incoming(PART, command),)

    def count(self, details: Mapping[str, Any], looked: Looked, tag: str) -> Command:
        members = quote(self._place(looked, "new", tag) + ".list")
        return Command(
            f"printf '{_MEMBERS}%s\\n' \"$(wc -l < {members})\"", title=f"count what is beside {self.path}"
        )

    def counted(self, text: str) -> Counts:
        return {PART: self.counts_of(text)}

    def swap(self, details: Mapping[str, Any], looked: Looked, tag: str) -> Command:
        """What the backup left out by its globs is linked into the new tree, so that it stays."""
        live, new, old = (
            looked.facts["path"],
            self._place(looked, "new", tag),
            self._place(looked, "old", tag),
        )
        part, half = quote(f"{old}.part"), quote(f"{old}.half")
        undo = f"{{ {_back(live, new, old)}; exit 1; }}"
        return self._command(
            f"{alone(live)}{_keep(live, new, details)}mkdir -- {part} && chown --reference={quote(live)} -- {part} && "
            f"chmod --reference={quote(live)} -- {part} || exit 1; {_move(quote(live), part)} && mv -T -- {part} {half} && {_move(quote(new), quote(live))} && "
            f"chown --reference={quote(new)} -- {quote(live)} && chmod --reference={quote(new)} -- {quote(live)} && "
            f"mv -T -- {half} {quote(old)} || {undo}; rm -rf -- {quote(new)} {quote(new + '.list')}",
            f"swap what is in {self.path}",
        )

    def swap_back(self, details: Mapping[str, Any], looked: Looked, tag: str) -> Command:
        live, new, old = (
            looked.facts["path"],
            self._place(looked, "new", tag),
            self._place(looked, "old", tag),
        )
        return self._command(f"{alone(live)}{_back(live, new, old)}", f"swap back what was in {self.path}")

    def forget(self, details: Mapping[str, Any], looked: Looked, tag: str) -> Command:
        kept, old = quote(self._place(looked, "old", tag)), f"{quote(looked.facts['path'])}.ops-old-{TAG}"
        return self._command(
            f'for p in {old}; do [ "$p" = {kept} ] || rm -rf -- "$p"; done',
            f"remove what earlier restores kept of {self.path}",
        )

    def discard(self, details: Mapping[str, Any], looked: Looked, tag: str) -> Command:
        new = self._place(looked, "new", tag)
        return self._command(
            f"rm -rf -- {quote(new)} {quote(new + '.list')}", f"remove what is beside {self.path}"
        )

    def counts_of(self, told: str) -> Mapping[str, int]:
        found = re.findall(rf"^{_MEMBERS}(\d+)$", told, re.MULTILINE)
        return {"members": int(found[-1])} if found else {}

    def warnings_of(self, told: str) -> tuple[str, ...]:
        return tuple(_CHANGED.findall(told))

    def _place(self, looked: Looked, word: str, tag: str) -> str:
        return f"{looked.facts['path']}.ops-{word}-{tag}"

    def _command(self, script: str, title: str) -> Command:
        return Command(script, changes="files", timeout=600, title=title)


def _alone(live: str) -> str:
    """Return shell that waits for a swap that is still at work, as of a run whose connection broke."""
    return f"exec 6<{quote(live)} && flock -x -w 120 6 || {{ echo 'another swap is at work here' >&2; exit 1; }}; "


def _back(live: str, new: str, old: str) -> str:
    """Return shell that undoes a swap from wherever it stands, and may itself be cut off and run again."""
    part, half = quote(f"{old}.part"), quote(f"{old}.half")
    return (
        f"[ ! -d {quote(old)} ] || mv -T -- {quote(old)} {half} || exit 1; "
        f"if [ -d {half} ]; then mkdir -p -m 700 -- {quote(new)} && {_move(quote(live), quote(new))} && "
        f"mv -T -- {half} {part} || exit 1; fi; "
        f"if [ -d {part} ]; then {_move(part, quote(live))} && "
        f"chown --reference={part} -- {quote(live)} && chmod --reference={part} -- {quote(live)} && rmdir -- {part} || exit 1; fi"
    )


def _move(source: str, target: str) -> str:
    return f"find {source} -mindepth 1 -maxdepth 1 -exec mv -t {target} -- {{}} +"


def _keep(live: str, new: str, details: Mapping[str, Any]) -> str:
    """Return shell that links into a new tree what the globs of a backup left out of it."""
    include, exclude = _matching(details["include"]), _matching(details["exclude"])
    left_out = " -o ".join(part for part in (include and f"! \\( {include} \\)", exclude) if part)
    if not left_out:
        return ""
    return (
        f"cd {quote(live)} || exit 1; _ops_k=$( {{ {{ find . -ignore_readdir_race ! -type d \\( {left_out} \\) -print0 || echo find >&7; }} | "
        f'xargs -0 -r cp -al --parents -t {quote(new)} -- || echo cp >&7; }} 7>&1 >&2 ); [ -z "$_ops_k" ] || exit 1; cd /; '
    )


def _matching(globs: Sequence[str]) -> str:
    """Return the test of `find` for what globs match, and all below it."""
    return " -o ".join(f"-path {quote(f'./{glob}{below}')}" for glob in globs for below in ("", "/*"))

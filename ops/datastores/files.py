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
from ops.datastores.shell import TAG, alone, held, through_zstd, unless_kept
from ops.errors import FailedUnchanged, UsageError

__all__ = ["Files"]

PART = "files"
LIST = "list"  # of an increment: all that is there
_FIELDS = r"\(.\) [0-9]* [0-9]* [^ ]* [^ ]* "  # of a list, before the path; as sed knows them
_TYPE = r"\1 "
_MEMBERS = "ops-members "
_NAMED = "ops-part "
# What tar says when a file was written to or went away under its hands: GNU tar's exit status is then 1.
_CHANGED = re.compile(
    r"tar: (.+: (?:file changed as we read it|File removed before we read it|File shrank by \d+ bytes.*|"
    r"Warning: Cannot (?:open|stat): No such file or directory))"
)
_RECORDS = (
    "--blocking-factor=128"  # of 64 KiB, what a pipe holds: with tar's own of 10 KiB it is a third slower
)
_RUN = "[0-9]" * 8 + "T" + "[0-9]" * 6 + "Z-" + "[0-9a-f]" * 4  # as a shell's pattern


@dataclass(frozen=True)
class Files:
    """A folder; `include` and `exclude` are globs relative to it, in which `*` matches `/` too, as in GNU tar.

    `states` is the folder that keeps, for increments, the list of what a backup saw; empty, none are wanted. A list bears
    the id of the backup that it belongs to, and goes once there is a newer one.
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
            f"printf 'states\\t%s\\n' \"$(cd {quote(self.states or '/nowhere')} 2>/dev/null && echo {quote(self.name)}.*.list)\"",
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
        return (self._whole(looked, packing),)

    @property
    def increments(self) -> bool:
        return bool(self.states)

    def begin(self, looked: Looked) -> Command | None:
        return None

    def base(
        self, looked: Looked, packing: Packing, mark: str, begun: Mapping[str, Any]
    ) -> tuple[Stream, ...]:
        return (
            self._whole(looked, packing, f"{self._listing(looked, mark)}; ", self._progress(looked, mark)),
        )

    def increment(
        self, looked: Looked, packing: Packing, mark: str, last: Mapping[str, Any]
    ) -> tuple[Stream, ...]:
        """First the list of all that is there, by which a restore removes what went; then what changed, as a tar."""
        was, now = quote(self._state(last["state"])), quote(self._state(mark))
        listed = self._stream(
            looked, packing, LIST, f"{self._listing(looked, mark)}; cat -- {now}", f"list {self.path}"
        )
        # A time of change that differs is a change as well: what was moved here keeps the time of its content.
        changed = f"LC_ALL=C comm -z -13 -- {was} {now} | sed -z {quote(f's/^{_FIELDS}//')}"
        archive = self._archive(changed, "--no-recursion", "--ignore-failed-read")
        script = f"cd {quote(looked.facts['path'])} || exit 1; {archive}{self._progress(looked, mark)}"
        return listed, self._stream(looked, packing, PART, script, f"tar what changed in {self.path}")

    def trouble(self, looked: Looked, last: Mapping[str, Any]) -> str | None:
        if "state" not in last:
            return "the last full backup was taken without increments"
        if last["of"] != self._of(looked):
            return "its path or its globs are others than in the last backup"
        if f"{self.name}.{last['state']}.list" not in looked.facts["states"].split(" "):
            return f"{self._state(last['state'])} is gone, which says what the last backup holds"
        return None

    def settled(self, looked: Looked, now: Mapping[str, Any]) -> Command:
        kept, states = quote(self._state(now["state"])), f"{quote(self.states)}/{quote(self.name)}"
        return self._command(
            f'for p in {states}.{_RUN}.list; do [ "$p" = {kept} ] || rm -f -- "$p"; done',
            f"remove what earlier increments of {self.path} went by",
        )

    def _state(self, mark: str) -> str:
        return f"{self.states}/{self.name}.{mark}.list"

    def _of(self, looked: Looked) -> list[list[str]]:
        """What an increment must have in common with what it builds on."""
        return [[looked.facts["path"]], list(self.include), list(self.exclude)]

    def _progress(self, looked: Looked, mark: str) -> str:
        progress = json.dumps({"state": mark, "of": self._of(looked)})
        return f"; printf '%s\\n' {quote(PROGRESS + progress)} >&2"

    def _listing(self, looked: Looked, mark: str) -> str:
        """Return shell that writes down what is there: type, inode, size, times, path; sorted, so that two can be compared."""
        wanted = f"\\( -type d -o {_matching(self.include)} \\)" if self.include else ""
        unwanted = f"! \\( {_matching(self.exclude)} \\)" if self.exclude else ""
        return (
            f"mkdir -p -m 700 -- {quote(self.states)} && cd {quote(looked.facts['path'])} || exit 1; _ops_l=$( {{ {{ "
            f"find . -ignore_readdir_race {wanted} {unwanted} -printf '%y %i %s %T@ %C@ %p\\0' || echo find >&7; }} | "
            f'LC_ALL=C sort -z > {quote(self._state(mark))} || echo sort >&7; }} 7>&1 ); [ -z "$_ops_l" ] || exit 1'
        )

    def _whole(self, looked: Looked, packing: Packing, prepare: str = "", told: str = "") -> Stream:
        # With globs all folders go along, so that each comes back with its owner and mode.
        wanted = f"-ignore_readdir_race \\( -type d -o {_matching(self.include)} \\)"
        listing = f"find . {wanted} -print0" if self.include else "printf '.\\0'"
        archive = self._archive(listing, "--no-recursion" if self.include else "--sort=name")
        script = f"{prepare}cd {quote(looked.facts['path'])} || exit 1; {archive}{told}"
        return self._stream(looked, packing, PART, script, f"tar {self.path}")

    def _archive(self, listing: str, *options: str) -> str:
        """Return shell that writes a tar of what a listing names, and tells how many members it has."""
        taking = (
            "tar",
            "--create",
            "--file=-",
            _RECORDS,
            "--format=posix",
            "--numeric-owner",
            "--sparse",
            "--acls",
            "--xattrs",
        )
        tar = quote_all(
            (
                *taking,
                *("--verbose", "--index-file=/dev/fd/5", "--anchored"),
                *(f"--exclude=./{glob}" for glob in self.exclude),
                *("--null", *options, "--files-from=-"),
            )
        )
        # tar goes to 4, its list of members through 3 to be counted, the statuses to 7, what it says through 6: of what is
        # listed and went, it is no failure, and of what cannot be read it is one. tar's status 1 is no failure: the
        # archive is whole, and something in it changed while it was read. Each line goes out by itself, or the number of
        # members would stand in the middle of one.
        unread = "{ print; fflush() } /: Warning: Cannot / && !/No such file or directory$/ { bad = 1 } END { exit bad }"
        return (
            f"export LC_ALL=C; exec 4>&1; _ops_t=$( {{ {{ {{ {{ {listing} || echo listing >&7; }} | "
            f"{tar} 5>&3 >&4 2>&6; echo $? >&7; }} 3>&1 | printf '{_MEMBERS}%s\\n' \"$(wc -l)\" >&2; }} 6>&1 | "
            f"awk {quote(unread)} >&2 || echo unread >&7; }} 7>&1 ); case $_ops_t in 0|1) ;; *) exit 1 ;; esac"
        )

    def _stream(self, looked: Looked, packing: Packing, part: str, script: str, title: str) -> Stream:
        if not looked.there:
            raise FailedUnchanged(
                f"datastore {self.name}: there is no folder {self.path}", target=self.server
            )
        where = chosen(packing, engine=False, server=looked.server)
        body = through_zstd(script, packing) if where == "server" else script
        ending = "tar" if part == PART else part
        return Stream(
            part,
            Command(body, timeout=None, title=title),
            ending if where == "none" else f"{ending}.zst",
            where,
        )

    def details_of(self, looked: Looked) -> Mapping[str, Any]:
        return {"include": list(self.include), "exclude": list(self.exclude)}

    def reading(self, details: Mapping[str, Any], part: str) -> Command | None:
        if part == LIST:
            return None
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
            f"rm -rf -- {stale} {stale}.list*; mkdir -p -- {quote(live)} && mkdir -m 700 -- {quote(new)} || exit 1; "
            f'[ "$(stat -c %d -- {quote(live)})" = "$(stat -c %d -- {quote(new)})" ] || '
            f"{{ rmdir -- {quote(new)}; echo 'the folder is a filesystem of its own: name one in it, or its parent' >&2; exit 1; }}",
            "make a folder beside the live one",
        )

    def incoming(self, details: Mapping[str, Any], looked: Looked, tag: str) -> tuple[Incoming, ...]:
        new = self._place(looked, "new", tag)
        expected = quote(f"{new}.list.expected")

        def unlisted(part: str) -> Incoming:
            """What is there and not on the list went, or is of another type now."""
            script = (
                f"cd {quote(new)} || exit 1; _ops_x=$( {{ {{ sed -z {quote(f's/^{_FIELDS}/{_TYPE}/')} | LC_ALL=C sort -z; }} > {expected} || "
                "echo list >&7; "
                f"{{ find . -mindepth 1 -printf '%y %p\\0' || echo find >&7; }} | LC_ALL=C sort -z | LC_ALL=C comm -z -23 - {expected} | "
                "sed -z 's/^. //' | xargs -0 -r rm -rf -- || echo rm >&7; } 7>&1 ); [ -z \"$_ops_x\" ]"
            )
            command = Command(script, changes="files", timeout=None, title=f"remove what went of {self.path}")
            return Incoming(part, command)

        def untar(part: str) -> Incoming:
            script = (
                f"printf '%s\\n' {quote(_NAMED + json.dumps(part))} >> {quote(f'{new}.list')} && "
                f"cd {quote(new)} && tar --extract --file=- {_RECORDS} --same-permissions --same-owner --numeric-owner "
                f"--acls --xattrs --verbose >> {quote(f'{new}.list')}"
            )
            command = Command(script, changes="files", timeout=None, title=f"untar beside {self.path}")
            return Incoming(part, command)

        return tuple(
            unlisted(part) if part.partition("@")[0] == LIST else untar(part)
            for part in details.get("chain", [PART])
        )

    def count(self, details: Mapping[str, Any], looked: Looked, tag: str) -> Command:
        members = quote(self._place(looked, "new", tag) + ".list")
        counting = (
            f"/^{_NAMED}/ {{ tell(); n = 0; seen = 1; print; next }} /^[.][/]/ {{ n++ }} END {{ tell() }} "
            f'function tell() {{ if (seen) print "{_MEMBERS}" n + 0 }}'
        )
        return Command(f"LC_ALL=C awk {quote(counting)} {members}", title=f"count what is beside {self.path}")

    def counted(self, text: str) -> Counts:
        parts = re.split(rf"^{_NAMED}(.*)$", text, flags=re.MULTILINE)
        return {
            json.loads(name): self.counts_of(told)
            for name, told in zip(parts[1::2], parts[2::2], strict=True)
        }

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
            f"mv -T -- {half} {quote(old)} || {undo}; rm -rf -- {quote(new)} {quote(new + '.list')}*",
            f"swap what is in {self.path}",
        )

    def swap_back(self, details: Mapping[str, Any], looked: Looked, tag: str) -> Command:
        live, new, old = (
            looked.facts["path"],
            self._place(looked, "new", tag),
            self._place(looked, "old", tag),
        )
        return self._command(f"{alone(live)}{_back(live, new, old)}", f"swap back what was in {self.path}")

    def lost(self, details: Mapping[str, Any], looked: Looked, tag: str) -> Command:
        old = self._place(looked, "old", tag)
        return Command(unless_kept(old, old), title=f"look for what was in {self.path}")

    def forget(self, details: Mapping[str, Any], looked: Looked, tag: str) -> Command:
        kept, old = quote(self._place(looked, "old", tag)), f"{quote(looked.facts['path'])}.ops-old-{TAG}"
        return self._command(
            f'for p in {old}; do [ "$p" = {kept} ] || rm -rf -- "$p"; done',
            f"remove what earlier restores kept of {self.path}",
        )

    def discard(self, details: Mapping[str, Any], looked: Looked, tag: str) -> Command:
        new = self._place(looked, "new", tag)
        return self._command(
            f"rm -rf -- {quote(new)} {quote(new + '.list')}*", f"remove what is beside {self.path}"
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
    # Of folders only empty ones that were excluded: the others come with what is in them, or were in the backup.
    kept = (
        include and f"! -type d ! \\( {include} \\)",
        exclude and f"\\( ! -type d -o -empty \\) \\( {exclude} \\)",
    )
    left_out = " -o ".join(part for part in kept if part)
    if not left_out:
        return ""
    return (
        f"cd {quote(live)} || exit 1; _ops_k=$( {{ {{ find . -ignore_readdir_race \\( {left_out} \\) -print0 || echo find >&7; }} | "
        f'xargs -0 -r cp -al --parents -t {quote(new)} -- || echo cp >&7; }} 7>&1 >&2 ); [ -z "$_ops_k" ] || exit 1; cd /; '
    )


def _matching(globs: Sequence[str]) -> str:
    """Return the test of `find` for what globs match, and all below it."""
    return " -o ".join(f"-path {quote(f'./{glob}{below}')}" for glob in globs for below in ("", "/*"))

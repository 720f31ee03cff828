"""Files: a folder on a server as a tar."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ops.commands import Command, quote, quote_all
from ops.datastores.base import Incoming, Looked, Packing, Stream, chosen, read_lines
from ops.datastores.shell import through_zstd

__all__ = ["Files"]

PART = "files"
_MEMBERS = "ops-members "
# What tar says when a file was written to or went away under its hands: GNU tar's exit status is then 1.
_CHANGED = re.compile(r"tar: (.+: (?:file changed as we read it|File removed before we read it))")


@dataclass(frozen=True)
class Files:
    """A folder; `include` and `exclude` are globs relative to it, in which `*` matches `/` too, as in GNU tar."""

    server: str
    path: str
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        return "files"

    def look(self) -> Command:
        return Command(
            f"cd {quote(self.path)} || exit 1; command -v zstd >/dev/null && printf 'zstd\\tyes\\n'; "
            "tar --version | grep -q GNU || { echo 'GNU tar is needed here' >&2; exit 1; }; "
            "printf 'tar\\t%s\\n' \"$(tar --version | head -n 1)\"",
            title=f"look at {self.path}",
        )

    def read(self, text: str) -> Looked:
        said = read_lines(text)
        return Looked(versions={"tar": said["tar"].rpartition(" ")[2]}, engine=False, server="zstd" in said)

    def streams(self, looked: Looked, packing: Packing, mark: str) -> tuple[Stream, ...]:
        where = chosen(packing, engine=False, server=looked.server)
        tar = quote_all(
            (
                *(
                    "tar",
                    "--create",
                    "--file=-",
                    "--format=posix",
                    "--numeric-owner",
                    "--sparse",
                    "--acls",
                    "--xattrs",
                ),
                *("--verbose", "--index-file=/dev/fd/5", "--anchored"),
                *(f"--exclude=./{glob}" for glob in self.exclude),
                *("--null", "--no-recursion" if self.include else "--sort=name", "--files-from=-"),
            )
        )
        wanted = _matching(self.include)
        listing = f"find . \\( {wanted} \\) -print0" if wanted else "printf '.\\0'"
        # tar goes to 4, its list of members through 3 to be counted, its status to 7. Status 1 is no failure: the
        # archive is whole, and something in it changed while it was read.
        script = (
            f"cd {quote(self.path)} || exit 1; export LC_ALL=C; exec 4>&1; "
            f"_ops_t=$( {{ {{ {listing} | {tar} 5>&3 >&4; echo $? >&7; }} 3>&1 | "
            f'printf \'{_MEMBERS}%s\\n\' "$(wc -l)" >&2; }} 7>&1 ); [ "$_ops_t" -le 1 ]'
        )
        body = through_zstd(script, packing) if where == "server" else script
        ending = "tar" if where == "none" else "tar.zst"
        return (Stream(PART, Command(body, timeout=None, title=f"tar {self.path}"), ending, where),)

    def details_of(self, looked: Looked) -> Mapping[str, Any]:
        return {"include": list(self.include), "exclude": list(self.exclude)}

    def beside(self, details: Mapping[str, Any], looked: Looked, tag: str) -> Command:
        new = self._place("new", tag)
        return self._command(
            f"rm -rf -- {quote(self._place('new', ''))}*; mkdir -p -- {quote(self.path)} && mkdir -m 700 -- {quote(new)}",
            "make a folder beside the live one",
        )

    def incoming(self, details: Mapping[str, Any], looked: Looked, tag: str) -> tuple[Incoming, ...]:
        new = self._place("new", tag)
        # The list of members, whose lines are the count, goes to stdout; tar itself reads the archive from stdin.
        script = (
            f"cd {quote(new)} && tar --extract --file=- --same-permissions --same-owner --numeric-owner --acls --xattrs "
            f"--verbose > {quote(f'{new}.list')}"
        )
        return (
            Incoming(PART, Command(script, changes="files", timeout=None, title=f"untar beside {self.path}")),
        )

    def count(self, details: Mapping[str, Any], looked: Looked, tag: str) -> Command:
        return Command(
            f"printf '{_MEMBERS}%s\\n' \"$(wc -l < {quote(self._place('new', tag) + '.list')})\"",
            title=f"count what is beside {self.path}",
        )

    def counted(self, text: str) -> Mapping[str, Mapping[str, int]]:
        return {PART: self.counts_of(text)}

    def swap(self, details: Mapping[str, Any], looked: Looked, tag: str) -> Command:
        """What lies in the folder moves, not the folder itself: a container has it mounted.

        What the backup left out by its globs is linked into the new tree, so that it stays.
        """
        new, old, live = self._place("new", tag), self._place("old", tag), self.path
        # With `include`, the folder itself is not in the backup.
        attributes = "".join(
            f"{tool} --reference={quote(new)} -- {quote(live)}; "
            for tool in ("chown", "chmod")
            if not details["include"]
        )
        back = f"{{ {_move(old, live)}; rmdir -- {quote(old)}; exit 1; }}"
        return self._command(
            f"{_keep(live, new, details)}mkdir -m 700 -- {quote(old)} || exit 1; "
            f"{_move(live, old)} || {back}; {_move(new, live)} || {{ {_move(live, new)}; {back}; }}; "
            f"{attributes}"
            f"rm -rf -- {quote(new)} {quote(new + '.list')}",
            f"swap what is in {self.path}",
        )

    def swap_back(self, details: Mapping[str, Any], looked: Looked, tag: str) -> Command:
        new, old, live = self._place("new", tag), self._place("old", tag), self.path
        return self._command(
            f"[ -d {quote(old)} ] || exit 0; mkdir -p -m 700 -- {quote(new)} || exit 1; "
            f"{_move(live, new)} && {_move(old, live)} && rmdir -- {quote(old)}",
            f"swap back what was in {self.path}",
        )

    def forget(self, details: Mapping[str, Any], looked: Looked, tag: str) -> Command:
        old = self._place("old", tag)
        return self._command(
            f'for p in {quote(self._place("old", ""))}*; do [ "$p" = {quote(old)} ] || rm -rf -- "$p"; done',
            f"remove what earlier restores kept of {self.path}",
        )

    def discard(self, details: Mapping[str, Any], looked: Looked, tag: str) -> Command:
        new = self._place("new", tag)
        return self._command(
            f"rm -rf -- {quote(new)} {quote(new + '.list')}", f"remove what is beside {self.path}"
        )

    def _place(self, word: str, tag: str) -> str:
        return f"{self.path.rstrip('/')}.ops-{word}-{tag}"

    def _command(self, script: str, title: str) -> Command:
        return Command(script, changes="files", timeout=600, title=title)

    def counts_of(self, told: str) -> Mapping[str, int]:
        found = re.findall(rf"^{_MEMBERS}(\d+)$", told, re.MULTILINE)
        return {"members": int(found[-1])} if found else {}

    def warnings_of(self, told: str) -> tuple[str, ...]:
        return tuple(_CHANGED.findall(told))


def _move(source: str, target: str) -> str:
    return f"find {quote(source)} -mindepth 1 -maxdepth 1 -exec mv -t {quote(target)} -- {{}} +"


def _keep(live: str, new: str, details: Mapping[str, Any]) -> str:
    """Return shell that links into a new tree what the globs of a backup left out of it."""
    include, exclude = _matching(details["include"]), _matching(details["exclude"])
    left_out = " -o ".join(part for part in (include and f"! \\( {include} \\)", exclude) if part)
    if not left_out:
        return ""
    return (
        f"cd {quote(live)} && find . ! -type d \\( {left_out} \\) -print0 | "
        f"xargs -0 -r cp -al --parents -t {quote(new)} -- || exit 1; cd /; "
    )


def _matching(globs: Sequence[str]) -> str:
    """Return the test of `find` for what globs match, and all below it."""
    return " -o ".join(f"-path {quote(f'./{glob}{below}')}" for glob in globs for below in ("", "/*"))

"""Qdrant: a snapshot of each collection through its HTTP API, and on the way back a recovery into the live name.

A collection cannot be renamed, and an alias cannot bear the name of one. So what was restored beside, and counted there, is
recovered into the live name from a snapshot of its own; the one of what was live, taken just before, is what an undo
recovers. That leaves all names as they are, and one call for each collection in which it is not whole. Snapshots on
Qdrant's disk outlive their collection.

A file on the server says how far a swap came: `.part`, snapshots of what is live are being taken, and nothing else has
been done; `.half`, some collections are recovered; no ending, all of them are.

How many points a snapshot holds, nothing tells. They are counted before and behind it, and count where both are the same.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote as percent

from ops.commands import Command, quote
from ops.datastores.base import LOST, Counts, Incoming, Looked, Packing, Scratch, Stream, chosen, read_lines
from ops.datastores.shell import TAG, alone, finding, through_zstd, thrown_away
from ops.errors import FailedUnchanged, UsageError

__all__ = ["Qdrant"]

_COUNT, _UNSETTLED = "ops-count ", "ops-unsettled "
_PLACE = re.compile(r"ops-new-\d{8}t\d{6}z[0-9a-f]{4}-\d+")
# The key comes from the container and reaches curl on its stdin, with all else: no argument of any process has it.
_REACH = (
    "command -v curl >/dev/null || { echo 'curl is needed here to talk to Qdrant' >&2; exit 1; }; "
    'had() { docker inspect -f \'{{range .Config.Env}}{{println .}}{{end}}\' "$c" | sed -n "s/^$1=//p"; }; '
    "key=$(had QDRANT__SERVICE__API_KEY | sed 's/[\\\\\"]/\\\\&/g'); port=$(had QDRANT__SERVICE__HTTP_PORT); "
    "kept=$(had QDRANT__STORAGE__SNAPSHOTS_PATH); kept=${kept:-./snapshots}; "
    'case $kept in /*) ;; *) kept=$(docker inspect -f {{.Config.WorkingDir}} "$c")/${kept#./} ;; esac; '
    "at=$(docker inspect -f '{{range .NetworkSettings.Networks}}{{println .IPAddress}}{{end}}' \"$c\" | grep -m 1 .); "
    "at=http://${at:-127.0.0.1}:${port:-6333}; "
    'said() { printf \'header = "api-key: %s"\\nurl = "%s%s"\\n\' "$key" "$at" "$1"; }; '
    "fetch() { curl -sS --noproxy '*' -K - \"$@\"; }; "
    # api METHOD PATH [BODY, with \" for each quote]: what Qdrant answers, or a failure with what it says.
    'api() { r=$({ said "$2"; printf \'request = "%s"\\nheader = "content-type: application/json"\\n\' "$1"; '
    '[ -z "$3" ] || printf \'data-binary = "%s"\\n\' "$3"; } | fetch -w "\\n%{http_code}") || return 1; s=${r##*\n}; '
    "case $s in 2??) printf '%s\\n' \"${r%\n*}\" ;; "
    '*) printf \'qdrant: %s %s: %s %s\\n\' "$1" "$2" "$s" "${r%\n*}" >&2; return 1 ;; esac; }; '
    # snap COLLECTION: take a snapshot; print what stands in its name behind the collection's, and its SHA-256.
    'snap() { r=$(api POST "/collections/$1/snapshots?wait=true") || return 1; printf \'%s\\n\' "$r" | '
    'sed -n \'s/.*"name":"[^"]*\\(-[0-9][0-9]*-[0-9]\\{4\\}\\(-[0-9][0-9]\\)\\{5\\}\\.snapshot\\)".*"checksum":"\\([0-9a-f]*\\)".*/\\1 \\3/p\' | grep .; }; '
    'unsnap() { api DELETE "/collections/$1/snapshots/$1$2" >/dev/null; }; '
    'points() { r=$(api POST "/collections/$1/points/count" "{\\\\\\"exact\\\\\\":true}") || return 1; '
    "printf '%s\\n' \"$r\" | sed -n 's/.*\"count\":\\([0-9]*\\).*/\\1/p' | grep .; }; "
    # The place beside, and the snapshots of it.
    'gone() { for o in $(api GET "/collections/$1/snapshots" 2>/dev/null | grep -o \'"name":"[^"]*"\' | cut -d \\" -f 4); do '
    'api DELETE "/collections/$1/snapshots/$o" >/dev/null; done; api DELETE "/collections/$1" >/dev/null; }; '
)
# recover COLLECTION SOURCE SUFFIX. Where the live one has other vectors, it has to go first: its snapshot stays.
_RECOVER = (
    'into() { api PUT "/collections/$1/snapshots/recover?wait=true" '
    '"{\\\\\\"location\\\\\\":\\\\\\"file://$kept/$2/$2$3\\\\\\",\\\\\\"priority\\\\\\":\\\\\\"snapshot\\\\\\"}"; }; '
    'recover() { e=$(into "$@" 2>&1) && return; case $e in *"not compatible"*) '
    'api DELETE "/collections/$1" >/dev/null && into "$@" >/dev/null ;; *) printf \'%s\\n\' "$e" >&2; return 1 ;; esac; }; '
)


@dataclass(frozen=True)
class Qdrant:
    """A Qdrant server in a container of a compose project; `folder` is one of the server's that all runs have in common."""

    name: str
    project: str
    service: str
    server: str
    folder: str

    @property
    def kind(self) -> str:
        return "qdrant"

    def look(self) -> Command:
        asked = {"version": "/", "collections": "/collections", "aliases": "/aliases", "cluster": "/cluster"}
        lines = "; ".join(
            f"r=$(api GET {path}) || exit 1; printf '{key}\\t%s\\n' \"$r\"" for key, path in asked.items()
        )
        return Command(
            f"{finding(self.project, self.service)}{_REACH}command -v zstd >/dev/null && printf 'zstd\\tyes\\n'; "
            "docker inspect -f 'container\t{{.Id}}\nimage\t{{.Config.Image}}' \"$c\" || exit 1; "
            f"{lines}",
            title=f"look at {self.service}: collections, version",
        )

    def read(self, text: str) -> Looked:
        said = read_lines(text)
        result = {key: json.loads(said[key])["result"] for key in ("collections", "aliases", "cluster")}
        names = sorted(one["name"] for one in result["collections"]["collections"])
        aliases = {one["alias_name"]: one["collection_name"] for one in result["aliases"]["aliases"]}
        return Looked(
            versions={"qdrant": json.loads(said["version"])["version"]},
            engine=False,
            server="zstd" in said,
            facts={
                "container": said["container"],
                "image": said["image"],
                "collections": json.dumps([name for name in names if not _PLACE.fullmatch(name)]),
                "aliases": json.dumps(aliases),
                "peers": str(len(result["cluster"].get("peers", ()))),
            },
        )

    def details_of(self, looked: Looked) -> Mapping[str, Any]:
        return {
            "image": looked.facts["image"],
            "collections": json.loads(looked.facts["collections"]),
            "aliases": json.loads(looked.facts["aliases"]),
        }

    def streams(self, looked: Looked, packing: Packing, mark: str) -> tuple[Stream, ...]:
        if (reason := self._refused(looked)) is not None:
            raise FailedUnchanged(f"datastore {self.name}: {reason}", target=self.server)
        return tuple(self._stream(name, looked, packing) for name in self.details_of(looked)["collections"])

    def counts_of(self, told: str) -> Mapping[str, int]:
        return dict(self.counted(told).get("", {}))

    def warnings_of(self, told: str) -> tuple[str, ...]:
        names = [line.removeprefix(_UNSETTLED) for line in told.split("\n") if line.startswith(_UNSETTLED)]
        return tuple(
            f"{name} was written to while its snapshot was taken: its points are not counted"
            for name in names
        )

    def reading(self, details: Mapping[str, Any], part: str) -> Command | None:
        # A snapshot is a tar; what its files mean, only a server tells.
        return Command("tar --list --file=- >/dev/null", timeout=None, title="tar --list")

    def scratch(self, details: Mapping[str, Any], tag: str, folder: str) -> Scratch:
        name, project = f"opsbook-scratch-{tag}-{self.name}", f"{self.project}-scratch-{tag}"
        address = f"$(docker inspect -f {{{{.NetworkSettings.IPAddress}}}} {quote(name)})"
        ready = f'curl -sf --noproxy "*" "http://{address}:6333/collections" >/dev/null'
        # It is talked to through its address, which no container without a network has.
        hold = thrown_away(details, name, project, self.service, ready, options="")
        return Scratch(replace(self, project=project), hold)

    def narrowed(
        self, details: Mapping[str, Any], counts: Counts, wanted: Collection[str]
    ) -> tuple[Mapping[str, Any], Counts]:
        names = details["collections"]
        if unknown := [name for name in wanted if name not in names]:
            raise UsageError(f"{self.name} holds no collection {unknown[0]!r}; it holds: {', '.join(names)}")
        kept = {
            **details,
            "collections": [name for name in names if name in wanted],
            "aliases": {alias: to for alias, to in details["aliases"].items() if to in wanted},
        }
        return kept, {name: rows for name, rows in counts.items() if name in wanted}

    def beside(self, details: Mapping[str, Any], looked: Looked, tag: str) -> Command:
        if (reason := self._refused(looked)) is not None:
            return self._command(f"echo {quote(reason)} >&2; exit 1", "make room beside", looked)
        script = (
            f'for p in {self._record("")}{TAG}.half; do [ ! -e "$p" ] || '
            "{ echo 'the swap of an earlier restore was cut off: inv restore.undo first' >&2; exit 1; }; done; "
            f"r=$(api GET /collections) || exit 1; for n in $(printf '%s\\n' \"$r\" | grep -o {quote(f'ops-new-{TAG}-[0-9]*')}); "
            'do gone "$n"; done'
        )
        return self._command(script, "remove what is left beside the collections", looked)

    def incoming(self, details: Mapping[str, Any], looked: Looked, tag: str) -> tuple[Incoming, ...]:
        return tuple(
            Incoming(name, self._upload(name, place, looked)) for name, place in _places(details, tag).items()
        )

    def count(self, details: Mapping[str, Any], looked: Looked, tag: str) -> Command:
        counted = "; ".join(
            f"n=$(points {place}) || exit 1; printf '{_COUNT}%s %s\\n' \"$n\" {quote(name)}"
            for name, place in _places(details, tag).items()
        )
        return self._command(
            counted or "true", f"count what is beside the collections of {self.service}", looked
        )

    def counted(self, text: str) -> Counts:
        found = re.findall(rf"^{_COUNT}(\d+) ?(.*)$", text, re.MULTILINE)
        return {name: {"points": int(count)} for count, name in found}

    def swap(self, details: Mapping[str, Any], looked: Looked, tag: str) -> Command:
        now = json.loads(looked.facts["aliases"])
        record, then = quote(self._record(tag)), details["aliases"]
        # An alias of a restored collection that the backup does not know is of a later day.
        gone = [alias for alias, to in now.items() if alias in then or to in details["collections"]]
        undo = _aliases(list(then), {alias: now[alias] for alias in gone})
        live = json.loads(looked.facts["collections"])
        keeping = []
        for name, place in _places(details, tag).items():
            taken = f"k=$(snap {_path(name)})" if name in live else "k=-"
            keeping.append(
                f'{taken} && n=$(snap {place}) && printf \'%s %s %s %s\\n\' {_path(name)} {place} "${{n% *}}" "${{k% *}}" >> {record}.part'
            )
        kept = " && ".join(keeping) or "true"
        places = " ".join(_places(details, tag).values())
        script = (
            f"{alone(self.folder)}{_RECOVER}printf '%s\\n' {quote(undo)} > {record}.part && {kept} || "
            f"{{ {self._unkeep(f'{record}.part')}; exit 1; }}; mv {record}.part {record}.half || exit 1; "
            f'{{ tail -n +2 {record}.half | {{ f=; while read -r live place new old; do recover "$live" "$place" "$new" || f=yes; done; '
            f'[ -z "$f" ]; }}; }} && {_switch(_aliases(gone, then))} && mv {record}.half {record} || {{ {self._back(tag)}; exit 1; }}; '
            f'for n in {places}; do gone "$n"; done'
        )
        return self._command(script, f"recover the collections of {self.service}", looked)

    def swap_back(self, details: Mapping[str, Any], looked: Looked, tag: str) -> Command:
        script = f"{alone(self.folder)}{_RECOVER}{self._back(tag)}"
        return self._command(script, f"recover what was live of {self.service}", looked)

    def lost(self, details: Mapping[str, Any], looked: Looked, tag: str) -> Command:
        """Snapshots of a collection that is gone itself are on no list, and may be on the disk: they are not told."""
        record = self._record(tag)
        script = (
            f"[ -e {quote(record)} ] || {{ printf '%s\\n' {quote(f'{LOST}{record}')}; exit 0; }}; "
            f"tail -n +2 {quote(record)} | while read -r live place new old; do "
            '[ "$old" != - ] && r=$(api GET "/collections/$live/snapshots" 2>/dev/null) || continue; '
            f'case $r in *"$old"*) ;; *) printf \'{LOST}snapshot %s%s\\n\' "$live" "$old" ;; esac; done'
        )
        return Command(
            f"c={quote(looked.facts['container'])}; {_REACH}{script}",
            title=f"look for the snapshots of what was live in {self.service}",
        )

    def forget(self, details: Mapping[str, Any], looked: Looked, tag: str) -> Command:
        own = self._unkeep('"$p"')
        script = (
            f'for p in {self._record("")}{TAG}; do [ -e "$p" ] && [ "$p" != {quote(self._record(tag))} ] || continue; '
            f"{own}; done"
        )
        return self._command(script, f"remove what earlier restores kept of {self.service}", looked)

    def discard(self, details: Mapping[str, Any], looked: Looked, tag: str) -> Command:
        places = " ".join(_places(details, tag).values())
        script = f'for n in {places}; do gone "$n"; done'
        return self._command(script, f"remove what is beside the collections of {self.service}", looked)

    def _stream(self, name: str, looked: Looked, packing: Packing) -> Stream:
        where = chosen(packing, engine=False, server=looked.server)
        path, left = _path(name), quote(f"{self.folder}/qdrant-{self.name}.snapshots")
        # What a run that was killed left on Qdrant's disk stands in a file, and goes now.
        script = (
            f'{_REACH}[ ! -e {left} ] || {{ while read -r n s; do unsnap "$n" "$s"; done < {left}; rm -f {left}; }} 2>/dev/null; '
            f"b=$(points {path}) && t=$(snap {path}) && a=$(points {path}) || exit 1; w=${{t#* }}; t=${{t% *}}; "
            f"printf '%s %s\\n' {path} \"$t\" > {left}; "
            f"drop() {{ e=$?; unsnap {path} \"$t\"; rm -f {left}; exit $e; }}; trap drop EXIT; trap 'exit 143' TERM INT HUP PIPE; "
            f'if [ "$a" = "$b" ]; then printf \'{_COUNT}%s\\n\' "$a"; else printf \'{_UNSETTLED}%s\\n\' {quote(name)}; fi >&2; '
            f'exec 4>&1; got=$( {{ {{ {{ said "/collections/{path}/snapshots/{path}$t" | fetch -f || echo failed >&5; }} | '
            "tee /dev/fd/3 | sha256sum >&5; } 3>&1 | cat >&4; } 5>&1 ); "
            '[ "${got%% *}" = "$w" ] || { echo "the snapshot that came is not the one that was taken: $got, not $w" >&2; exit 1; }'
        )
        body = through_zstd(script, packing) if where == "server" else script
        ending = "snapshot" if where == "none" else "snapshot.zst"
        return Stream(
            name,
            Command(
                f"c={quote(looked.facts['container'])}; {body}",
                timeout=None,
                title=f"snapshot of {name} of {self.service}",
            ),
            f"{percent(name, safe='')}.{ending}",
            where,
        )

    def _upload(self, name: str, place: str, looked: Looked) -> Command:
        # Of a file that is no regular one, curl sends what it reads as it comes, and holds nothing; a socket it cannot open.
        script = (
            f"cat | {{ exec 8<&0; r=$(said '/collections/{place}/snapshots/upload?priority=snapshot&wait=true' | "
            "fetch -F 'snapshot=@/dev/fd/8;filename=restored.snapshot' -w '\\n%{http_code}') || exit 1; "
            "case ${r##*\n} in 2??) ;; *) printf 'qdrant: %s\\n' \"$r\" >&2; exit 1 ;; esac; }"
        )
        return self._command(script, f"upload {name} beside those of {self.service}", looked, timeout=None)

    def _back(self, tag: str) -> str:
        """Return shell that undoes a swap from wherever it stands; it may be run again."""
        record = quote(self._record(tag))
        return (
            f"[ ! -e {record} ] || mv {record} {record}.half || exit 1; "
            f"if [ -e {record}.half ]; then tail -n +2 {record}.half | {{ f=; while read -r live place new old; do "
            'if [ "$old" = - ]; then api DELETE "/collections/$live" >/dev/null; else recover "$live" "$live" "$old"; fi || f=yes; done; '
            f'[ -z "$f" ]; }} || exit 1; {_switch(f"$(head -n 1 {record}.half)", literal=False)} || exit 1; '
            f"mv {record}.half {record}.part || exit 1; fi; "
            f"[ ! -e {record}.part ] || {self._unkeep(f'{record}.part')}"
        )

    def _unkeep(self, record: str) -> str:
        """Return shell that removes the snapshots that a record names, and then the record."""
        return (
            f'{{ tail -n +2 {record} | while read -r live place new old; do [ "$old" = - ] || unsnap "$live" "$old"; done; '
            f"rm -f {record}; }} 2>/dev/null"
        )

    def _refused(self, looked: Looked) -> str | None:
        peers = int(looked.facts["peers"])
        return (
            f"{self.service} is one of {peers} nodes: a snapshot holds its own shards alone"
            if peers > 1
            else None
        )

    def _record(self, tag: str) -> str:
        return f"{self.folder}/qdrant-{self.name}-{tag}"

    def _command(self, script: str, title: str, looked: Looked, *, timeout: float | None = 3600) -> Command:
        return Command(
            f"c={quote(looked.facts['container'])}; {_REACH}{script}",
            changes="collections",
            timeout=timeout,
            title=title,
        )


def _places(details: Mapping[str, Any], tag: str) -> dict[str, str]:
    """Return, for each collection of a backup, the name of the one beside it."""
    return {name: f"ops-new-{tag}-{number}" for number, name in enumerate(details["collections"])}


def _path(name: str) -> str:
    """Return a collection's name as it stands in a URL, which is a word of the shell as well."""
    return quote(percent(name, safe=""))


def _aliases(gone: Sequence[str], made: Mapping[str, str]) -> str:
    """Return the body that removes aliases and makes others at once."""
    actions: list[Mapping[str, Any]] = [{"delete_alias": {"alias_name": alias}} for alias in gone]
    actions += [{"create_alias": {"alias_name": alias, "collection_name": to}} for alias, to in made.items()]
    return json.dumps({"actions": actions}, ensure_ascii=False)


def _switch(body: str, *, literal: bool = True) -> str:
    """Return shell that has aliases changed; the body is escaped for curl's configuration."""
    given = quote(body) if literal else f'"{body}"'
    return f"b=$(printf '%s' {given} | sed 's/[\\\\\"]/\\\\&/g') && api POST /collections/aliases \"$b\" >/dev/null"

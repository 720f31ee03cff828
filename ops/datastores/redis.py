"""Redis: the file of a BGSAVE that was asked for, and on the way back a swap of files while the server stands still.

The keys of each database are those of the file itself: behind each "Selecting DB" of redis-check-rdb stands in the file
how many keys follow (redis, rdb.c: RDB_OPCODE_RESIZEDB). The file is read through an open descriptor, so that the next
save, which puts another in its place, changes nothing.

A server with an append-only file reads that alone when it starts, and comes up empty where there is none. So what is
restored becomes the base of an append-only file there: of several parts since Redis 7, with a manifest, else as the
preamble of the only one. While the server stands still, the files move through three names, as those of a folder do:
`ops-old-TAG.part`, some of what was live is in it; `ops-old-TAG.half`, all of it is, and some of the restored is in its
place; `ops-old-TAG`, the swap is done. A container of the same image, without a network, moves them, since nothing runs
in a container that is stopped.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ops.commands import Command, quote
from ops.datastores.base import LOST, Counts, Incoming, Looked, Packing, Scratch, Stream, chosen, read_lines
from ops.datastores.shell import TAG, alone, finding, image_of, inside, through_zstd, thrown_away, unless_kept
from ops.errors import FailedUnchanged, UsageError

__all__ = ["Redis", "counts_in"]

PART = "rdb"
_ASKED = ("dir", "dbfilename", "appendonly", "appendfilename", "appenddirname")
# What the command of the container says of a password: a word of it, or a variable of the container.
_REQUIREPASS = r"""found { print; exit }
$0 == "--requirepass" { found = 1; next }
match($0, /--requirepass[ \t]+/) {
  rest = substr($0, RSTART + RLENGTH); first = substr(rest, 1, 1)
  if (first == "\"" || first == "'") { rest = substr(rest, 2); sub(first ".*", "", rest) } else sub(/[ \t].*/, "", rest)
  print rest; exit
}"""
_PASSING = ("OPS_GIVEN", "OPS_CONF")
# It comes from where the container itself has it, and reaches redis-cli by its environment alone.
_LOGIN = (
    'a=$REDISCLI_AUTH; if [ -z "$a" ]; then case $OPS_GIVEN in '
    '\\$*) n=${OPS_GIVEN#?}; n=${n#\\{}; a=$(printenv "${n%%[!A-Za-z0-9_]*}") ;; *) a=$OPS_GIVEN ;; esac; fi; '
    '[ -n "$a" ] || a=$REDIS_PASSWORD; '
    '[ -n "$a" ] || [ -z "$REDIS_PASSWORD_FILE" ] || a=$(cat "$REDIS_PASSWORD_FILE"); '
    '[ -n "$a" ] || [ -z "$OPS_CONF" ] || '
    'a=$(sed -n \'s/^[ \\t]*requirepass[ \\t]*"\\{0,1\\}\\([^"]*\\)"\\{0,1\\}[ \\t]*$/\\1/p\' "$OPS_CONF" | tail -n 1); '
    'unset OPS_GIVEN OPS_CONF; [ -z "$a" ] || export REDISCLI_AUTH="$a"; '
    "cli() { redis-cli \"$@\" 2>/dev/null | tr -d '\\r'; }; "
    "nap() { sleep 0.2 2>/dev/null || sleep 1; }; "
)
_TELL = (
    't=$(redis-check-rdb "$f") || { printf \'%s\\n\' "$t" | tail -n 3 >&2; exit 1; }; '
    "printf '%s\\n' \"$t\" | sed -n 's/^\\[offset \\([0-9]*\\)\\] Selecting DB ID \\([0-9]*\\)$/\\1 \\2/p' | "
    "while read -r o n; do printf 'ops-db %s %s\\n' \"$n\" "
    '"$(od -An -v -tu1 -j "$o" -N 24 "$f" | tr -s \' \\n\' \' \')"; done; '
    "k=$(printf '%s\\n' \"$t\" | sed -n 's/^\\[info\\] \\([0-9]*\\) keys read$/\\1/p'); "
    "e=$(printf '%s\\n' \"$t\" | sed -n 's/^\\[info\\] \\([0-9]*\\) expires$/\\1/p'); "
    "printf 'ops-keys %s\\n' \"$k\"; "
)
# A second that is past cannot be that of the save that is asked for now: LASTSAVE counts in seconds.
_SAVE = (
    'p() { cli info persistence | sed -n "s/^$1://p"; }; while :; do '
    'while [ "$(p rdb_bgsave_in_progress)" = 1 ] || [ "$(p aof_rewrite_in_progress)" = 1 ]; do nap; done; '
    'last=$(cli lastsave); [ "$last" -ge 0 ] || exit 1; '
    'until [ "$(cli time | head -n 1)" -gt "$last" ]; do nap; done; '
    'said=$(cli bgsave); case $said in *started*) break ;; *"in progress"*) nap ;; '
    '*) echo "BGSAVE: ${said:-no answer}" >&2; exit 1 ;; esac; done; '
    'while [ "$(p rdb_bgsave_in_progress)" = 1 ]; do nap; done; '
    '{ [ "$(p rdb_last_bgsave_status)" = ok ] && [ "$(cli lastsave)" -gt "$last" ]; } || '
    "{ echo 'BGSAVE failed; the log of the container says why' >&2; exit 1; }; "
)


@dataclass(frozen=True)
class Redis:
    """A Redis server in a container of a compose project; `folder` is one of the server's that all runs have in common."""

    name: str
    project: str
    service: str
    server: str
    folder: str

    @property
    def kind(self) -> str:
        return "redis"

    def look(self) -> Command:
        asked = (
            f'{_LOGIN}pong=$(redis-cli ping 2>&1 | tail -n 1); [ "$pong" = PONG ] || '
            '{ echo "redis does not answer: $pong (its password is looked for in REDISCLI_AUTH, --requirepass, REDIS_PASSWORD, '
            'REDIS_PASSWORD_FILE and its configuration file)" >&2; exit 1; }; '
            "cli info | sed -n 's/^\\(redis_version\\|role\\|cluster_enabled\\):\\(.*\\)/\\1\\t\\2/p'; "
            f'for k in {" ".join(_ASKED)}; do printf \'%s\\t%s\\n\' "$k" "$(cli config get "$k" | sed -n 2p)"; done'
        )
        # Of one that stands still, only a swap that was cut off has to be known: where its files are.
        kept = f'find "$@" -xdev -type d -name "ops-old-{TAG}*" 2>/dev/null | head -n 1'
        return Command(
            f"{finding(self.project, self.service, stopped=True)}"
            "command -v zstd >/dev/null && printf 'zstd\\tyes\\n'; "
            "docker inspect -f 'container\t{{.Id}}\nimage\t{{.Config.Image}}\nstate\t{{.State.Status}}\nmounts\t{{json .Mounts}}' \"$c\" || exit 1; "
            'case $(docker inspect -f {{.State.Status}} "$c") in running) '
            f'{_given()}docker exec -e OPS_GIVEN -e OPS_CONF "$c" sh -c {quote(asked)} </dev/null ;; *) '
            'set --; for m in $(docker inspect -f \'{{range .Mounts}}{{println .Destination}}{{end}}\' "$c"); do set -- "$@" "$m"; done; '
            f"[ $# = 0 ] || printf 'kept\\t%s\\n' \"$({_helper(kept, forwarded=True)})\" ;; esac",
            title=f"look at {self.service}: version, files",
        )

    def read(self, text: str) -> Looked:
        said = read_lines(text)
        running = said["state"] == "running"
        folder = said["dir"] if running else said.get("kept", "").rpartition("/")[0]
        mounts = [one["Destination"] for one in json.loads(said["mounts"]) if one["Type"] != "tmpfs"]
        below = any(folder == place or folder.startswith(f"{place.rstrip('/')}/") for place in mounts)
        facts = {key: said.get(key, "") for key in (*_ASKED, "container", "image", "role", "cluster_enabled")}
        facts |= {"dir": folder, "running": "yes" if running else "", "mounted": "yes" if below else ""}
        warning = f"{folder} of {self.service} is in no volume: a restore would refuse to touch it"
        return Looked(
            versions={"redis": said["redis_version"]} if running else {},
            engine=False,
            server="zstd" in said,
            facts=facts,
            warnings=(warning,) if running and not below else (),
            there=running,
        )

    def streams(self, looked: Looked, packing: Packing, mark: str) -> tuple[Stream, ...]:
        if not looked.there:
            raise FailedUnchanged(
                f"datastore {self.name}: service {self.service} does not run", target=self.server
            )
        where = chosen(packing, engine=False, server=looked.server)
        saved = quote(f"{looked.facts['dir']}/{looked.facts['dbfilename']}")
        script = (
            f"{_LOGIN}{_SAVE}exec 7<{saved} || exit 1; f=/proc/self/fd/7; {{ {_TELL} }} >&2 & w=$!; "
            "cat <&7 || exit 1; wait $w"
        )
        body = inside(script, mark, passing=_PASSING)
        if where == "server":
            body = through_zstd(body, packing)
        command = Command(
            f"c={quote(looked.facts['container'])}; {_given()}{body}",
            timeout=None,
            title=f"BGSAVE of {self.service}",
        )
        return (Stream(PART, command, "rdb.zst" if where != "none" else "rdb", where),)

    def counts_of(self, told: str) -> Mapping[str, int]:
        return counts_in(told)

    def details_of(self, looked: Looked) -> Mapping[str, Any]:
        return {"image": looked.facts["image"]}

    def warnings_of(self, told: str) -> tuple[str, ...]:
        return ()

    def reading(self, details: Mapping[str, Any], part: str) -> Command | None:
        script = 'f=$(mktemp) && cat > "$f" || exit 1; t=$(redis-check-rdb "$f" 2>&1) || { echo "$t" | tail -n 3 >&2; exit 1; }'
        return Command(
            f"docker run --rm -i --network none --entrypoint sh {quote(image_of(details))} -c {quote(script)}",
            changes="a throw-away container",
            timeout=None,
            title="redis-check-rdb",
        )

    def scratch(self, details: Mapping[str, Any], tag: str, folder: str) -> Scratch:
        name, project = f"opsbook-scratch-{tag}-{self.name}", f"{self.project}-scratch-{tag}"
        ready = f'[ "$(docker exec {quote(name)} redis-cli ping 2>/dev/null)" = PONG ]'
        options = "--network none --volume /data"
        hold = thrown_away(details, name, project, self.service, ready, options)
        return Scratch(replace(self, project=project), hold)

    def narrowed(
        self, details: Mapping[str, Any], counts: Counts, wanted: Collection[str]
    ) -> tuple[Mapping[str, Any], Counts]:
        raise UsageError(f"{self.name} is one file, which is restored as a whole: --only {self.name}")

    def beside(self, details: Mapping[str, Any], looked: Looked, tag: str) -> Command:
        facts = looked.facts
        refused = (
            (not facts["running"], "does not run: start it first"),
            (facts["role"] == "slave", "is a replica: restore the server that it follows"),
            (facts["cluster_enabled"] == "1", "is a node of a cluster, which cannot be restored one by one"),
            (
                not facts["mounted"],
                f"has {facts['dir']} in no volume: what a restore puts there would be lost",
            ),
        )
        reason = next((text for wrong, text in refused if wrong), None)
        if reason is not None:
            return self._command(
                f"echo {quote(f'{self.service} {reason}')} >&2; exit 1", "make a place beside", looked
            )
        folder, new = quote(facts["dir"]), quote(self._new(looked, tag))
        inner = (
            f" && mkdir -m 700 {quote(self._restored(looked, tag).rpartition('/')[0])}"
            if _parts(facts)
            else ""
        )
        script = (
            f'for p in {folder}/ops-old-{TAG}.part {folder}/ops-old-{TAG}.half; do [ ! -e "$p" ] || '
            "{ echo 'the swap of an earlier restore was cut off: inv restore.undo first' >&2; exit 1; }; done; "
            f"rm -rf {folder}/ops-new-{TAG}; mkdir -m 700 {new}{inner}"
        )
        return self._command(
            f'docker exec "$c" sh -c {quote(script)} </dev/null', "make a place beside the files", looked
        )

    def incoming(self, details: Mapping[str, Any], looked: Looked, tag: str) -> tuple[Incoming, ...]:
        file = quote(self._restored(looked, tag))
        script = f"cat > {file} && {{ sync {file} 2>/dev/null || sync; }}"
        command = Command(
            f"c={quote(looked.facts['container'])}; {inside(script, tag, stdin=True)}",
            changes="files",
            timeout=None,
            title=f"write the RDB file beside those of {self.service}",
        )
        return (Incoming(PART, command),)

    def count(self, details: Mapping[str, Any], looked: Looked, tag: str) -> Command:
        new = self._new(looked, tag)
        script = f'f={quote(self._restored(looked, tag))}; {_TELL} printf \'%s %s\\n\' "$k" "$e" > {quote(new)}/ops-keys'
        return Command(
            f'docker exec "$c" sh -c {quote(script)} </dev/null'.replace(
                '"$c"', quote(looked.facts["container"])
            ),
            changes="files",
            timeout=None,
            title=f"count what is beside {self.service}",
        )

    def counted(self, text: str) -> Counts:
        return {PART: counts_in(text)}

    def swap(self, details: Mapping[str, Any], looked: Looked, tag: str) -> Command:
        facts, new = looked.facts, self._new(looked, tag)
        names = " ".join(quote(name) for name in self._names(looked))
        base = self._restored(looked, tag).rpartition("/")[2]
        listed = quote(f"{new}/{facts['appenddirname']}/{facts['appendfilename']}.manifest")
        line = f"printf 'file %s seq 1 type b\\n' {quote(base)} > {listed} && "
        manifest = line if _parts(facts) else ""
        # What is live has to be on the disk when the server has ended, or there would be nothing to go back to.
        prepare = (
            f"{_LOGIN}[ -f {quote(new)}/ops-keys ] || {{ echo 'there is nothing to swap with' >&2; exit 1; }}; "
            f'{manifest}chown -R "$(stat -c %u:%g {quote(facts["dir"])})" {quote(new)} || exit 1; '
            '[ "$(cli config get appendonly | sed -n 2p)" = yes ] || { '
            '[ -n "$(cli config get save | sed -n 2p)" ] || [ "$(cli config set save "3600 1")" = OK ] || exit 1; '
            "cli config set shutdown-on-sigterm save >/dev/null; }; "
            f"cat {quote(new)}/ops-keys"
        )
        part, half, old = (quote(self._old(looked, tag, ending)) for ending in (".part", ".half", ""))
        move = (
            f"cd {quote(facts['dir'])} && mkdir -m 700 {part} && printf '%s\\n' {names} > {part}/ops-names && "
            f'for n in {names}; do [ ! -e "$n" ] || mv "$n" {part}/ || exit 1; done && mv {part} {half} && '
            f'for n in {names}; do [ ! -e {quote(new)}/"$n" ] || mv {quote(new)}/"$n" ./ || exit 1; done && '
            f'mv {half} {old} && chown "$(stat -c %u:%g .)" {old} && rm -rf {quote(new)}'
        )
        # Where INFO does not tell what was loaded (before 7), it is seen at least that it was not nothing.
        loaded = (
            f"{_LOGIN}l=$(cli info persistence | sed -n 's/^rdb_last_load_keys_loaded://p'); "
            "x=$(cli info persistence | sed -n 's/^rdb_last_load_keys_expired://p'); "
            'if [ -n "$l" ]; then [ $((l + x)) = "$OPS_KEYS" ]; else '
            '[ "$OPS_KEYS" = "$OPS_EXPIRES" ] || [ -n "$(cli info keyspace | sed -n 2p)" ]; fi || '
            '{ echo "the server came up with other keys than were restored (${l:-none} of $OPS_KEYS)" >&2; exit 1; }'
        )
        back = f"{{ {self._back(looked, tag)} exit 1; }}"
        return self._command(
            f"{alone(self.folder)}{_given()}{_WAITING}"
            f'k=$(docker exec -e OPS_GIVEN -e OPS_CONF "$c" sh -c {quote(prepare)} </dev/null) || exit 1; '
            "export OPS_KEYS=${k% *} OPS_EXPIRES=${k#* }; "
            f'{{ {_STOP} && {_helper(move)} && docker start "$c" >/dev/null && answers && '
            f'docker exec -e OPS_GIVEN -e OPS_CONF -e OPS_KEYS -e OPS_EXPIRES "$c" sh -c {quote(loaded)} </dev/null; }} || {back}',
            f"swap the files of {self.service}",
            looked,
        )

    def swap_back(self, details: Mapping[str, Any], looked: Looked, tag: str) -> Command:
        return self._command(
            f"{alone(self.folder)}{_given()}{_WAITING}{self._back(looked, tag)}",
            f"swap back the files of {self.service}",
            looked,
        )

    def lost(self, details: Mapping[str, Any], looked: Looked, tag: str) -> Command:
        old = self._old(looked, tag, "")
        told = f"ops-old-{tag} in the volume of {self.service}"
        # Where its files lie in no volume now, an undo would find nothing either.
        script = (
            _helper(unless_kept(old, told)) if looked.facts["mounted"] else f"echo {quote(f'{LOST}{told}')}"
        )
        return Command(
            f"c={quote(looked.facts['container'])}; {script}",
            title=f"look for the files that {self.service} had",
        )

    def forget(self, details: Mapping[str, Any], looked: Looked, tag: str) -> Command:
        kept, old = quote(self._old(looked, tag, "")), f"{quote(looked.facts['dir'])}/ops-old-{TAG}"
        script = f'for p in {old}; do [ "$p" = {kept} ] || rm -rf "$p"; done'
        return self._command(_helper(script), f"remove what earlier restores kept of {self.service}", looked)

    def discard(self, details: Mapping[str, Any], looked: Looked, tag: str) -> Command:
        script = _helper(f"rm -rf {quote(self._new(looked, tag))}") if looked.facts["mounted"] else "true"
        return self._command(script, f"remove what is beside {self.service}", looked)

    def _back(self, looked: Looked, tag: str) -> str:
        """Return shell that undoes a swap from wherever it stands, and leaves a server that runs; it may be run again."""
        new = quote(self._new(looked, tag))
        part, half, old = (quote(self._old(looked, tag, ending)) for ending in (".part", ".half", ""))
        begin = (
            "docker start \"$c\" >/dev/null && answers || { echo 'redis does not come up' >&2; exit 1; }; "
        )
        if not looked.facts["mounted"]:
            return begin
        away = f'{{ mkdir -p -m 700 {new} && rm -rf {new}/"$n" && mv "$n" {new}/; }}'
        move = (
            f"cd {quote(looked.facts['dir'])} || exit 1; [ ! -d {old} ] || mv {old} {half} || exit 1; "
            f'if [ -d {half} ]; then while read -r n; do [ ! -e "$n" ] || {away} || exit 1; done < {half}/ops-names; '
            f"mv {half} {part} || exit 1; fi; "
            f'if [ -d {part} ]; then rm -f {part}/ops-names; for p in {part}/* {part}/.[!.]*; do [ -e "$p" ] || continue; n=${{p##*/}}; '
            f'[ ! -e "$n" ] || {away} || exit 1; mv "$p" ./ || exit 1; done; rmdir {part}; fi'
        )
        there = f"[ -d {old} ] || [ -d {half} ] || [ -d {part} ]"
        return f'if {_helper(there)}; then docker stop -t 600 "$c" >/dev/null && {_helper(move)} || exit 1; fi; {begin}'

    def _names(self, looked: Looked) -> tuple[str, ...]:
        """Return the names of all that Redis reads when it starts."""
        found = (looked.facts[key] for key in ("dbfilename", "appendfilename", "appenddirname"))
        return tuple(name for name in found if name)

    def _new(self, looked: Looked, tag: str) -> str:
        return f"{looked.facts['dir']}/ops-new-{tag}"

    def _old(self, looked: Looked, tag: str, ending: str) -> str:
        return f"{looked.facts['dir']}/ops-old-{tag}{ending}"

    def _restored(self, looked: Looked, tag: str) -> str:
        """Return where the file is written: under the name that the server reads it by."""
        facts, new = looked.facts, self._new(looked, tag)
        if _parts(facts):
            return f"{new}/{facts['appenddirname']}/{facts['appendfilename']}.1.base.rdb"
        return f"{new}/{facts['appendfilename'] if facts['appendonly'] == 'yes' else facts['dbfilename']}"

    def _command(self, script: str, title: str, looked: Looked) -> Command:
        return Command(
            f"c={quote(looked.facts['container'])}; {script}", changes="files", timeout=3600, title=title
        )


_STOP = (
    'docker stop -t 600 "$c" >/dev/null && { s=$(docker inspect -f {{.State.ExitCode}} "$c"); [ "$s" = 0 ] || '
    '{ echo "redis did not end in order (exit status $s), so nothing is swapped" >&2; false; }; }'
)
_WAITING = (
    'answers() { i=0; until [ "$(docker exec -e OPS_GIVEN -e OPS_CONF "$c" sh -c '
    + quote(f"{_LOGIN}cli ping")
    + ' </dev/null 2>/dev/null)" = PONG ]; do s=$(docker inspect -f {{.State.Status}} "$c"); i=$((i + 1)); '
    '[ "$s" = running ] && [ $i -lt 6000 ] || { echo "redis does not come up: $s" >&2; docker logs --tail 3 "$c" >&2; return 1; }; '
    "sleep 0.1; done; }; "
)


def counts_in(told: str) -> dict[str, int]:
    """Given what was told of an RDB file, return its keys, in all and by database; of the latter only what adds up."""
    whole = re.findall(r"^ops-keys (\d+)$", told, re.MULTILINE)
    if not whole:
        return {}
    found: dict[str, int] = {}
    for line in re.findall(r"^ops-db (\d+ [\d ]+)$", told, re.MULTILINE):
        number, *content = (int(word) for word in line.split())
        if content[:1] == [251]:
            found[f"db {number}"] = _length(content[1:])
    keys = int(whole[-1])
    return {"keys": keys, **(found if sum(found.values()) == keys else {})}


def _length(content: list[int]) -> int:
    """Given the bytes of a length in an RDB file, return it (redis, rdb.c: rdbLoadLenByRef)."""
    first = content[0]
    if first >> 6 == 0:
        return first
    if first >> 6 == 1:
        return (first & 0x3F) << 8 | content[1]
    size = 8 if first == 0x81 else 4
    return int.from_bytes(bytes(content[1 : 1 + size]), "big")


def _parts(facts: Mapping[str, str]) -> bool:
    """Return whether the server has an append-only file of several parts."""
    return facts["appendonly"] == "yes" and bool(facts["appenddirname"])


def _given() -> str:
    """Return shell that sets what the container's command says of a password, to be passed on by name."""
    words = "docker inspect -f '{{range .Config.Entrypoint}}{{println .}}{{end}}{{range .Config.Cmd}}{{println .}}{{end}}' \"$c\""
    return (
        f"OPS_GIVEN=$({words} | awk {quote(_REQUIREPASS)}); "
        f"OPS_CONF=$({words} | grep -m 1 '\\.conf$'); export OPS_GIVEN OPS_CONF; "
    )


def _helper(script: str, *, forwarded: bool = False) -> str:
    """Return shell that runs a script on the volumes of the container `c`, which may stand still."""
    words = ' sh "$@"' if forwarded else ""
    return (
        'docker run --rm --network none --volumes-from "$c" --user 0 --entrypoint sh '
        f'"$(docker inspect -f {{{{.Image}}}} "$c")" -c {quote(script)}{words} </dev/null'
    )

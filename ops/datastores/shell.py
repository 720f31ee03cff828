"""Pieces of shell that dumps are made of."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from ops.commands import Command, quote, quote_all
from ops.datastores.base import LOST, Packing
from ops.errors import UsageError

__all__ = [
    "TAG",
    "alone",
    "ending",
    "finding",
    "held",
    "image_of",
    "inside",
    "labels",
    "out_of_zstd",
    "restoring",
    "store_key",
    "through_zstd",
    "thrown_away",
    "unless_kept",
]

TAG = "[0-9]" * 8 + "t" + "[0-9]" * 6 + "z" + "[0-9a-f]" * 4  # the tag of a restore, as a shell's pattern


def finding(project: str, service: str, *, stopped: bool = False) -> str:
    """Return shell that sets `c` to the id of the service's only running container, or ends with a reason.

    Where none runs, one that is `stopped` may do.
    """
    filters = "".join(f" --filter {quote(f'label={label}')}" for label in labels(project, service))
    asked = f"docker ps -q --no-trunc{filters}"
    otherwise = f'[ -n "$c" ] || c=$({asked} -a) || exit 1; ' if stopped else ""
    return (
        f"c=$({asked} --filter status=running) || exit 1; {otherwise}set -- $c; "
        f'[ $# = 1 ] || {{ echo "service {service} has $# running containers here, not one" >&2; exit 1; }}; '
    )


def labels(project: str, service: str) -> tuple[str, ...]:
    """Return the labels by which a service's container is found."""
    values = (("project", project), ("service", service), ("oneoff", "False"))
    return tuple(f"com.docker.compose.{key}={value}" for key, value in values)


def store_key(store: str) -> str:
    """Return what tells a datastore from others on its server, which are of any stack."""
    return hashlib.sha256(store.encode()).hexdigest()[:6]


def restoring(key: str) -> str:
    """Return the label of containers that a restore of a datastore, by its key, makes for itself."""
    return f"opsbook.restore={key}"


def image_of(details: Mapping[str, Any]) -> str:
    """Return the image that a dump came out of. Raises UsageError where the manifest does not say."""
    image = details.get("image")
    if not image:
        raise UsageError(
            "the backup does not say which image its datastore ran",
            next_step="take a new one: inv backup.full",
        )
    return str(image)


def held(make: str, remove: str, ready: str = "true") -> str:
    """Return shell that makes something, says so once it is ready, and removes it when the shell is ended.

    What removes is in a session of its own: the shell's group may be killed before it is done.
    """
    return (
        f"trap {quote(f'setsid sh -c {quote(remove)} >/dev/null 2>&1 & wait $!')} EXIT; "
        f"trap 'exit 143' TERM INT HUP PIPE; {make} || exit 1; i=0; until {ready}; do "
        'i=$((i+1)); [ $i -le 300 ] || { echo "it is not ready" >&2; exit 1; }; sleep 0.2; done; echo ready; '
        "sleep 2147483647 & wait $!"
    )


def thrown_away(
    details: Mapping[str, Any],
    name: str,
    project: str,
    service: str,
    ready: str,
    options: str = "--network none",
) -> Command:
    """Return the command that holds a container of the image that a dump came out of, found as a service's is.

    `ready` is shell that succeeds once it takes data. Without a network nobody else is there to be trusted.
    """
    image = image_of(details)
    marks = " ".join(f"--label {quote(label)}" for label in labels(project, service))
    make = f"docker run --detach {options} --name {quote(name)} {marks} {quote(image)} >/dev/null"
    return Command(
        held(make, f"docker rm -f -v {quote(name)}", ready),
        changes="a throw-away container",
        timeout=None,
        title=f"docker run {image}",
    )


def unless_kept(place: str, told: str) -> str:
    """Return shell that tells a loss where a folder that a swap kept is there under none of the names that it goes through."""
    there = " || ".join(f"[ -d {quote(place + ending)} ]" for ending in ("", ".half", ".part"))
    return f"{there} || printf '%s\\n' {quote(LOST + told)}"


def alone(folder: str) -> str:
    """Return shell that waits for a swap that is still at work below a folder, as of a run whose connection broke."""
    return f"exec 6<{quote(folder)} && flock -x -w 120 6 || {{ echo 'another swap is at work here' >&2; exit 1; }}; "


def inside(script: str, mark: str, *, stdin: bool = False, passing: tuple[str, ...] = ()) -> str:
    """Return shell that runs a script in the container `c`, and ends what is left of it when it fails or is ended.

    Killing the client of `docker exec` ends nothing in the container: the processes are found by their environment.
    `passing` are the names of variables that it gets along, by name, so that their values are in no argument.
    """
    variables = "".join(f"-e {name} " for name in passing)
    return (
        f'( _ops_end() {{ s=$?; [ $s = 0 ] || docker exec "$c" sh -c {quote(ending(mark))} >/dev/null 2>&1; exit $s; }}; '
        "trap _ops_end EXIT; trap 'exit 143' TERM INT HUP PIPE; "
        f'docker exec {"-i " if stdin else ""}-e OPS_RUN={mark} {variables}"$c" sh -c {quote(script)}{"" if stdin else " </dev/null"} )'
    )


def ending(mark: str) -> str:
    """Return shell that ends what runs with a mark in the container that it is run in.

    Processes without children go first, so that each is waited for by the one that started it: one that a signal
    ended must never become a child of the container's first process. PostgreSQL takes that for a crash of its own
    and ends all sessions (postmaster.c, CleanupBackend).
    """
    return (
        "i=0; while [ $i -lt 100 ]; do m=; for p in /proc/[0-9]*; do "
        f'tr "\\0" "\\n" <"$p/environ" 2>/dev/null | grep -qx OPS_RUN={mark} && m="$m ${{p#/proc/}}"; done; '
        '[ -n "$m" ] || exit 0; '
        'a=" $(for p in $m; do sed -n "s/^PPid:[^0-9]*//p" "/proc/$p/status" 2>/dev/null; done | tr "\\n" " ")"; '
        'for p in $m; do case $a in *" $p "*) ;; *) kill "$p" 2>/dev/null ;; esac; done; '
        "i=$((i + 1)); sleep 0.1 2>/dev/null || sleep 1; done; kill $m"
    )


def through_zstd(script: str, packing: Packing) -> str:
    """Return shell that packs what a script writes, and fails when the script does: sh knows no pipefail."""
    zstd = quote_all(("zstd", "-q", "-c", f"-{packing.level}", f"-T{packing.threads}"))
    return (
        f"exec 8>&1; _ops_z=$( {{ {{ ( {script} ); echo $? >&9; }} | {zstd} >&8 || echo zstd >&9; }} 9>&1 ); "
        '[ "$_ops_z" = 0 ]'
    )


def out_of_zstd(script: str) -> str:
    """Return shell that unpacks its stdin for a script, and fails when either of them does."""
    return (
        f"exec 8<&0; _ops_z=$( {{ {{ zstd -q -d -c <&8 || echo zstd >&9; }} | ( {script} ) >&2 || echo failed >&9; }} 9>&1 ); "
        '[ -z "$_ops_z" ]'
    )

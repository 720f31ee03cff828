"""Backups as text for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.filesize import decimal

from ops.tasks.showing import table

if TYPE_CHECKING:
    from ops.archive.catalog import Catalog, Entry
    from ops.archive.manifest import Manifest, Saved
    from ops.backup.backing_up import BackupPlan, Taken
    from ops.backup.preparing import Prepared
    from ops.backup.pruning import Pruned
    from ops.backup.status import BackupStatus
    from ops.backup.verifying import Looked
    from ops.outcomes import Outcome
    from ops.restore.drilling import Drilled
    from ops.restore.planning import RestorePlan
    from ops.restore.restoring import Restored

_NEXT = "no increment can follow before inv backup.full {}"

__all__ = [
    "catalog_text",
    "drill_plan_text",
    "drilled_text",
    "moment_text",
    "plan_text",
    "prepared_text",
    "pruned_text",
    "restore_plan_text",
    "restored_text",
    "status_text",
    "taken_text",
    "undo_plan_text",
    "undone_text",
    "verified_text",
]


def plan_text(plan: BackupPlan) -> str:
    """Return what a backup would do."""
    rows = [
        [stream.datastore, stream.server, stream.command, f"compressed: {stream.compression}", stream.key]
        for stream in plan.streams
    ]
    article = "An" if plan.kind == "incremental" else "A"
    return f"{article} {plan.kind} backup to {plan.storage} would write:\n{table(rows, '  ')}"


def taken_text(taken: Taken) -> str:
    """Return what a backup came to: one line for each datastore."""
    manifest, outcome = taken.manifest, taken.outcome
    rows = [
        [name, saved.server, decimal(saved.stored), _held(saved)]
        for name, saved in manifest.datastores.items()
    ]
    lines = [
        f"Backed up {manifest.stack} {manifest.environment} to {taken.storage} in {outcome.seconds:.1f} s: {manifest.id}",
        table(rows, "  "),
        *([f"Expired: {', '.join(taken.expired)}"] if taken.expired else []),
        *(f"warning: {warning}" for warning in outcome.warnings),
        *([f"Log: {outcome.log}"] if outcome.log else []),
    ]
    return "\n".join(lines)


def verified_text(found: Sequence[Looked]) -> str:
    """Return what was found of each backup, the newest first."""
    rows = [
        [one.id, f"level {one.verified.level}", one.verified.at, one.verified.fault or "good"]
        for one in reversed(found)
    ]
    return table(rows) if rows else "There is no backup."


def pruned_text(found: Pruned, *, dry_run: bool) -> str:
    """Return what went, and why the others stay."""
    would = "Would remove" if dry_run else "Removed"
    count = len(found.leftovers) + len(found.uploads)
    lines = [
        f"{would} {len(found.backups)} backup(s) and {count} leftover(s) of runs that died, {decimal(found.bytes)}.",
        *(f"  {name}" for name in found.backups),
        *(f"locked until {until}, left: {key}" for key, until in found.locked.items()),
        "Kept:" if found.keep.keep else "",
        table([[name, ", ".join(why)] for name, why in found.keep.keep.items()], "  "),
    ]
    return "\n".join(line for line in lines if line)


def prepared_text(found: Prepared, *, really: bool) -> str:
    """Return what the storage can and keeps, and what was done to it or would be."""
    words = {True: "ok", False: "FAULT", None: ""}
    rows = [[words[one.ok], one.name, one.told] for one in found.findings]
    lines = [found.storage, table(rows, "  ")]
    lines += [f"{'Done' if really else 'Would'}: {text}" for text in found.done]
    if found.wanted:
        lines.append(
            f"Not done: {'; '.join(found.wanted)} (--apply puts rules, --create makes what is not there)"
        )
    return "\n".join(lines)


def status_text(found: BackupStatus) -> str:
    """Return one line as Nagios and its kin read it."""
    word = ("OK", "WARNING", "CRITICAL")[found.code]
    rpo = _duration(found.rpo)
    if found.newest is None or found.age is None:
        text = f"there is no good backup (RPO {rpo})"
    else:
        text = f"newest good backup {found.newest} is {_duration(found.age)} old (RPO {rpo})"
    damaged = f"; damaged: {', '.join(found.damaged)}" if found.damaged else ""
    alarms = (
        f"; no increment can follow until a full backup: {'; '.join(found.alarms)}" if found.alarms else ""
    )
    return f"BACKUP {word} - {text}{damaged}{alarms}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.1f} d"


def catalog_text(found: Catalog, where: str) -> str:
    """Return the list, the newest first, and what is wrong with it."""
    if not found.entries:
        text = f"There is no backup yet: inv backup.full {where}"
    else:
        text = table([_row(entry) for entry in reversed(found.entries)])
    if found.leftovers:
        held = sum(item.size for item in found.leftovers)
        text += f"\n{len(found.leftovers)} object(s) of runs that died ({decimal(held)}): no backups."
    return text


def restore_plan_text(plan: RestorePlan, *, safety: bool) -> str:
    """Return what a restore would do."""
    rows = [
        [
            one.name,
            one.server,
            f"{len(one.parts)} part(s), {decimal(one.bytes)}",
            f"as of {one.as_of}",
            "replaces what is live" if one.replaces else "nothing is there yet",
        ]
        for one in plan.datastores
    ]
    kept = [one.name for one in plan.datastores if one.replaces] if safety else []
    lines = [
        f"A restore of {plan.backup} would bring back{', decrypted with --identity' if plan.encrypted else ''}:",
        table(rows, "  "),
        f"It would take a safety backup of {', '.join(kept)} first." if kept else "",
        f"Stopped for the swap: {', '.join(plan.stopped) or 'nobody'}.",
    ]
    return "\n".join(line for line in lines if line)


def undo_plan_text(plan: RestorePlan) -> str:
    """Return what an undo would do."""
    what = ", ".join(f"{one.name} on {one.server}" for one in plan.datastores)
    return (
        f"An undo would swap back what was live before the restore of {plan.backup}: {what}.\n"
        f"Stopped for the swap: {', '.join(plan.stopped) or 'nobody'}."
    )


def undone_text(outcome: Outcome) -> str:
    """Return what an undo came to."""
    if not outcome.targets:
        return "Nothing was undone: the restore that died had changed nothing."
    return f"Undone: {', '.join(outcome.targets)} as before the restore."


def drill_plan_text(plan: RestorePlan) -> str:
    """Return what a drill would do."""
    rows = [
        [one.name, one.server, f"{len(one.parts)} part(s), {decimal(one.bytes)}"] for one in plan.datastores
    ]
    return f"A drill would restore {plan.backup} into throw-away places:\n{table(rows, '  ')}"


def restored_text(restored: Restored, where: str) -> str:
    """Return what is live after a restore, and how to take it back."""
    rows = [
        [name, part, f"{len(counts)} kind(s), {sum(counts.values())} in all, as of {restored.as_of[name]}"]
        for name, parts in restored.counts.items()
        for part, counts in parts.items()
        if not part.startswith("/")  # of what a moment was recovered from
    ]
    outcome = restored.outcome
    lines = [
        f"Restored {outcome.stack} {outcome.environment} from {restored.backup} in {outcome.seconds:.1f} s",
        table(rows, "  "),
        *([f"Stopped meanwhile: {', '.join(restored.stopped)}"] if restored.stopped else []),
        *(f"warning: {warning}" for warning in outcome.warnings),
        f"What was live before is kept until the next restore: inv restore.undo {where}",
        *(f"{name} is on a log of its own now: {_NEXT.format(where)}" for name in restored.ended),
        *([f"It is also in the safety backup {restored.safety}"] if restored.safety else []),
        *([f"Log: {outcome.log}"] if outcome.log else []),
    ]
    return "\n".join(lines)


def drilled_text(found: Drilled) -> str:
    """Return what a drill measured, beside its targets."""
    rows = [
        [
            name,
            _duration(measured),
            f"target {_duration(target)}",
            "MISSED" if name in found.missed else "met",
        ]
        for name, measured, target in (
            ("RTO", found.rto, found.rto_target),
            ("RPO", found.rpo, found.rpo_target),
        )
    ]
    counted = sum(sum(part.values()) for parts in found.counts.values() for part in parts.values())
    outcome = found.outcome
    lines = [
        f"Restored {found.backup} of {outcome.stack} {outcome.environment} into throw-away places: "
        f"{', '.join(found.counts)}, {counted} counted as in the backup",
        table(rows, "  "),
        *(f"warning: {warning}" for warning in outcome.warnings),
        *([f"Log: {outcome.log}"] if outcome.log else []),
    ]
    return "\n".join(lines)


def moment_text(found: Manifest) -> str:
    """Return as of when a backup brings its datastores back: one time, or one for each where they differ."""
    times = {
        name: str(saved.details.get("as_of", found.finished_at)) for name, saved in found.datastores.items()
    }
    if len(set(times.values())) == 1:
        return next(iter(times.values()))
    return ", ".join(f"{at} for {name}" for name, at in times.items())


def _row(entry: Entry) -> list[str]:
    manifest = entry.manifest
    if manifest is None:
        return [entry.id, "damaged", "", "", entry.damage or ""]
    looked = f"verified at level {entry.verified.level}, {entry.verified.at}" if entry.verified else ""
    state = f"damaged: {entry.fault}" if entry.fault else looked
    words = [
        manifest.kind,
        *(["partial"] if manifest.partial else []),
        *(["safety"] if manifest.safety else []),
    ]
    kind = ", ".join(words) + (f" after {manifest.after}" if manifest.after else "")
    return [entry.id, kind, decimal(manifest.stored), ", ".join(manifest.datastores), state]


def _held(saved: Saved) -> str:
    if saved.kind == "files":
        return f"{sum(sum(part.values()) for part in saved.counts.values())} files and folders"
    databases = [part for name, part in saved.counts.items() if not name.startswith("/")]
    rows, tables = sum(sum(part.values()) for part in databases), sum(map(len, databases))
    log = sum(part.get("segments", 0) for part in saved.counts.values())
    held = [
        *([f"{rows} rows in {tables} tables of {len(databases)} database(s)"] if databases else []),
        *([f"{log} segment(s) of the write-ahead log"] if log else []),
    ]
    return ", ".join(held)

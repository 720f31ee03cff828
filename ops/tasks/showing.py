"""Plans, outcomes, status and history as people read them, in 80 columns and in 140."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ops.runs.lock import ways_on
from ops.tasks.output import following, interactive

if TYPE_CHECKING:
    from ops.deploy.planning import DeployPlan
    from ops.deploy.rollback_plan import RollbackPlan
    from ops.deploy.status import Status
    from ops.outcomes import Outcome
    from ops.runs.journal import Entry

__all__ = ["history_text", "outcome_text", "plan_text", "rollback_text", "status_text", "table"]


def table(rows: Sequence[Sequence[str]], indent: str = "") -> str:
    """Return rows in columns; in a terminal the last column is folded to its width, elsewhere a row is a line."""
    if not rows:
        return ""
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    front = len(indent) + sum(width + 2 for width in widths[:-1])
    room = _columns() - front
    lines = []
    for row in rows:
        head = indent + "".join(f"{cell:<{width}}  " for cell, width in zip(row, widths, strict=False))
        *_, last = row
        cells = textwrap.wrap(last, room) if 20 <= room < len(last) else [last]
        lines.append((head[:front] + cells[0]).rstrip())
        lines += [" " * front + cell for cell in cells[1:]]
    return "\n".join(lines)


def _columns() -> int:
    """Return the width of the terminal; what goes to a pipe or a file is not folded."""
    if not interactive(sys.stdout):
        return sys.maxsize
    return shutil.get_terminal_size((120, 24)).columns


def plan_text(plan: DeployPlan, *, commands: bool = True) -> str:
    """Return a deploy's plan: effects first, then steps and the commands behind them, then the compose difference."""
    revision = f" (revision {plan.revision[:12]})" if plan.revision else ""
    lines = [f"Plan: {plan.stack} {plan.environment} -> version {plan.version}{revision}"]
    for warning in plan.warnings:
        lines += textwrap.wrap(f"warning: {warning}", _columns(), subsequent_indent="  ")
    if plan.nothing_to_do:
        return "\n".join([*lines, "Nothing to do: every server runs this version with this content."])
    lines.append("")
    lines.append("What each service lives through")
    rows = [
        [name, effect.service, effect.text] for name, host in plan.hosts.items() for effect in host.effects
    ]
    lines.append(table(rows, "  "))
    lines.append("")
    lines.append("Steps")
    if plan.pulls:
        lines.append(f"  every server: pull {', '.join(plan.pulls)}")
    if plan.migrate:
        lines.append(f"  once: {plan.migrate}")
    for number, batch in enumerate(plan.order, 1):
        for name in batch:
            host = plan.hosts[name]
            lines.append(f"  batch {number}, {name} (serves {host.previous or 'nothing yet'})")
            if not host.steps:
                lines.append("    nothing changes here")
            for title, shown in host.steps:
                lines.append(f"    {title}")
                if commands:
                    lines += [f"      $ {command}" for command in shown]
    for name, host in plan.hosts.items():
        if host.difference:
            lines += ["", f"Compose file of {name}", *(f"  {line}" for line in host.difference.splitlines())]
    return "\n".join(lines)


def outcome_text(outcome: Outcome) -> str:
    """Return what came of a run: one headline, one line for each server, the path of the log."""
    results = {target.result for target in outcome.targets.values()}
    seconds = f" in {outcome.seconds:.1f} s" if outcome.seconds is not None else ""
    same = all(target.previous == target.release for target in outcome.targets.values())
    if results == {"unchanged"} and same and outcome.action == "deploy":
        head = (
            f"Nothing to do: {outcome.stack} {outcome.environment} runs {outcome.version} already{seconds}."
        )
    else:
        done = {"deploy": "Deployed", "deploy.rollback": "Rolled back"}.get(outcome.action, "Done:")
        to = f" to {outcome.version}" if outcome.action == "deploy.rollback" else f" {outcome.version or ''}"
        head = f"{done} {outcome.stack} {outcome.environment}{to}{seconds}."
    rows = [
        [
            name,
            target.result,
            f"{target.previous or 'nothing'} -> {target.release or 'nothing'}"
            if target.previous != target.release
            else f"{target.release}",
        ]
        for name, target in outcome.targets.items()
    ]
    lines = [head, table(rows, "  ")]
    lines += [f"warning: {warning}" for warning in outcome.warnings]
    if outcome.log:
        lines.append(f"Log: {outcome.log}")
    return "\n".join(line for line in lines if line)


def rollback_text(plan: RollbackPlan) -> str:
    """Return where a rollback goes."""
    rows = [
        [name, f"{plan.serving[name] or 'nothing'} -> {target or 'nothing: all its containers are removed'}"]
        for name, target in plan.targets.items()
    ]
    lines = ["Rollback", table(rows, "  ")]
    if plan.migrated_since:
        lines.append(
            "The schema stays as it is; these releases migrated it since: " + ", ".join(plan.migrated_since)
        )
    return "\n".join(lines)


def status_text(status: Status, where: str) -> str:
    """Return what serves where, what is off, and what to type then; `where` is the options that mean the environment."""
    lines = [f"{status.stack} {status.environment}"]
    for name, server in status.servers.items():
        if server.error is not None:
            lines.append(f"  {name}: no answer: {server.error}")
            continue
        if server.release is None:
            lines.append(f"  {name}: nothing deployed yet")
            continue
        lines.append(f"  {name}: version {server.version}, release {server.release}")
        rows = [
            [
                service.name,
                f"{service.running}/{service.wanted} {'ended well' if service.health == 'completed' else 'running'}",
                service.health,
                service.note or service.image,
            ]
            for service in server.services
        ]
        lines.append(table(rows, "    "))
    if status.locked_by is not None:
        holder = status.locked_by
        dead = (
            f"dead for {status.heartbeat_age:.0f} s"
            if status.heartbeat_age is not None
            else "left unfinished"
        )
        state = dead if status.stale else "alive"
        lines.append(
            f"Locked: {holder.action} by {holder.who}, run {holder.run_id}, since {holder.started_at} ({state})"
        )
        if status.stale:
            lines += following(ways_on(holder.action, where))
    if status.agree and status.stale:
        lines.append("All servers agree, but the next run will be refused: see the lock above.")
    elif status.agree:
        lines.append("All servers agree.")
    else:
        lines.append("Not as it should be: see above.")
        if status.locked_by is None:
            lines += following(_mend(status, where))
    return "\n".join(lines)


def _mend(status: Status, where: str) -> str:
    servers = status.servers.values()
    if any(server.error is not None for server in servers):
        return f"inv servers.check {where}"
    releases = {server.release for server in servers}
    if releases == {None}:
        return f"inv deploy {where}"
    if len(releases) > 1:
        return f"inv deploy.history {where}   tells which run left them apart"
    return f"inv stack.up {where}   starts what is missing; stack.ps and stack.logs tell more"


def history_text(entries: Sequence[Entry]) -> str:
    """Return runs, the newest first: when, what, version, how it ended, who."""
    ends = {entry.run_id: entry for entry in entries if entry.event != "started"}
    starts = {entry.run_id: entry for entry in entries if entry.event == "started"}
    rows = [["started (UTC)", "action", "version", "result", "seconds", "release", "by"]]
    for run_id in reversed(dict.fromkeys(entry.run_id for entry in entries)):
        start, end = starts.get(run_id), ends.get(run_id)
        one = end or start
        assert one is not None
        rows.append(
            [
                (start or one).at.replace("T", " ").rstrip("Z"),
                one.action,
                one.version or "-",
                end.event if end else "no end",
                f"{end.seconds:.1f}" if end and end.seconds is not None else "-",
                one.release or "-",
                one.who,
            ]
        )
    return table(rows) if len(rows) > 1 else "No run yet."

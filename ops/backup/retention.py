"""Which backups stay and which go: a pure function of what there is, the rules, and the clock."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from ops.config.backups import Keep

__all__ = ["Chain", "Retention", "plan_retention", "without_locked"]

# Calendar periods in UTC; ISO weeks, so that a week that spans two years is one.
_PERIODS: Mapping[str, Callable[[datetime], tuple[int, ...]]] = {
    "days": lambda at: (at.year, at.month, at.day),
    "weeks": lambda at: tuple(at.isocalendar()[:2]),
    "months": lambda at: (at.year, at.month),
    "years": lambda at: (at.year,),
}


@dataclass(frozen=True)
class Chain:
    """A full backup with all that builds on it: its id, when its newest part was finished, and whether all of it is good."""

    id: str
    finished: datetime
    good: bool


@dataclass(frozen=True)
class Retention:
    """What stays, each with the reasons, and what goes; both the newest first."""

    keep: Mapping[str, tuple[str, ...]]
    delete: tuple[str, ...]


def plan_retention(chains: Sequence[Chain], rules: Keep, now: datetime) -> Retention:
    """Return what stays by the rules and what goes.

    A chain stays when any rule wants it. Rules count good chains alone. One that is not good stays, for a person to look
    at, and so does one from the future: a clock that was wrong once must not push out what came after it. Without any
    rule everything stays, and never do fewer than `min` good ones.
    """
    ordered = sorted(chains, key=lambda chain: (chain.finished, chain.id), reverse=True)
    reasons: dict[str, list[str]] = {chain.id: [] for chain in ordered}
    counted = [chain for chain in ordered if chain.good and chain.finished <= now]
    for chain in ordered:
        if not chain.good:
            reasons[chain.id].append("damaged: look at it")
        elif chain.finished > now:
            reasons[chain.id].append("from the future")
    for chain in counted[: rules.count]:
        reasons[chain.id].append("count")
    for name, period in _PERIODS.items():
        newest: dict[tuple[int, ...], str] = {}
        for chain in counted:
            newest.setdefault(period(chain.finished), chain.id)
        for chosen in list(newest.values())[: getattr(rules, name)]:
            reasons[chosen].append(name)
    kept = sum(1 for chain in counted if reasons[chain.id])
    for chain in counted:
        if not reasons[chain.id] and (not rules.any or kept < rules.min):
            reasons[chain.id].append("min" if rules.any else "no rule")
            kept += 1
    return Retention(
        {chain.id: tuple(reasons[chain.id]) for chain in ordered if reasons[chain.id]},
        tuple(chain.id for chain in ordered if not reasons[chain.id]),
    )


def without_locked(plan: Retention, locks: Mapping[str, datetime], now: datetime) -> Retention:
    """Return the plan in which those stay that the storage itself keeps for longer; `locks` is by chain."""
    held = {name: until for name, until in locks.items() if name in plan.delete and until > now}
    reasons = {name: (f"locked until {until:%Y-%m-%d %H:%M} UTC",) for name, until in held.items()}
    return Retention({**plan.keep, **reasons}, tuple(name for name in plan.delete if name not in held))

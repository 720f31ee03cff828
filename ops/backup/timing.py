"""When a scheduled task runs, as a person says it and as systemd and cron read it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ops.errors import UsageError

__all__ = ["When", "when"]

_DAY = 86_400
_UNITS = {"m": 60, "h": 3_600, "d": _DAY}


@dataclass(frozen=True)
class When:
    """`calendar` is systemd's, `cron` the five fields, None where cron cannot say it; `spread` is seconds of random delay,
    so that a fleet does not go for one bucket in the same second."""

    calendar: str
    cron: str | None
    spread: int


def when(at: str | None = None, calendar: str | None = None, every: str | None = None) -> When:
    """Return when, from a time of day, a systemd calendar or an interval; 02:00 where none is given.

    Times are those of the machine where it runs. Raises UsageError for more than one, and for what is none.
    """
    if sum(map(bool, (at, calendar, every))) > 1:
        raise UsageError("give one of --at, --calendar and --every")
    if calendar:
        if not calendar.isprintable():
            raise UsageError(f"{calendar!r} is no calendar of systemd")
        return When(calendar, None, 300)
    if every:
        return _every(every)
    found = re.fullmatch(r"([01]?[0-9]|2[0-3]):([0-5][0-9])", at or "02:00")
    if found is None:
        raise UsageError(f'--at takes a time of day such as "02:00", not {at!r}')
    hour, minute = int(found[1]), int(found[2])
    return When(f"*-*-* {hour:02}:{minute:02}:00", f"{minute} {hour} * * *", 300)


def _every(text: str) -> When:
    found = re.fullmatch(r"([1-9][0-9]{0,3})([mhd])", text)
    seconds = int(found[1]) * _UNITS[found[2]] if found else 0
    if (
        not seconds
        or _DAY % seconds
        or (seconds < 3_600 and 3_600 % seconds)
        or (seconds > 3_600 and seconds % 3_600)
    ):
        raise UsageError(
            f"--every takes what divides an hour or a day, such as 15m, 1h, 6h or 1d, not {text!r}"
        )
    spread = min(300, seconds // 10)
    if seconds < 3_600:
        step = seconds // 60
        return When(f"*-*-* *:0/{step}:00", f"*/{step} * * * *" if step > 1 else "* * * * *", spread)
    hours = seconds // 3_600
    if hours == 24:
        return When("*-*-* 00:00:00", "0 0 * * *", spread)
    return When(
        f"*-*-* 0/{hours}:00:00" if hours > 1 else "*-*-* *:00:00",
        f"0 */{hours} * * *" if hours > 1 else "0 * * * *",
        spread,
    )

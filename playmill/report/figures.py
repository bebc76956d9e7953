"""Numbers as people read them: durations, times, counts, shares."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from playmill.phrases import plural as plural  # one of the forms, to those who write pages

UNIX_LIKE_US = 10**15
"""Later than this (2001) a time counts from 1970; no recording is so long."""


def clock_time(us: float, *, decimals: int = 3) -> str:
    """Return a time since the beginning as "1:02:03.456" or "0:03.456"."""
    sign, us = ("-", -us) if us < 0 else ("", us)
    seconds, part = divmod(round(us / 1e6 * 10**decimals), 10**decimals)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    fraction = f".{part:0{decimals}d}" if decimals else ""
    head = f"{hours}:{minutes:02d}" if hours else f"{minutes}"
    return f"{sign}{head}:{seconds:02d}{fraction}"


def axis_times(length_us: float, number: int) -> list[str]:
    """Return `number` times from 0 to `length_us`, as exact as their distance calls for."""
    step_us = length_us / (number - 1)
    decimals = 0 if step_us >= 5e6 else 1 if step_us >= 5e5 else 3
    return [clock_time(place * step_us, decimals=decimals) for place in range(number)]


def duration(us: float) -> str:
    """Return a length of time as "2 h 05 min", "3 min 20 s", "12.3 s" or "45 ms"."""
    seconds = us / 1e6
    if seconds < 1:
        return f"{us / 1000:.3g} ms" if us else "0 s"
    if seconds < 60:
        return f"{seconds:.3g} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60:02d} min"


def count(number: float | None) -> str:
    """Return a count with thousands apart; "unknown" for None."""
    if number is None:
        return "unknown"
    return f"{number:,.0f}" if float(number).is_integer() else f"{number:,.3g}"


def signed(number: float) -> str:
    """Return a number with its sign, thousands apart."""
    return f"{number:+,.0f}" if abs(number) >= 1000 else f"{number:+.4g}"


def ms(number: float | None) -> str:
    """Return milliseconds; "unknown" for None."""
    if number is None:
        return "unknown"
    return f"{number:,.0f} ms" if abs(number) >= 1000 else f"{number:.3g} ms"


def percent(share: float | None) -> str:
    """Return a share of 1 as per cent; "unknown" for None; never 100 % for less than all."""
    if share is None:
        return "unknown"
    if 0.9995 <= share < 1:
        return "over 99.9 %"
    if 0 < share < 0.0005:
        return "under 0.1 %"
    return f"{share * 100:.1f} %".replace(".0 %", " %")


def date(us: int) -> str | None:
    """Return a Unix time as date and time, UTC; None where no calendar has it."""
    try:
        return datetime.fromtimestamp(math.floor(us / 1e6), UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, OSError, ValueError):
        return None


def clock_offset(us: float) -> str:
    """Return what one clock shows when another shows 0: a date if it counts from 1970."""
    at = date(int(us)) if abs(us) >= UNIX_LIKE_US else None
    return at or (f"{us / 1000:+.6g} ms" if abs(us) < 10**6 else f"{us / 1e6:+,.3f} s")

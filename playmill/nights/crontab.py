"""Crontab: five fields and a time zone, and the latest moment that they name."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from playmill.errors import UsageError

_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_WEEKDAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
_FIELDS: tuple[tuple[str, int, int, dict[str, int]], ...] = (
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day of month", 1, 31, {}),
    ("month", 1, 12, {name: number for number, name in enumerate(_MONTHS, 1)}),
    ("day of week", 0, 7, {name: number for number, name in enumerate(_WEEKDAYS)}),
)
_ITEM = re.compile(r"(?:\*|(?P<first>\w+)(?:-(?P<last>\w+))?)(?:/(?P<step>[0-9]{1,4}))?")
_LONGEST_MONTH = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_YEARS_APART = 8
"""A 29 February may be this far from the one before it (1896 and 1904; 2096 and 2104)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Crontab:
    """Moments that come again and again, by the clock on somebody's wall."""

    text: str
    """The five fields as they were given."""
    zone: ZoneInfo
    """Whose wall clock."""
    minutes: frozenset[int] = field(repr=False)
    hours: frozenset[int] = field(repr=False)
    days: frozenset[int] = field(repr=False)
    """Of the month, from 1."""
    months: frozenset[int] = field(repr=False)
    """From 1."""
    weekdays: frozenset[int] = field(repr=False)
    """0: Sunday."""
    either_day: bool = field(repr=False)
    """Both kinds of day are restricted: one of them is enough, as for cron."""

    @classmethod
    def parse(cls, text: str, zone: ZoneInfo) -> Crontab:
        """Read five fields: minute, hour, day of month, month, day of week.

        A field is `*`, or numbers, names (jan, mon) and ranges, separated by commas; `/N` after
        `*` or a range takes every Nth. Day of week 0 and 7 are Sunday.

        Raises:
            UsageError: it is anything else, or a day that never comes.
        """
        words = text.split()
        if len(words) != len(_FIELDS):
            raise UsageError(f"there are {len(words)} fields")
        minutes, hours, days, months, weekdays = (
            _numbers(word, *form) for word, form in zip(words, _FIELDS, strict=True)
        )
        found = cls(
            text=" ".join(words),
            zone=zone,
            minutes=minutes,
            hours=hours,
            days=days,
            months=months,
            weekdays=frozenset(number % 7 for number in weekdays),
            either_day=not words[2].startswith("*") and not words[4].startswith("*"),
        )
        reachable = any(min(days) <= _LONGEST_MONTH[month - 1] for month in months)
        if not reachable and not found.either_day:
            raise UsageError("no month that is named has that day")
        return found

    def latest(self, now_s: float) -> int | None:
        """Return the latest moment not after `now_s`, both as Unix seconds.

        Clock changes: a time that a day skips is taken as if the clock had not been put forward
        (02:30 is then 03:30); of a time that a day has twice, the first counts.
        """
        today = datetime.fromtimestamp(now_s, self.zone).date()
        for days_ago in range(366 * _YEARS_APART + 1):
            moments = [
                moment
                for moment in self._moments(today - timedelta(days=days_ago))
                if moment <= now_s
            ]
            if moments:
                return max(moments)
        return None

    def _moments(self, day: date) -> list[int]:
        if not self._has(day):
            return []
        return [
            int(datetime(day.year, day.month, day.day, hour, minute, tzinfo=self.zone).timestamp())
            for hour in self.hours
            for minute in self.minutes
        ]

    def _has(self, day: date) -> bool:
        if day.month not in self.months:
            return False
        by_date, by_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return by_date or by_week if self.either_day else by_date and by_week


def _numbers(
    text: str, name: str, lowest: int, highest: int, names: dict[str, int]
) -> frozenset[int]:
    """Return the numbers that one field stands for."""

    def number(word: str) -> int:
        value = names.get(word.lower())
        if value is None:
            value = int(word) if re.fullmatch(r"[0-9]{1,4}", word) else -1
        if not lowest <= value <= highest:
            raise UsageError(f"{name} is {text!r}; {lowest} to {highest} are possible")
        return value

    found: set[int] = set()
    for item in text.split(","):
        match = _ITEM.fullmatch(item)
        if match is None:
            raise UsageError(f"{name} is {text!r}; write *, */N, N, N-M or a list of these")
        first, last, step = match["first"], match["last"], int(match["step"] or 1)
        start = lowest if first is None else number(first)
        stop = highest if first is None else number(last or first)
        if stop < start or not step or (match["step"] and first and not last):
            raise UsageError(f"{name} is {text!r}; {item!r} is no range to take steps in")
        found.update(range(start, stop + 1, step))
    return frozenset(found)

"""Crontab: what five fields mean, when they last came, and how nonsense is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from celery.schedules import crontab as celery_crontab
from hypothesis import given, settings
from hypothesis import strategies as st

from playmill.errors import UsageError
from playmill.nights.crontab import Crontab

BERLIN = ZoneInfo("Europe/Berlin")
UTC_ZONE = ZoneInfo("UTC")


def at(text: str) -> float:
    """Return Unix seconds of an ISO time; without an offset it is UTC."""
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def latest(fields: str, now: str, zone: ZoneInfo = UTC_ZONE) -> str | None:
    """Return the latest moment as ISO text in UTC."""
    found = Crontab.parse(fields, zone).latest(at(now))
    return None if found is None else datetime.fromtimestamp(found, UTC).isoformat()[:16]


@pytest.mark.parametrize(
    ("fields", "now", "expected"),
    [
        ("0 2 * * *", "2026-11-22T02:00", "2026-11-22T02:00"),
        ("0 2 * * *", "2026-11-22T01:59:59.9", "2026-11-21T02:00"),
        ("*/15 * * * *", "2026-11-22T10:29", "2026-11-22T10:15"),
        ("30 22,4 * * *", "2026-11-22T03:00", "2026-11-21T22:30"),
        ("0 2 * * 1-5", "2026-11-22T12:00", "2026-11-20T02:00"),  # a Sunday: Friday's
        ("0 2 * * mon-fri", "2026-11-22T12:00", "2026-11-20T02:00"),
        ("0 2 * * 7", "2026-11-24T12:00", "2026-11-22T02:00"),
        ("0 2 * * 0", "2026-11-24T12:00", "2026-11-22T02:00"),
        ("0 2 1 * *", "2026-11-22T12:00", "2026-11-01T02:00"),
        ("0 2 1 Jan *", "2026-11-22T12:00", "2026-01-01T02:00"),
        ("0 2 29 2 *", "2026-11-22T12:00", "2024-02-29T02:00"),
        ("0 2 29 2 *", "2104-02-29T01:00", "2096-02-29T02:00"),
        ("0 2 31 * *", "2026-11-22T12:00", "2026-10-31T02:00"),
        ("0 2 13 * 5", "2026-11-22T12:00", "2026-11-20T02:00"),  # a 13th or a Friday
        ("0 2 */2 * 5", "2026-11-22T12:00", "2026-11-13T02:00"),  # an odd day that is a Friday
        ("0 0-20/10 * * *", "2026-11-22T12:00", "2026-11-22T10:00"),
    ],
)
def test_the_latest_moment_is_the_one_that_cron_would_name(
    fields: str, now: str, expected: str
) -> None:
    assert latest(fields, now) == expected


@pytest.mark.parametrize(
    ("fields", "now", "expected"),
    [
        ("0 2 * * *", "2026-07-01T12:00", "2026-07-01T00:00"),
        ("0 2 * * *", "2026-01-01T12:00", "2026-01-01T01:00"),
        # 02:30 does not exist on 29 March: the clock goes from 02:00 to 03:00.
        ("30 2 * * *", "2026-03-29T12:00", "2026-03-29T01:30"),
        ("30 2 * * *", "2026-03-29T01:29", "2026-03-28T01:30"),
        # 02:30 comes twice on 25 October.
        ("30 2 * * *", "2026-10-25T12:00", "2026-10-25T00:30"),
        ("30 2 * * *", "2026-10-25T00:29", "2026-10-24T00:30"),
    ],
    ids=["summer", "winter", "skipped", "before the skipped", "twice", "before the first"],
)
def test_a_wall_clock_that_is_changed_leaves_no_night_out(
    fields: str, now: str, expected: str
) -> None:
    assert latest(fields, now, BERLIN) == expected


@pytest.mark.parametrize("zone", [BERLIN, ZoneInfo("Australia/Lord_Howe"), ZoneInfo("Asia/Tokyo")])
def test_every_day_of_a_year_has_one_moment(zone: ZoneInfo) -> None:
    crontab = Crontab.parse("15 2 * * *", zone)
    found = [crontab.latest(at("2026-01-01") + 3600 * hour) for hour in range(24 * 365)]
    assert found == sorted(found, key=lambda moment: moment or 0)
    days = [
        datetime.fromtimestamp(moment or 0, zone).date() for moment in sorted(set(found) - {None})
    ]
    assert days == [days[0] + timedelta(days=number) for number in range(len(days))]
    assert len(days) in (365, 366)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("0 2 * *", "there are 4 fields"),
        ("@daily", "there are 1 fields"),
        ("60 2 * * *", "minute is '60'; 0 to 59 are possible"),
        ("0 24 * * *", "hour is '24'; 0 to 23 are possible"),
        ("0 2 0 * *", "day of month is '0'; 1 to 31 are possible"),
        ("0 2 * * 8", "day of week is '8'; 0 to 7 are possible"),
        ("0 2 * * monday", "day of week is 'monday'; 0 to 7 are possible"),
        ("0 22-2 * * *", "hour is '22-2'; '22-2' is no range to take steps in"),
        ("0 5/2 * * *", "hour is '5/2'; '5/2' is no range"),
        ("*/0 2 * * *", r"minute is '\*/0'"),
        ("0 2, * * *", "hour is '2,'; write"),
        ("0 -1 * * *", "hour is '-1'; write"),
        ("0 ² * * *", "hour is '²'; 0 to 23"),
        ("0 2 30 feb *", "no month that is named has that day"),
        ("0 2 31 4,6 *", "no month that is named has that day"),
    ],
)
def test_nonsense_is_refused_by_its_field(fields: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Crontab.parse(fields, UTC_ZONE)


def _fields(lowest: int, highest: int) -> st.SearchStrategy[str]:
    number = st.integers(lowest, highest)
    span = st.tuples(number, number).map(lambda pair: f"{min(pair)}-{max(pair)}")
    step = st.integers(1, highest).map(str)
    item = st.one_of(
        st.just("*"),
        number.map(str),
        span,
        step.map("*/{}".format),
        st.tuples(span, step).map("/".join),
    )
    return st.lists(item, min_size=1, max_size=3).map(",".join)


@settings(max_examples=60, deadline=None)
@given(_fields(0, 59), _fields(0, 23), _fields(1, 28), _fields(1, 12), _fields(0, 6))
def test_fields_mean_what_they_mean_to_celery(
    minute: str, hour: str, day: str, month: str, weekday: str
) -> None:
    theirs = celery_crontab(minute, hour, weekday, day, month)
    ours = Crontab.parse(f"{minute} {hour} {day} {month} {weekday}", UTC_ZONE)
    assert (ours.minutes, ours.hours) == (theirs.minute, theirs.hour)
    assert (ours.days, ours.months) == (theirs.day_of_month, theirs.month_of_year)
    assert ours.weekdays == theirs.day_of_week

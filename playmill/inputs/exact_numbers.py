"""Numbers of a log as written: times become whole microseconds without float arithmetic.

What is finer than a microsecond is rounded down.
"""

from __future__ import annotations

import re
from types import MappingProxyType

from playmill.inputs.event_table import MAX_TIME_US
from playmill.inputs.lines import DecimalText, Rejected, shown

UNITS = MappingProxyType({"s": 6, "ms": 3, "us": 0, "ns": -3})
"""Unit of time -> how many decimal places its microseconds have."""
_PLACES = dict(UNITS)
"""The same, looked up in half the time."""
MAX_VALUE = 1 << 24
"""Largest amount: up to here every whole number is exact in float32."""

DECIMAL = re.compile(r"([+-]?)([0-9]{1,40})(?:\.([0-9]{0,100}))?(?:[eE]([+-]?[0-9]{1,3}))?", re.A)


def decimal_us(text: str, unit: str, name: str) -> int:
    """Return the time that `text`, a decimal number, gives in `unit`, in microseconds.

    Args:
        unit: one of UNITS.
        name: what the log calls it, for messages.
    Raises:
        Rejected: it is no number, or no time from 0 to 2**63 - 1 microseconds.
    """
    whole, _, part = text.partition(".")
    # Nearly every time is a plain one, and this is several times as fast.
    if len(whole) < 13 and whole.isdigit() and (not part or part.isdigit()) and text.isascii():
        places = _PLACES[unit]
        if len(part) >= places >= 0:
            return int(whole + part[:places])
        if places >= 0:
            return int(whole + part.ljust(places, "0"))
    match = DECIMAL.fullmatch(text)
    if match is None:
        raise Rejected(f'"{name}" is {text[:40]!r}, not a decimal number')
    sign, whole, part, exponent = match[1], match[2], match[3] or "", int(match[4] or 0)
    digits = int(whole + part)
    shift = UNITS[unit] + exponent - len(part)
    if sign == "-" and digits:
        raise Rejected(f'"{name}" is negative')
    time_us: int = digits * 10**shift if shift >= 0 else digits // 10**-shift
    if time_us > MAX_TIME_US:
        raise Rejected(f'"{name}" is 2**63 us or more')
    return time_us


def json_us(value: object, unit: str, name: str) -> int:
    """Return the time that `value`, of JSON read with `exact`, gives; see `decimal_us`."""
    if type(value) is DecimalText:
        return decimal_us(value, unit, name)
    if type(value) is not int:
        raise Rejected(f'"{name}" is {shown(value)}, not a number')
    if not 0 <= value <= MAX_TIME_US:
        raise Rejected(f'"{name}" is negative' if value < 0 else f'"{name}" is 2**63 or more')
    return decimal_us(str(value), unit, name)


def amount(value: object, name: str) -> float:
    """Return `value`, a number of JSON, read with `exact` or not, from -MAX_VALUE to MAX_VALUE.

    Raises:
        Rejected: it is none.
    """
    number: float
    if type(value) is int or type(value) is float:
        number = value
    elif type(value) is DecimalText:
        number = float(value)
    else:
        raise Rejected(f'"{name}" is {shown(value)}, not a number')
    if not -MAX_VALUE <= number <= MAX_VALUE:
        raise Rejected(f'"{name}" is beyond +-{MAX_VALUE}')
    return float(number)


def true_or_false(value: object, name: str) -> bool:
    """Return `value`; Rejected: it is not true or false."""
    if type(value) is not bool:
        raise Rejected(f'"{name}" is {shown(value)}, not true or false')
    return value

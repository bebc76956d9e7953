"""Decimal text becomes whole microseconds exactly."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from playmill.inputs.exact_numbers import UNITS, amount, decimal_us, json_us
from playmill.inputs.lines import DecimalText, Rejected, parse_object


@pytest.mark.parametrize(
    ("text", "unit", "time_us"),
    [
        ("1767633347.5859811", "s", 1767633347585981),
        ("1767633347.708028", "s", 1767633347708028),
        ("150160.865463208", "s", 150160865463),
        ("9007199254740993.000001", "ms", 9007199254740993000),
        ("1744364222033.333", "ms", 1744364222033333),
        ("1999", "ns", 1),
        ("7", "us", 7),
        ("7.9", "us", 7),
        ("-0", "s", 0),
        ("-0.0", "s", 0),
        ("1.5e3", "s", 1_500_000_000),
        ("25E-7", "s", 2),
        ("+12.", "s", 12_000_000),
    ],
)
def test_a_number_is_taken_as_it_is_written(text, unit, time_us) -> None:
    assert decimal_us(text, unit, "t") == time_us


@given(
    whole=st.integers(0, 2**40),
    part=st.text("0123456789", max_size=12),
    unit=st.sampled_from(sorted(UNITS)),
)
def test_every_decimal_number_is_rounded_down_and_never_by_a_float(whole, part, unit) -> None:
    text = f"{whole}.{part}" if part else str(whole)
    exact = Fraction(text if part else whole) * Fraction(10) ** UNITS[unit]
    assert decimal_us(text, unit, "t") == exact.numerator // exact.denominator


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not a decimal number"),
        ("nan", "not a decimal number"),
        ("1,5", "not a decimal number"),
        ("0x10", "not a decimal number"),
        ("1 2", "not a decimal number"),
        ("1_0", "not a decimal number"),
        ("٣", "not a decimal number"),
        (".5", "not a decimal number"),
        ("1e9999", "not a decimal number"),
        ("9" * 41, "not a decimal number"),
        ("-1", "is negative"),
        ("-0.5", "is negative"),
        ("9223372036854.775808", "is 2[*][*]63 us or more"),
        ("1e999", "is 2[*][*]63 us or more"),
    ],
)
def test_what_is_no_time_is_rejected(text, reason) -> None:
    with pytest.raises(Rejected, match=reason):
        decimal_us(text, "s", "t")


@pytest.mark.parametrize("value", [None, True, "1.5", [1], {}])
def test_only_numbers_of_json_are_numbers(value) -> None:
    with pytest.raises(Rejected, match="not a number"):
        json_us(value, "s", "t")
    with pytest.raises(Rejected, match="not a number"):
        amount(value, "x")


def test_amounts_have_limits() -> None:
    assert amount(DecimalText("1.5"), "x") == 1.5
    assert amount(-(2**24), "x") == -(2**24)
    for value in (2**24 + 1, DecimalText("1e999"), DecimalText("-1e30"), 10**4000):
        with pytest.raises(Rejected, match=r"beyond \+-16777216"):
            amount(value, "x")


def test_json_read_exactly_keeps_the_text_of_numbers() -> None:
    event = parse_object(b'{"a":1767633347.5859811,"b":2,"c":"1.5"}', exact=True)
    assert type(event["a"]) is DecimalText
    assert event["a"] == "1767633347.5859811"
    assert type(event["c"]) is str
    assert json_us(event["a"], "s", "a") == 1767633347585981

"""Numbers on a page read well."""

from __future__ import annotations

import pytest

from playmill.report import figures


@pytest.mark.parametrize(
    ("us", "text"),
    [
        (-123_456, "-123.456 ms"),
        (90_000_000, "+90.000 s"),
        (1_750_000_000_000_000, "2025-06-15 15:06:40 UTC"),
        (2**62, "+4,611,686,018,427.388 s"),
    ],
)
def test_an_offset_between_clocks_can_be_read(us: int, text: str) -> None:
    assert figures.clock_offset(us) == text

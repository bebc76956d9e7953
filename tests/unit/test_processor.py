"""What the processor is and can, as Linux says it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from playmill import processor

CPUINFO = "processor\t: 0\nmodel name\t: Some CPU 9\nflags\t\t: fpu avx512f {}sse\n"


@pytest.fixture
def cpuinfo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file in the place of the system's own."""
    path = tmp_path / "cpuinfo"
    monkeypatch.setattr(processor, "_CPUINFO", path)
    processor.has_bf16.cache_clear()
    yield path
    processor.has_bf16.cache_clear()


@pytest.mark.parametrize(
    ("flag", "has"), [("avx512_bf16 ", True), ("amx_bf16 ", True), ("avx512_vnni ", False)]
)
def test_bf16_is_a_flag(cpuinfo: Path, flag: str, has: bool) -> None:
    cpuinfo.write_text(CPUINFO.format(flag))
    assert processor.has_bf16() is has
    assert processor.hardware_name() == "Some CPU 9"


def test_a_system_that_does_not_say_has_a_name_and_no_bf16(cpuinfo: Path) -> None:
    assert processor.has_bf16() is False
    assert processor.hardware_name()

"""Lines of a log come whole, wherever the blocks end that it is read in."""

from __future__ import annotations

import pytest

from playmill.inputs import lines
from playmill.inputs.lines import filled_lines, log_lines

CONTENT = b'\xef\xbb\xbf{"a":1}\r\n\n  \n{"b":2}\n\xef\xbb\xbfx\r\r\n\0\nlast'
LINES = [b'{"a":1}', b"", b"  ", b'{"b":2}', b"\xef\xbb\xbfx", b"\0", b"last"]


@pytest.mark.parametrize("block_bytes", [*range(1, 20), 1 << 18])
@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_lines_are_the_same_for_blocks_of_any_size(tmp_path, monkeypatch, block_bytes, end) -> None:
    monkeypatch.setattr(lines, "_BLOCK_BYTES", block_bytes)
    log = tmp_path / "log"
    log.write_bytes(CONTENT + end)
    assert list(log_lines(log)) == LINES
    assert [number for number, _ in filled_lines(log)] == [1, 4, 5, 6, 7]


@pytest.mark.parametrize("block_bytes", [3, 7, 64])
@pytest.mark.parametrize("size", [10, 11, 12, 50])
def test_a_long_line_stays_too_long_and_takes_no_other_with_it(
    tmp_path, monkeypatch, block_bytes, size
) -> None:
    monkeypatch.setattr(lines, "_BLOCK_BYTES", block_bytes)
    monkeypatch.setattr(lines, "MAX_LINE_BYTES", 10)
    log = tmp_path / "log"
    log.write_bytes(b"one\n" + b"x" * size + b"\r\ntwo\n" + b"y" * size)
    first, long, third, last = log_lines(log)
    assert (first, third) == (b"one", b"two")
    for line, sign in ((long, b"x"), (last, b"y")):
        assert line.rstrip(b"\r").strip(sign) == b""
        assert len(line) == size if size <= 10 else len(line) > 10

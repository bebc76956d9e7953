"""Lines of a log come whole, wherever the blocks end that it is read in."""

from __future__ import annotations

import random

import pytest

from playmill.inputs import lines
from playmill.inputs.lines import decoded, filled_lines, json_lines, log_lines, parse_json

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


SOUND = [b'{"a":1}', b' {"a": 1.50} ', b"null", b"[1,[2]]", b'"\xc3\xa9\\ud800"', b"-0", b"\t{}\r"]


@pytest.mark.parametrize("exact", [False, True])
def test_lines_that_are_parsed_together_are_what_each_is_alone(exact) -> None:
    found = lines.parse_together(SOUND, exact=exact)
    assert repr(found) == repr([parse_json(decoded(line), exact=exact) for line in SOUND])
    assert lines.parse_together(SOUND[:1]) == [{"a": 1}]


@pytest.mark.parametrize(
    "broken",
    [
        [b"[1", b"2]", b"{},NaN,{}"],  # as many values as lines, if NaN were let in
        [b'{"a":1', b'"b":2}'],
        [b'{"a":"x', b'y"}'],
        [b"1,2"],
        [b"1]", b"[2"],
        [b"1],[2"],
        [b""],
        [b'"NaN"', b"1"],  # sound, and parsed one by one
        [b"NaN"],
        [b"-Infinity", b"1"],
        [b'"\xff"'],
        [b"\x0c1"],
        [b"9" * 5000, b"1"],
        [b"[" * 5000, b"1"],
        [b" " * (lines.MAX_LINE_BYTES + 1) + b"1"],
    ],
)
def test_what_is_not_one_value_a_line_is_left_to_be_parsed_line_by_line(broken) -> None:
    assert lines.parse_together(broken) is None
    assert lines.parse_together([b"{}", *broken, b"{}"]) is None


def test_no_mixture_of_pieces_is_taken_for_something_else() -> None:
    rng = random.Random(0)
    pieces = ["[", "]", "{", "}", ",", ":", '"', "1", "NaN", '"a"', '"a":', "null", " ", "\\", "[]"]
    together = 0
    for _ in range(20_000):
        made = [
            "".join(rng.choices(pieces, k=rng.randrange(1, 5))) for _ in range(rng.randrange(1, 5))
        ]
        found = lines.parse_together([text.encode() for text in made])
        if found is not None:
            together += 1
            assert found == [parse_json(decoded(text.encode())) for text in made]
    assert together > 300


@pytest.mark.parametrize("place", [0, 1, 63, 64, 65, 199])
def test_a_broken_line_is_none_of_its_neighbours_business(tmp_path, place) -> None:
    log = tmp_path / "log"
    made = [b'{"a":%d}' % number for number in range(200)]
    made[place] = b'{"a":'
    log.write_bytes(b"\n\n".join(made))
    found = list(json_lines(log))
    assert [(number, line) for number, line, _ in found] == list(filled_lines(log))
    values = [value for _, _, value in found]
    assert str(values.pop(place)) == "not JSON: Expecting value at character 5"
    assert values == [{"a": number} for number in range(200) if number != place]

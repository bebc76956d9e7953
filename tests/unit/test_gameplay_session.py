"""The reader of gameplay-session/1 takes every line for what it is, and loses none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playmill.errors import LogError, MissingStream, UsageError
from playmill.inputs import DEVICES, KINDS, READERS, InputEvents, reader_for
from playmill.inputs.event_table import MAX_NAMES
from playmill.inputs.lines import MAX_LINE_BYTES, MAX_REJECTED_BYTES
from tests.conftest import SHARED
from tests.unit.log_samples import read_native

RECORDINGS = SHARED / "recordings"
SOUND = b'{"t":7,"type":"key_down","key":"w"}'


def read(folder: Path, content: bytes) -> InputEvents:
    log = folder / "inputs.jsonl"
    log.write_bytes(content)
    return read_native(log)


def read_lines(folder: Path, *lines: bytes) -> InputEvents:
    return read(folder, b"".join(line + b"\n" for line in lines))


def described(events: InputEvents) -> list[tuple[int, str, str, str | None, list[float]]]:
    rows = zip(events.timestamp_us, events.device, events.kind, events.code, strict=True)
    return [
        (int(t), DEVICES[d], KINDS[k], events.codes[c] if c >= 0 else None, value)
        for (t, d, k, c), value in zip(rows, events.value.tolist(), strict=True)
    ]


def event(**fields: Any) -> bytes:
    return json.dumps({"t": 1, "type": "key_down", "key": "q", **fields}).encode()


@pytest.mark.parametrize(
    ("times", "warned"),
    [
        ([5_000_000, 6_000_000, 4_999_999, 5_500_000], ["6000000 to 4999999 us", "1.000 s"]),
        ([5_000_000, 6_000_000, 5_000_001], []),
        ([5_000_000], []),
    ],
)
def test_a_clock_that_was_set_back_is_told(tmp_path, times, warned) -> None:
    events = read_lines(tmp_path, *(event(t=time) for time in times))
    assert events.timestamp_us.tolist() == sorted(times)
    assert len(events.warnings) == bool(warned)
    assert all(part in events.warnings[0] for part in warned)


class TestEvents:
    def test_every_type_of_line_becomes_its_kind_of_event(self, tmp_path) -> None:
        events = read_lines(
            tmp_path,
            b'{"t":1,"type":"key_down","key":"w"}',
            b'{"t":2,"type":"key_up","key":"left"}',
            b'{"t":3,"type":"mouse_move","dx":-3,"dy":4}',
            b'{"t":4,"type":"mouse_down","button":"left"}',
            b'{"t":5,"type":"mouse_up","button":"right"}',
            b'{"t":6,"type":"mouse_wheel","delta":-1}',
        )
        assert described(events) == [
            (1, "keyboard", "press", "w", [0, 0]),
            (2, "keyboard", "release", "left", [0, 0]),
            (3, "mouse", "move", None, [-3, 4]),
            (4, "mouse", "press", "left", [0, 0]),
            (5, "mouse", "release", "right", [0, 0]),
            (6, "mouse", "scroll", None, [0, -1]),
        ]
        assert events.codes == ("left", "left", "right", "w")
        assert [DEVICES[d] for d in events.code_device] == [
            "keyboard",
            "mouse",
            "mouse",
            "keyboard",
        ]
        assert events.raw_line(5) == b'{"t":6,"type":"mouse_wheel","delta":-1}'

    def test_lines_are_sorted_by_time_and_stay_in_order_for_equal_times(self, tmp_path) -> None:
        late = b'{"t":3,"type":"key_up","key":"w"}'
        first = b'{"t":5,"type":"key_down","key":"b"}'
        second = b'{"t":5,"type":"key_down","key":"a"}'
        events = read_lines(tmp_path, first, second, late)
        assert [events.raw_line(i) for i in range(3)] == [late, first, second]

    def test_copies_of_a_line_are_left_out_and_counted_whatever_their_line_end(
        self, tmp_path
    ) -> None:
        other = b'{"t":7,"type":"key_down","key":"a"}'
        events = read(tmp_path, b"\n".join([SOUND, other, SOUND + b"\r", other, SOUND, b""]))
        assert [events.raw_line(i) for i in range(len(events))] == [SOUND, other]
        assert events.duplicates == 3

    def test_auto_repeat_is_kept(self, tmp_path) -> None:
        events = read_lines(tmp_path, SOUND, SOUND.replace(b"7", b"8"), SOUND.replace(b"7", b"9"))
        assert len(events) == 3

    @pytest.mark.parametrize(
        "line",
        [
            b' \t{ "t" : 7, "type": "key_down", "key": "w" } ',
            b'{"t":7,"type":"key_down","key":"w","scan":87,"x":{"a":[1.5,null]}}',
            b'{"t":1,"type":"key_down","key":"w","t":7}',
            '{"t":7,"type":"key_down","key":"ключ 鍵 \U0001f511"}'.encode(),
            b'{"t":7,"type":"key_down","key":"-rf \\"x\\" / \\u00e9"}',
        ],
        ids=["blanks", "unknown fields", "a field twice: the last", "any script", "odd signs"],
    )
    def test_unusual_lines_are_events_all_the_same(self, tmp_path, line) -> None:
        events = read_lines(tmp_path, line)
        assert (len(events), int(events.timestamp_us[0]), events.rejected.total) == (1, 7, 0)
        assert events.raw_line(0) == line

    def test_many_events_are_read_like_few(self, tmp_path, monkeypatch) -> None:
        lines = [event(t=time, key=f"k{time % 7}") for time in (5, 3, 9, 3, 1, 8, 5, 2)]
        whole = read_lines(tmp_path, *lines)
        monkeypatch.setattr("playmill.inputs.event_table._BATCH", 3)
        parted = read_lines(tmp_path, *lines)
        assert described(parted) == described(whole)
        assert parted.raw.tobytes() == whole.raw.tobytes()
        assert parted.duplicates == whole.duplicates == 2

    @pytest.mark.parametrize("time", [0, 2**53 + 1, 2**63 - 1])
    def test_times_are_exact_over_their_whole_range(self, tmp_path, time) -> None:
        events = read_lines(tmp_path, SOUND.replace(b"7", str(time).encode()))
        assert events.timestamp_us.tolist() == [time]

    @pytest.mark.parametrize(
        "content",
        [b"\xef\xbb\xbf" + SOUND + b"\n", SOUND, SOUND + b"\r\n\r\n", b"\n \t\n" + SOUND + b"\n"],
        ids=["byte order mark", "no last line end", "CR LF", "blank lines"],
    )
    def test_the_edges_of_a_file_do_not_matter(self, tmp_path, content) -> None:
        events = read(tmp_path, content)
        assert (events.raw_line(0), len(events), events.rejected.total) == (SOUND, 1, 0)

    @pytest.mark.parametrize("content", [b"", b"\n\r\n  \n", b"\xef\xbb\xbf"])
    def test_an_empty_log_is_fine(self, tmp_path, content) -> None:
        assert len(read(tmp_path, content)) == 0


MOVE = {"type": "mouse_move", "dx": 1, "dy": 1}

REJECTED = {
    "plain text": (b"recorder: buffer overrun", "not JSON: Expecting value at character 0"),
    "NUL bytes": (b"\0" * 64, "not JSON: Expecting value at character 0"),
    "truncated": (b'{"t":1,"type":"key_do', "not JSON: Unterminated string"),
    "two objects": (SOUND + SOUND, "not JSON: extra data at character 35"),
    "not UTF-8": (b'{"t":1,"type":"key_down","key":"\xe9\xff"}', "not UTF-8 at byte 32"),
    "array": (b"[1,2,3]", "is JSON list, not an object"),
    "number": (b"5", "is JSON int, not an object"),
    "null": (b"null", "is JSON NoneType, not an object"),
    "nested too deep": (b"[" * 100_000, "not JSON: nested too deep"),
    "nested in a field": (
        b'{"t":1,"x":' + b"[" * 9000 + b"]" * 9000 + b"}",
        "not JSON: nested too deep",
    ),
    "too many digits": (event().replace(b"1", b"9" * 9999), "a number has too many digits"),
    "too long": (event(x="x" * MAX_LINE_BYTES), f"is longer than {MAX_LINE_BYTES} bytes"),
    "no time": (b'{"type":"key_down","key":"q"}', '"t" is missing, not an int'),
    "time null": (event(t=None), '"t" is None, not an int'),
    "time true": (event(t=True), '"t" is True, not an int'),
    "time text": (event(t="1781914411990269"), '"t" is str, not an int'),
    "time float": (event(t=1781914411990271.0), '"t" is 1781914411990271.0, not an int'),
    "time 1e30": (event(t=1e30), '"t" is 1e+30, not an int'),
    "time NaN": (event(t=float("nan")), "not JSON: NaN"),
    "time -Infinity": (event(t=-float("inf")), "not JSON: -Infinity"),
    "time negative": (event(t=-5), '"t" is negative'),
    "time 2**63": (event(t=2**63), '"t" is 2**63 or more'),
    "time of 4000 digits": (event(t=10**3999), '"t" is 2**63 or more'),
    "no type": (b'{"t":1,"key":"q"}', '"type" is missing'),
    "unknown type": (event(type="gamepad_axis"), '"type" is unknown'),
    "type a list": (event(type=["key_down"]), '"type" is unknown'),
    "no key": (b'{"t":1,"type":"key_down"}', '"key" is missing, not a name'),
    "key null": (event(key=None), '"key" is None, not a name'),
    "key a list": (event(key=["q"]), '"key" is list, not a name'),
    "key a number": (event(key=1), '"key" is 1, not a name'),
    "key empty": (event(key=""), '"key" has 0 bytes, not 1 to 100'),
    "key long": (event(key="q" * 101), '"key" has 101 bytes, not 1 to 100'),
    "key a lone surrogate": (event(key="\ud800"), '"key" is not valid UTF-8'),
    "key with NUL": (event(key="q\0"), '"key" holds a NUL character'),
    "no button": (b'{"t":1,"type":"mouse_up"}', '"button" is missing, not a name'),
    "no dy": (b'{"t":1,"type":"mouse_move","dx":3}', '"dy" is missing, not an int'),
    "dx text": (event(**MOVE | {"dx": "3"}), '"dx" is str, not an int'),
    "dx NaN": (event(**MOVE | {"dx": float("nan")}), "not JSON: NaN"),
    "dx true": (event(**MOVE | {"dx": True}), '"dx" is True, not an int'),
    "dx float": (event(**MOVE | {"dx": 1.5}), '"dx" is 1.5, not an int'),
    "dy huge": (event(**MOVE | {"dy": -(2**24) - 1}), '"dy" is beyond +-16777216'),
    "delta null": (event(type="mouse_wheel", delta=None), '"delta" is None, not an int'),
}


class TestRejectedLines:
    @pytest.mark.parametrize(("line", "reason"), REJECTED.values(), ids=REJECTED)
    def test_a_line_that_is_no_event_is_kept_with_its_number_and_reason(
        self, tmp_path, line, reason
    ) -> None:
        events = read_lines(tmp_path, b"", SOUND, line, SOUND)
        rejected = events.rejected
        assert (len(events), events.duplicates, rejected.total) == (1, 1, 1)
        assert rejected.line.tolist() == [3]
        assert reason in rejected.reason[0]
        assert rejected.raw.tobytes() == line[:MAX_REJECTED_BYTES]
        assert events.codes == ("w",)

    def test_all_are_counted_when_there_are_more_than_are_kept(self, tmp_path, monkeypatch) -> None:
        monkeypatch.setattr("playmill.inputs.lines.MAX_REJECTED_LINES", 3)
        rejected = read_lines(tmp_path, SOUND, *[b"bad"] * 5).rejected
        assert (rejected.total, rejected.line.tolist()) == (5, [2, 3, 4])
        assert rejected.raw_offsets.tolist() == [0, 3, 6, 9]

    def test_names_beyond_the_most_are_rejected_and_known_ones_are_not(self, tmp_path) -> None:
        lines = [event(t=i, key=f"k{i}") for i in range(MAX_NAMES + 2)]
        events = read_lines(tmp_path, *lines, event(t=9999, key="k0"))
        assert len(events.codes) == MAX_NAMES
        assert (len(events), events.rejected.total) == (MAX_NAMES + 1, 2)
        assert events.rejected.reason[0] == f'"key" is one name more than {MAX_NAMES}'

    def test_a_long_line_is_not_cut_down_to_an_event(self, tmp_path) -> None:
        long = event() + b"\r" * (2 * MAX_LINE_BYTES) + b"{}"
        events = read_lines(tmp_path, SOUND, long)
        assert (len(events), events.rejected.line.tolist()) == (1, [2])

    def test_a_long_line_does_not_shift_the_numbers_of_the_lines_after_it(self, tmp_path) -> None:
        long = b"x" * (3 * MAX_LINE_BYTES)
        events = read_lines(tmp_path, long, SOUND, b"bad", b"y" * MAX_LINE_BYTES, b"bad")
        assert events.rejected.line.tolist() == [1, 3, 4, 5]
        assert len(events) == 1


class TestWholeLogs:
    @pytest.mark.parametrize("content", [b"not a log\n" * 3, b"\0" * 5000, b"[]"])
    def test_a_log_without_one_event_is_an_error_that_names_the_first_line(
        self, tmp_path, content
    ) -> None:
        with pytest.raises(LogError, match=r"inputs.jsonl: line 1: found .* no event in the whole"):
            read(tmp_path, content)

    def test_a_missing_log_is_an_error(self, tmp_path) -> None:
        with pytest.raises(MissingStream, match="found no such file; expected the recording's"):
            read_native(tmp_path / "inputs.jsonl")
        with pytest.raises(MissingStream, match="found no regular file"):
            read_native(tmp_path)

    def test_the_reader_is_found_by_its_name(self) -> None:
        assert reader_for("gameplay-session/1") is READERS["gameplay-session/1"]
        assert reader_for("gameplay-session/1").default_window_us == 100_000
        with pytest.raises(UsageError, match=r"named 'vpt' \(did you mean 'openai-vpt'"):
            reader_for("vpt")


key_names = st.text(
    st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), min_size=1, max_size=9
)
log_events = st.one_of(
    st.fixed_dictionaries({"type": st.sampled_from(["key_down", "key_up"]), "key": key_names}),
    st.fixed_dictionaries({"type": st.just("mouse_down"), "button": key_names}),
    st.fixed_dictionaries(
        {"type": st.just("mouse_move"), "dx": st.integers(-99, 99), "dy": st.integers(-(2**24), 9)}
    ),
)


@given(times=st.lists(st.tuples(st.integers(0, 2**63 - 1), log_events), max_size=15))
@settings(max_examples=75, deadline=None)
def test_what_was_logged_comes_back_in_time_order(tmp_path_factory, times) -> None:
    logged = [{"t": time} | rest for time, rest in times]
    logged = [item for place, item in enumerate(logged) if item not in logged[:place]]
    lines = [json.dumps(item).encode() for item in logged]
    events = read_lines(tmp_path_factory.mktemp("log"), *lines)
    expected = sorted(logged, key=lambda item: item["t"])
    assert [json.loads(events.raw_line(i)) for i in range(len(events))] == expected
    names = [item.get("key", item.get("button")) for item in expected]
    assert [row[3] for row in described(events)] == names
    values = [[item.get("dx", 0), item.get("dy", 0)] for item in expected]
    assert [row[4] for row in described(events)] == values


@pytest.mark.needs_shared
def test_the_log_with_all_kinds_of_garbage_gives_its_valid_events() -> None:
    folder = RECORDINGS / "hostile" / "log-garbage"
    bad = json.loads((folder / "badlines.json").read_text(encoding="utf-8"))
    events = read_native(folder / "inputs.jsonl")
    named = {entry["line"]: entry["what"] for entry in bad}
    rejected = set(events.rejected.line.tolist())
    assert {entry["line"] for entry in bad if entry["class"] == "invalid"} <= rejected
    accepted = {what for line, what in named.items() if line not in rejected}
    assert accepted == {"extra fields", "blank", "spaces"}
    assert len(events) == json.loads((folder / "expect.json").read_bytes())["valid_events"] + 1


@pytest.mark.needs_shared
@pytest.mark.parametrize("session", ["doom-640x480", "breakout-320x420"])
def test_a_real_log_has_the_events_and_copies_that_its_recorder_counted(session) -> None:
    folder = RECORDINGS / session
    truth = json.loads((folder / "groundtruth.json").read_bytes())
    events = read_native(folder / "inputs.jsonl")
    assert (len(events), events.duplicates) == (truth["events"], truth["duplicate_lines"])
    assert events.rejected.total == 0

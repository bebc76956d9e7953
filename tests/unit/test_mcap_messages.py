"""An MCAP file gives every message that can be read, and says what could not be."""

from __future__ import annotations

import re
import struct
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mcap.writer import CompressionType

from playmill.errors import MissingStream, UsageError
from playmill.inputs import mcap_messages
from playmill.inputs.lines import MAX_LINE_BYTES, Rejects
from playmill.inputs.mcap_messages import Message, messages, profile
from tests.unit.mcap_samples import BASE_NS, key, write_mcap

KEYS = [key(i, i % 50 + 1) for i in range(2000)]


def read(log) -> tuple[list[Message], Rejects]:
    rejects = Rejects()
    return list(messages(log, rejects)), rejects


@pytest.mark.parametrize("compression", list(CompressionType))
@pytest.mark.parametrize("chunk_size", [1000, 1 << 20], ids=["chunks", "one chunk"])
def test_all_messages_come_in_order_with_topic_and_time(tmp_path, compression, chunk_size) -> None:
    log = write_mcap(tmp_path / "a.mcap", KEYS, compression=compression, chunk_size=chunk_size)
    found, rejects = read(log)
    assert rejects.total == 0
    assert [message.number for message in found] == list(range(1, 2001))
    assert {message.topic for message in found} == {"keyboard"}
    assert [m.log_ns for m in found] == [BASE_NS + i * 1_000_000 for i in range(2000)]
    assert found[3].data == b'{"event_type": "press", "vk": 4}'


@pytest.mark.parametrize("compression", list(CompressionType))
def test_a_file_that_breaks_off_gives_what_is_before_the_break(tmp_path, compression) -> None:
    whole = write_mcap(tmp_path / "a.mcap", KEYS, compression=compression, chunk_size=1000)
    data = whole.read_bytes()
    for part in (0.2, 0.5, 0.7):
        whole.write_bytes(data[: int(part * len(data))])
        found, rejects = read(whole)
        assert 0.15 * 2000 < len(found) < 2000
        assert [message.number for message in found] == list(range(1, len(found) + 1))
        assert re.search("breaks off|without a footer", rejects.reason[-1])


def test_a_damaged_chunk_takes_no_other_with_it(tmp_path) -> None:
    log = write_mcap(tmp_path / "a.mcap", KEYS, chunk_size=1000)
    data = bytearray(log.read_bytes())
    middle = data.index(b"\x28\xb5\x2f\xfd", len(data) // 2)  # a zstd frame
    data[middle : middle + 8] = b"\0" * 8
    log.write_bytes(data)
    found, rejects = read(log)
    assert 1900 < len(found) < 2000
    assert found[-1].data == b'{"event_type": "press", "vk": 50}'
    assert rejects.total == 1
    assert "cannot be unpacked" in rejects.reason[0]


def test_a_wrong_checksum_is_told(tmp_path) -> None:
    log = write_mcap(tmp_path / "a.mcap", KEYS[:3], compression=CompressionType.NONE)
    log.write_bytes(log.read_bytes().replace(b'"vk": 2}', b'"vk": 9}'))
    found, rejects = read(log)
    assert len(found) == 3
    assert "its checksum is wrong" in rejects.reason[0]


def test_a_message_that_is_too_long_is_passed_over(tmp_path) -> None:
    long = ("keyboard", 1, b"x" * MAX_LINE_BYTES)
    found, rejects = read(write_mcap(tmp_path / "a.mcap", [key(0, 1), long, key(2, 2)]))
    assert [message.number for message in found] == [1, 3]
    assert rejects.line == [2]


def record(opcode: int, content: bytes, size: int | None = None) -> bytes:
    return struct.pack("<BQ", opcode, len(content) if size is None else size) + content


def chunk(content: bytes, compression: bytes = b"") -> bytes:
    head = struct.pack("<QQQII", 0, 0, len(content), 0, len(compression))
    return record(6, head + compression + struct.pack("<Q", len(content)) + content)


FOOTER = record(2, b"\0" * 20)
MESSAGE = record(5, struct.pack("<HIQQ", 1, 0, 7, 7) + b"{}")
LIES = {
    "a record of 2**63 bytes": (record(9, b"x", 2**63), "breaks off in a record"),
    "a chunk of 2**63 bytes": (record(6, b"x", 2**63), "more than 268435456"),
    "a message without its channel": (MESSAGE + FOOTER, "channel 1, which is unknown"),
    "a message without its head": (record(5, b"x") + FOOTER, "a message of 1 bytes"),
    "a channel that is none": (record(4, b"\xff" * 30), "a channel cannot be read"),
    "zeros": (bytes(1000), "something that is no record"),
    "half a head": (b"\x05\0\0", "breaks off in a record's head"),
    "a chunk without a head": (chunk(b"")[:20], "in a chunk's head"),
    "an unknown packing": (chunk(b"x", b"rot13") + FOOTER, "packed with 'rot13'"),
    "no zstd": (chunk(b"x" * 40, b"zstd") + FOOTER, "cannot be unpacked"),
    "no lz4": (chunk(b"x" * 40, b"lz4") + FOOTER, "cannot be unpacked"),
    "a chunk in a chunk": (chunk(chunk(b"")) + FOOTER, "no record"),
}


@pytest.mark.parametrize(("content", "reason"), LIES.values(), ids=LIES)
def test_what_lies_is_told_and_kept_in_bounds(tmp_path, content, reason) -> None:
    log = tmp_path / "a.mcap"
    log.write_bytes(mcap_messages.MAGIC + content)
    found, rejects = read(log)
    assert not found
    assert any(reason in text for text in rejects.reason), rejects.reason


def test_a_chunk_that_unpacks_to_too_much_is_left(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(mcap_messages, "MAX_CHUNK_BYTES", 200_000)
    log = write_mcap(tmp_path / "a.mcap", [("keyboard", i, bytes(1000)) for i in range(900)])
    assert log.stat().st_size < 200_000
    found, rejects = read(log)
    assert 100 < len(found) < 200
    assert "more than 200000 bytes when unpacked" in rejects.reason[0]


def test_no_file_and_no_mcap(tmp_path) -> None:
    with pytest.raises(MissingStream, match="no such file"):
        read(tmp_path / "a.mcap")
    (tmp_path / "b.mcap").write_bytes(b"no mcap")
    assert "is no MCAP file" in read(tmp_path / "b.mcap")[1].reason[0]


def test_the_profile_is_what_the_header_says(tmp_path) -> None:
    log = write_mcap(tmp_path / "a.mcap", KEYS[:1], profile="ros2")
    assert profile(log) == "ros2"
    assert profile(tmp_path / "none.mcap") is None
    log.write_bytes(log.read_bytes()[:12])
    assert profile(log) is None


def test_a_missing_package_is_named(tmp_path, monkeypatch) -> None:
    log = write_mcap(tmp_path / "a.mcap", KEYS[:1])
    monkeypatch.setitem(sys.modules, "mcap.records", None)
    with pytest.raises(UsageError, match="needs the package mcap; install it with"):
        read(log)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_changed_file_gives_messages_or_reasons(tmp_path_factory, data) -> None:
    log = tmp_path_factory.getbasetemp() / "fuzz.mcap"
    kind = data.draw(st.sampled_from(list(CompressionType)))
    sound = write_mcap(log, KEYS[:40], compression=kind, chunk_size=300).read_bytes()
    place = data.draw(st.integers(0, len(sound)))
    log.write_bytes(sound[:place] + data.draw(st.binary(max_size=9)) + sound[place + 3 :])
    found, rejects = read(log)
    assert len(found) + rejects.total >= 1

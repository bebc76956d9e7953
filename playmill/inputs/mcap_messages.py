"""Messages of an MCAP file, in its order, as far as the file can be read. Knows no message format.

The framing is read here and not by `mcap.reader`, because a file that is cut off or damaged in one
chunk has good messages elsewhere, and because a chunk is unpacked a piece at a time, whatever size
it says it has.

Source:
    MCAP format specification, https://mcap.dev/spec
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from playmill.errors import UsageError
from playmill.inputs.lines import MAX_LINE_BYTES, Rejects, check_log_file

MAGIC = b"\x89MCAP0\r\n"
MAX_CHUNK_BYTES = 1 << 28
"""Of a chunk that is larger, packed or unpacked, the rest is not read."""
MAX_CHANNEL_BYTES = 1 << 16

_HEADER, _FOOTER, _CHANNEL, _MESSAGE, _CHUNK, _DATA_END = 1, 2, 4, 5, 6, 15
_RECORD_HEAD = struct.Struct("<BQ")
_MESSAGE_HEAD = struct.Struct("<HIQQ")
_CHUNK_HEAD = struct.Struct("<QQQII")
_PIECE = 1 << 16


class Message(NamedTuple):
    """One message."""

    number: int
    """1, 2, 3, ... in the order of the file."""
    topic: str
    """Its channel's name."""
    log_ns: int
    """When it was written, nanoseconds."""
    data: bytes
    """What was written."""


class _Damaged(Exception):
    """From here on a file, or a chunk, cannot be read; the one argument is the reason."""


def profile(log: Path) -> str | None:
    """Return the profile that the MCAP file `log` names; None: it is no such file."""
    try:
        with log.open("rb") as file:
            head = file.read(512)
    except OSError:
        return None
    start = len(MAGIC) + _RECORD_HEAD.size
    if not head.startswith(MAGIC) or len(head) < start + 4 or head[len(MAGIC)] != _HEADER:
        return None
    size = int.from_bytes(head[start : start + 4], "little")
    return head[start + 4 : start + 4 + size].decode(errors="replace")


def messages(log: Path, rejects: Rejects) -> Iterator[Message]:
    """Yield every message that can be read.

    Memory is bounded by the size of one packed chunk.

    Args:
        rejects: gets what cannot be read: damaged chunks, messages that are too long or have no
            channel, a file that breaks off.
    Raises:
        MissingStream: there is no such file.
        UsageError: a package that reads such files is not installed.
    """
    check_log_file(log)
    return _Reader(rejects=rejects, read_channel=_channel_reader()).read(log)


def _package(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise UsageError(
            f"reading .mcap logs needs the package {name.partition('.')[0]};"
            ' install it with pip install "playmill[extract]"'
        ) from error


def _channel_reader() -> Callable[[bytes], tuple[int, str]]:
    records, streams = _package("mcap.records"), _package("mcap.data_stream")

    def read(data: bytes) -> tuple[int, str]:
        channel = records.Channel.read(streams.ReadDataStream(io.BytesIO(data)))
        return channel.id, channel.topic

    return read


@dataclass(kw_only=True, slots=True)
class _Reader:
    rejects: Rejects
    read_channel: Callable[[bytes], tuple[int, str]]
    number: int = 0
    topics: dict[int, str] = field(default_factory=dict)

    def read(self, log: Path) -> Iterator[Message]:
        with log.open("rb") as file:
            try:
                if file.read(len(MAGIC)) != MAGIC:
                    raise _Damaged("is no MCAP file")
                yield from self._records(file, chunks=True)
            except _Damaged as error:
                reason = f"byte {file.tell()} of the file: {error}"
                self.rejects.add(self.number + 1, reason, b"")

    def _records(self, stream: BinaryIO, *, chunks: bool) -> Iterator[Message]:
        """Yield the messages of the file (`chunks`), or those inside one chunk."""
        while head := stream.read(_RECORD_HEAD.size):
            if len(head) < _RECORD_HEAD.size:
                raise _Damaged("it breaks off in a record's head")
            opcode, size = _RECORD_HEAD.unpack(head)
            if opcode == _MESSAGE and _MESSAGE_HEAD.size <= size <= MAX_LINE_BYTES:
                data = stream.read(size)
                if len(data) < size:
                    raise _Damaged("it breaks off in a record")
                self.number += 1
                channel, _, log_ns, _ = _MESSAGE_HEAD.unpack_from(data)
                topic = self.topics.get(channel)
                if topic is not None:
                    yield Message(self.number, topic, log_ns, data[_MESSAGE_HEAD.size :])
                else:
                    reason = f"a message of channel {channel}, which is unknown"
                    self.rejects.add(self.number, reason, b"")
            elif opcode == _CHANNEL and size <= MAX_CHANNEL_BYTES:
                self._channel(stream.read(size))
            elif opcode == _CHUNK and chunks:
                yield from self._chunk(stream, size)
            elif opcode in (_FOOTER, _DATA_END) and chunks:
                return
            elif opcode in (0, _CHUNK):
                raise _Damaged("it holds something that is no record")
            else:
                if opcode == _MESSAGE:
                    self.number += 1
                    self.rejects.add(self.number, f"a message of {size} bytes", b"")
                _skip(stream, size)
        if chunks:
            raise _Damaged("it ends without a footer: the recorder did not finish it")

    def _channel(self, data: bytes) -> None:
        try:
            number, topic = self.read_channel(data)
        except Exception as error:  # the package checks nothing and raises what comes
            raise _Damaged(f"a channel cannot be read ({type(error).__name__})") from error
        self.topics[number] = topic

    def _chunk(self, file: BinaryIO, size: int) -> Iterator[Message]:
        """Yield the messages of the chunk of `size` bytes that begins at `file`'s position."""
        start = file.tell()
        try:
            if size > MAX_CHUNK_BYTES:
                raise _Damaged(f"has {size} bytes, more than {MAX_CHUNK_BYTES}")
            # One that breaks off is read as far as it goes.
            crc, stream = _unpacked(file.read(size))
            yield from self._records(io.BufferedReader(stream, _PIECE), chunks=False)
            if crc not in (0, stream.crc):
                raise _Damaged("its checksum is wrong: its messages may be damaged")
        except _Damaged as error:
            self.rejects.add(self.number + 1, f"the chunk at byte {start}: {error}", b"")
        file.seek(min(start + size, os.fstat(file.fileno()).st_size))


class _Unpacked(io.RawIOBase):
    """The bytes of a chunk, at most MAX_CHUNK_BYTES, with the checksum of what has been read."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read, self._left, self.crc = read, MAX_CHUNK_BYTES, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._read(len(buffer))
        except Exception as error:  # of whatever package unpacks it
            raise _Damaged(f"cannot be unpacked: {error}") from error
        self._left -= len(data)
        if self._left < 0:
            raise _Damaged(f"has more than {MAX_CHUNK_BYTES} bytes when unpacked")
        self.crc = zlib.crc32(data, self.crc)
        buffer[: len(data)] = data
        return len(data)


def _unpacked(chunk: bytes) -> tuple[int, _Unpacked]:
    """Return the checksum that the chunk should have, 0 for none, and its content."""
    start = _CHUNK_HEAD.size
    if len(chunk) < start:
        raise _Damaged("it breaks off in a chunk's head")
    *_, crc, name_size = _CHUNK_HEAD.unpack_from(chunk)
    compression, start = chunk[start : start + min(name_size, 32)], start + name_size + 8
    packed = io.BytesIO(chunk[start:])
    if compression == b"zstd":
        decompressor = _package("zstandard").ZstdDecompressor(max_window_size=1 << 27)
        return crc, _Unpacked(decompressor.stream_reader(packed, read_across_frames=True).read)
    if compression == b"lz4":
        return crc, _Unpacked(_package("lz4.frame").LZ4FrameFile(packed).read)
    if compression:
        raise _Damaged(f"is packed with {compression.decode(errors='replace')!r}")
    return crc, _Unpacked(packed.read)


def _skip(stream: BinaryIO, size: int) -> None:
    """Pass over `size` bytes, or what there is."""
    while size > 0 and (data := stream.read(min(size, _PIECE))):
        size -= len(data)
    if size:
        raise _Damaged("it breaks off in a record")

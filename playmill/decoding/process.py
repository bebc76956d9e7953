"""Index and decode in a child process that can be killed. Knows no queue, no features.

Decoders crash and hang on damaged files, some while they hold the interpreter's lock, so nothing
inside their process can stop them. `DecodeProcess` starts a child, watches its progress from
outside, and kills it. The child is not a `multiprocessing` process: those may not have children
where a queue's worker runs them.

Messages travel over a socket, pictures through shared memory: an anonymous file of a few slots
that both sides map, so no name is left behind and no limit of /dev/shm applies.

The child ends with its parent. The parent holds one end of a pipe and nobody writes to it; when
the parent is gone, the kernel sends the child SIGIO, which ends it whatever it is doing. (A
PR_SET_PDEATHSIG would fire when the *thread* that started the child ends.) A thread in the child
looks as well, in case the pipe was inherited by a sibling.
"""

from __future__ import annotations

import math
import mmap
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from playmill.decoding.child import NUM_SLOTS, Places
from playmill.errors import DecoderDied, DecoderUnavailable

if TYPE_CHECKING:
    from playmill.config import Decoder
    from playmill.decoding.pictures import Size
    from playmill.frames import Frame
    from playmill.plan import Chunk
    from playmill.video_index import VideoIndex

START_S = 120.0
"""How long a child may take until it answers at all; a busy machine is slow to start one."""
_LAST_WORDS_BYTES = 2000
_DYING_S = 5.0  # from a broken connection to an exit status; writing a core file takes time


class DecodeProcess:
    """A child process that indexes and decodes, started when first needed and used many times.

    Not for several threads at once, and one call at a time: beginning another ends an iterator of
    `frames` that is still open. Frames' images are copies that the caller owns.

    Args:
        stall_s: seconds without a sign of progress after which the child is killed.
        num_threads: threads of the CPU's decoder.
        kind: what decodes.
    """

    def __init__(
        self, *, stall_s: float = 60.0, num_threads: int = 2, kind: Decoder = "cpu"
    ) -> None:
        self._stall_s = stall_s
        self.num_threads = num_threads
        self.kind = kind
        self._child: _Child | None = None
        self._call = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """Return the child's process id; None while there is none."""
        return None if self._child is None else self._child.process.pid

    def close(self) -> None:
        """End the child. The object can be used again; it then starts a new one."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()

    def __del__(self) -> None:
        if self._child is not None and self._child.owner == os.getpid():
            self.close()  # forgotten; in a fork it is the parent's to end

    def check(self) -> None:
        """Make sure, before there is work, that what is to decode is there.

        Raises:
            DecoderUnavailable: it is not, or does not prove itself.
        """
        if self.kind == "cpu":
            return
        self._begin("check")
        try:
            self._next(Path(self.kind), "its first pictures")
        except DecoderDied as error:
            raise DecoderUnavailable(
                self.kind,
                f"the process that tried it ended: {error.how}",
                "Look at the driver's log, or take --decoder cpu.",
            ) from error

    def index(self, source: Path) -> VideoIndex:
        """Index `source`: `video_index.index_video` in the child.

        Raises:
            DecoderDied: the child crashed or made no progress; the next call starts a new one.
            MissingStream, CorruptVideo, SourceChanged: as `index_video`.
        """
        self._begin("index", source)
        index: VideoIndex = self._next(source, "index")[0]
        return index

    def frames(
        self,
        source: Path,
        chunk: Chunk,
        *,
        sizes: Sequence[Size | None] = (None,),
        tolerant: bool = False,
    ) -> Iterator[Frame]:
        """Decode `chunk`: `frames.decode_chunk` in the child.

        Raises:
            DecoderDied: the child crashed or made no progress; the next call starts a new one.
            CorruptVideo, SourceChanged, DecoderUnavailable: as `decode_chunk`.
        """
        from playmill.frames import Frame

        how = (tolerant, self.num_threads, self.kind)
        call = self._begin("frames", source, chunk, tuple(sizes), *how)
        place = f"chunk {chunk.id}, before its first frame"
        try:
            while True:
                sent, slot_bytes = self._next(source, place, call)
                if not sent:
                    return
                assert self._child is not None  # else _next has raised
                frames = [
                    Frame(images=self._child.take(slot, slot_bytes, places), **rest)
                    for slot, places, rest in sent
                ]
                self._send("release", call, [slot for slot, *_ in sent])
                place = f"chunk {chunk.id}, after pts {frames[-1].pts}"
                for frame in frames:
                    self._check_current(call)
                    yield frame
        finally:
            if call == self._call:
                self._call += 1
                self._send("stop", call)

    def _begin(self, *request: Any) -> int:
        self._call += 1
        for _ in range(2):
            if self._child is None or self._child.process.poll() is not None:
                self.close()
                self._child = _Child()
            if self._send(request[0], self._call, *request[1:]):
                break
        return self._call

    def _send(self, *message: Any) -> bool:
        if self._child is None:
            return False
        try:
            self._child.connection.send(message)
        except OSError:
            return False  # it died; whoever waits for its answer learns how
        return True

    def _next(self, source: Path, place: str, call: int | None = None) -> tuple[Any, ...]:
        """Wait for the next answer to the running call; raise what the child raised."""
        if call is not None:
            self._check_current(call)
        assert self._child is not None  # _begin made it
        while True:
            try:
                patience_s = self._stall_s if self._child.ready else max(START_S, self._stall_s)
                if not self._child.connection.poll(patience_s):
                    raise self._died(source, place, f"no progress for {patience_s:g} s")
                kind, answered, *payload = self._child.connection.recv()
                self._child.ready = True
            except (EOFError, OSError) as error:
                raise self._died(source, place, None) from error
            if answered != self._call or kind == "alive":
                continue
            if kind == "error":
                raise payload[0]
            return tuple(payload)

    def _check_current(self, call: int) -> None:
        if call != self._call or self._child is None:
            raise RuntimeError("this iterator has ended: another call of its DecodeProcess began")

    def _died(self, source: Path, place: str, how: str | None) -> DecoderDied:
        assert self._child is not None  # only called while waiting for it
        child, self._child = self._child, None
        ended = child.kill(dying_s=0.0 if how else _DYING_S)
        return DecoderDied(str(source), place, how or ended)


class _Child:
    """The parent's side of one child: process, socket, life line and shared memory."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self._ring = os.memfd_create("playmill-frames")
        self._words = os.memfd_create("playmill-decoder-stderr")
        watched, self._life = os.pipe()
        passed = (theirs.fileno(), self._ring, watched)
        numbers = (*passed, os.getpid())
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "playmill.decoding.child", *map(str, numbers)],
                pass_fds=passed,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._words,
                start_new_session=True,
            )
        finally:
            theirs.close()
            os.close(watched)
        self.connection = Connection(ours.detach())
        self.owner = os.getpid()
        """The process that started it."""
        self.ready = False
        """Whether it has sent its first message."""
        self._memory: mmap.mmap | None = None

    def take(self, slot: int, slot_bytes: int, places: Places) -> tuple[NDArray[np.uint8], ...]:
        """Copy a frame's pictures out of the shared memory; one place gives one array."""
        length = NUM_SLOTS * slot_bytes
        if self._memory is None or len(self._memory) < length:
            self._memory = mmap.mmap(self._ring, length, prot=mmap.PROT_READ)
        taken: dict[int, NDArray[np.uint8]] = {}
        for offset, shape in places:
            if offset not in taken:
                start = slot * slot_bytes + offset
                values = np.frombuffer(self._memory, np.uint8, math.prod(shape), start)
                taken[offset] = values.reshape(shape).copy()
        return tuple(taken[offset] for offset, _ in places)

    def kill(self, *, dying_s: float = 0.0) -> str:
        """End the child, free what it used, and tell how it ended.

        Args:
            dying_s: how long to wait for one that is about to end by itself.
        """
        try:
            status = self.process.wait(dying_s)
        except subprocess.TimeoutExpired:
            status = None
            self.process.kill()
            self.process.wait()
        size = os.fstat(self._words).st_size
        words = os.pread(self._words, _LAST_WORDS_BYTES, max(0, size - _LAST_WORDS_BYTES))
        self.connection.close()
        for descriptor in (self._ring, self._words, self._life):
            os.close(descriptor)
        return _how(status, words.decode(errors="replace"))


def _how(status: int | None, words: str) -> str:
    if status is None:
        return "it closed its connection"
    how = f"killed by signal {-status}" if status < 0 else f"exit status {status}"
    return f"{how} ({words.strip().splitlines()[-1]})" if words.strip() else how

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

import ctypes
import fcntl
import gc
import math
import mmap
import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from playmill.errors import DecoderDied, DecoderUnavailable, PlaymillError

if TYPE_CHECKING:
    from playmill.config import Decoder
    from playmill.decoding.pictures import Size
    from playmill.frames import Frame
    from playmill.plan import Chunk
    from playmill.video_index import VideoIndex

NUM_SLOTS = 8
"""Frames that may wait between the processes; the bound of the memory they take."""
SENT_AT_ONCE = 4
"""Frames to a message: each one wakes the other process, which costs more than what it says."""
SIGN_OF_LIFE_S = 0.5
"""How often a child at work says so."""
START_S = 120.0
"""How long a child may take until it answers at all; a busy machine is slow to start one."""
_Places: TypeAlias = "list[tuple[int, tuple[int, ...]]]"
"""Of each picture of a frame: offset in its slot, and shape."""
_Stored: TypeAlias = "tuple[int, _Places, dict[str, Any]]"
"""A frame in shared memory: slot, its pictures' places there, and the rest of `Frame`."""
_LAST_WORDS_BYTES = 2000
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of <malloc.h>
_KEPT_BYTES = 32 << 20  # the most that glibc takes; a 4K picture has 25 MB
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
                [sys.executable, "-P", "-m", "playmill.decoding.process", *map(str, numbers)],
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

    def take(self, slot: int, slot_bytes: int, places: _Places) -> tuple[NDArray[np.uint8], ...]:
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


class _Stopped(Exception):
    """The parent wants no more of the running call."""


class _Server:
    """The child's side: answers one call after the other."""

    def __init__(self, connection: Connection, ring: int) -> None:
        self._connection = connection
        self._ring = ring
        self._memory: mmap.mmap | None = None
        self._slot_bytes = 0
        self._free: list[int] = []
        self._unsent: list[_Stored] = []
        self._call = 0
        self._backlog: list[tuple[Any, ...]] = []
        self._spoke = 0.0

    def serve(self) -> None:
        """Answer calls until the parent hangs up."""
        self._connection.send(("alive", 0))
        while True:
            try:
                kind, self._call, *arguments = (
                    self._backlog.pop(0) if self._backlog else self._connection.recv()
                )
            except EOFError:
                return
            try:
                if kind == "check":
                    self._check()
                elif kind == "index":
                    self._index(*arguments)
                elif kind == "frames":
                    self._frames(*arguments)
            except _Stopped:
                continue
            except Exception as error:
                self._connection.send(("error", self._call, _portable(error)))

    def _check(self) -> None:
        from playmill.decoding import nvdec

        nvdec.accelerator()
        self._answer(None)

    def _index(self, source: Path) -> None:
        from playmill.video_index import index_video

        self._answer(index_video(source, on_progress=self._alive))

    def _frames(
        self,
        source: Path,
        chunk: Chunk,
        sizes: Sequence[Size | None],
        tolerant: bool,
        num_threads: int,
        decoder: Decoder,
    ) -> None:
        from playmill.frames import decode_chunk

        self._free = list(range(NUM_SLOTS))
        frames = decode_chunk(
            source,
            chunk,
            sizes=sizes,
            tolerant=tolerant,
            num_threads=num_threads,
            decoder=decoder,
            on_progress=self._alive,
        )
        self._unsent = []
        try:
            for frame in frames:
                places, num_bytes = _laid_out(frame.images)
                slot = self._free_slot(num_bytes)
                self._store(frame.images, slot, places)
                names = ("pts", "glance", "repaired", "damaged", "decoder")
                rest = {name: getattr(frame, name) for name in names}
                self._unsent.append((slot, places, rest))
                if len(self._unsent) == SENT_AT_ONCE:
                    self._send_stored()
        finally:
            self._send_stored()  # an error comes after the frames before it
        # The picture whose orientation was looked up is held by nothing but its own side data.
        gc.collect(1)
        self._answer((), 0)

    def _send_stored(self) -> None:
        if self._unsent:
            self._answer(self._unsent, self._slot_bytes)
            self._unsent = []

    def _answer(self, *payload: Any) -> None:
        self._connection.send(("answer", self._call, *payload))
        self._spoke = time.monotonic()

    def _alive(self) -> None:
        """Tell the parent, now and then, that there is progress."""
        now = time.monotonic()
        if now - self._spoke > SIGN_OF_LIFE_S:
            self._spoke = now
            self._connection.send(("alive", self._call))

    def _read(self) -> None:
        """Read one message: slots that are free again, or the end of the running call."""
        message = self._connection.recv()
        kind, call = message[:2]
        if kind == "release":
            if call == self._call:
                self._free.extend(message[2])
        elif kind != "stop":
            self._backlog.append(message)
            raise _Stopped
        elif call == self._call:
            raise _Stopped

    def _free_slot(self, num_bytes: int) -> int:
        """Return the number of a slot of at least `num_bytes`, waiting for one that is free."""
        whole = NUM_SLOTS if num_bytes > self._slot_bytes else 1
        if len(self._free) < whole:
            self._send_stored()  # none comes back that was not sent
        while len(self._free) < whole or self._connection.poll():
            self._read()
        if self._memory is None or num_bytes > self._slot_bytes:
            self._slot_bytes = -(-num_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
            os.ftruncate(self._ring, NUM_SLOTS * self._slot_bytes)
            self._memory = mmap.mmap(self._ring, NUM_SLOTS * self._slot_bytes)
        return self._free.pop(0)

    def _store(self, images: Sequence[NDArray[np.uint8]], slot: int, places: _Places) -> None:
        """Copy a frame's pictures to their places in a slot."""
        assert self._memory is not None  # _free_slot made it
        once = {offset: image for image, (offset, _) in zip(images, places, strict=True)}
        for offset, image in once.items():
            start = slot * self._slot_bytes + offset
            target = np.frombuffer(self._memory, np.uint8, image.nbytes, start)
            target.reshape(image.shape)[:] = image


def _laid_out(images: Sequence[NDArray[np.uint8]]) -> tuple[_Places, int]:
    """Return the offset and shape of each picture in a slot, and the bytes of all.

    An array that comes twice gets one place.
    """
    offsets: dict[int, int] = {}
    end = 0
    for image in images:
        if id(image) not in offsets:
            offsets[id(image)] = end
            end += image.nbytes
    return [(offsets[id(image)], image.shape) for image in images], end


def _portable(error: Exception) -> Exception:
    """Return an exception that the parent can unpickle without this process's libraries."""
    if isinstance(error, PlaymillError) or type(error).__module__ == "builtins":
        return error
    return RuntimeError(f"{type(error).__name__}: {error}")


def end_with_parent(life: int, parent: int) -> None:
    """Arrange that this process ends when the parent does, whatever it is doing then."""
    fcntl.fcntl(life, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(life, fcntl.F_SETFL, fcntl.fcntl(life, fcntl.F_GETFL) | os.O_ASYNC)

    def watch() -> None:
        while os.getppid() == parent and not select.select([life], [], [], 1.0)[0]:
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="parent-watch").start()


def _keep_freed_memory() -> None:
    """Make the allocator reuse pictures' memory; returning and faulting it costs 1 ms a frame."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc alone has it
    if mallopt is not None:
        for option in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD):
            mallopt(option, _KEPT_BYTES)


def main(arguments: list[str]) -> None:
    """Serve the parent that started this process; `arguments` are its descriptors' numbers."""
    connection, ring, life, parent = map(int, arguments)
    end_with_parent(life, parent)
    _keep_freed_memory()
    # Import now: the watch on progress begins when this process first speaks.
    import playmill.frames  # noqa: F401

    try:
        _Server(Connection(connection), ring).serve()
    except (BrokenPipeError, ConnectionResetError):
        return  # the parent has gone


if __name__ == "__main__":
    main(sys.argv[1:])

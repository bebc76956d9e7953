"""The decoding process itself: answers its parent's calls until that hangs up, or is gone.

Knows the parent's `process.DecodeProcess` by the messages of one socket, and shares memory with it.
"""

from __future__ import annotations

import ctypes
import fcntl
import gc
import mmap
import os
import select
import sys
import threading
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from playmill.errors import PlaymillError

if TYPE_CHECKING:
    from playmill.config import Decoder
    from playmill.decoding.pictures import Size
    from playmill.plan import Chunk

NUM_SLOTS = 8
"""Frames that may wait between the processes; the bound of the memory they take."""
SENT_AT_ONCE = 4
"""Frames to a message: each one wakes the other process, which costs more than what it says."""
SIGN_OF_LIFE_S = 0.5
"""How often a child at work says so."""
Places: TypeAlias = "list[tuple[int, tuple[int, ...]]]"
"""Of each picture of a frame: offset in its slot, and shape."""
_Stored: TypeAlias = "tuple[int, Places, dict[str, Any]]"
"""A frame in shared memory: slot, its pictures' places there, and the rest of `Frame`."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of <malloc.h>
_KEPT_BYTES = 32 << 20  # the most that glibc takes; a 4K picture has 25 MB


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

    def _store(self, images: Sequence[NDArray[np.uint8]], slot: int, places: Places) -> None:
        """Copy a frame's pictures to their places in a slot."""
        assert self._memory is not None  # _free_slot made it
        once = {offset: image for image, (offset, _) in zip(images, places, strict=True)}
        for offset, image in once.items():
            start = slot * self._slot_bytes + offset
            target = np.frombuffer(self._memory, np.uint8, image.nbytes, start)
            target.reshape(image.shape)[:] = image


def _laid_out(images: Sequence[NDArray[np.uint8]]) -> tuple[Places, int]:
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

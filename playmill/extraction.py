"""Extract one chunk: decode -> scale -> backbone -> part. Knows no job, no queue.

Decoding and scaling run in a process of their own, and several batches go through the backbone
side by side, so that every core has work; bounded queues between them keep memory small whatever
the length of the chunk.
"""

from __future__ import annotations

import hashlib
import logging
import platform
import queue
import shutil
import socket
import threading
import time
from array import array
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from playmill import failpoints
from playmill.decoding.motion import motion_rows
from playmill.decoding.process import DecodeProcess
from playmill.errors import CorruptVideo, DecoderDied
from playmill.frame_processor import FrameProcessor
from playmill.frames import Frame, decoder_version
from playmill.jobs import Commit
from playmill.manifest import Manifest
from playmill.parts import PartWriter
from playmill.plan import Chunk
from playmill.schema import frame_flag

log = logging.getLogger(__name__)

BLACK_LEVEL = 16
"""A picture none of whose values exceeds this is black (video black is 16 of 255)."""
_QUEUED_BATCHES = 2


@dataclass(frozen=True, slots=True)
class _Batch:
    """Decoded frames at the backbone's input size."""

    pts: list[int]
    flags: list[int]
    glances: NDArray[np.uint8]
    """(b, *motion.PICTURE_SIZE)."""
    pictures: NDArray[np.uint8]
    """(b, h, w, 3)."""
    images: NDArray[np.uint8] | None
    """(b, H, W, 3) to be stored, if that was asked for."""


@dataclass(slots=True)
class _Rows:
    """What is known of the part's rows so far."""

    pts: list[int] = field(default_factory=list)
    flags: list[int] = field(default_factory=list)
    first_picture: NDArray[np.uint8] | None = None
    last_picture: NDArray[np.uint8] | None = None
    first_glance: NDArray[np.uint8] | None = None
    last_glance: NDArray[np.uint8] | None = None

    def add(self, batch: _Batch) -> None:
        if self.first_picture is None:
            self.first_picture, self.first_glance = batch.pictures[0].copy(), batch.glances[0]
        self.last_glance = batch.glances[-1]
        for pts, flags, picture in zip(batch.pts, batch.flags, batch.pictures, strict=True):
            repeated = self.last_picture is not None and np.array_equal(picture, self.last_picture)
            self.pts.append(pts)
            self.flags.append(flags | (frame_flag("duplicate_picture") if repeated else 0))
            self.last_picture = picture


@dataclass(slots=True)
class Extractor:
    """What a process needs to extract chunks, kept from one chunk to the next."""

    processor: FrameProcessor
    decoder: DecodeProcess
    num_passes: int = 1
    """Batches that go through the backbone side by side, each in a thread of its own, if it bears
    that."""

    def extract(self, source: Path, chunk: Chunk, manifest: Manifest, *, folder: Path) -> Commit:
        """Write one chunk's part into `folder` (which must not exist); return its commit.

        A chunk that comes out short or damaged, or kills the decoder, is decoded once more,
        single-threaded, going on after errors; what that gives is the result, with a warning.

        Raises:
            DecoderDied: the decoder crashed or hung both times.
            OSError: the part cannot be written.
        """
        started = time.monotonic()
        trouble: str | None
        try:
            rows, digests = self._write_part(source, chunk, manifest, folder, tolerant=False)
            missing = chunk.num_frames - len(rows.pts)
            trouble = f"{missing} of {chunk.num_frames} frames missing" if missing > 0 else None
        except (CorruptVideo, DecoderDied) as error:
            trouble = _without_path(error)
        warnings: tuple[str, ...] = ()
        if trouble is not None:
            log.warning("chunk %s of %s is decoded again: %s", chunk.id, source.name, trouble)
            shutil.rmtree(folder, ignore_errors=True)
            rows, digests = self._write_part(source, chunk, manifest, folder, tolerant=True)
            # What came out whole after all is not worth a word in the dataset: a decoder may
            # have been killed from outside.
            damaged = sum(bool(flags & frame_flag("damaged")) for flags in rows.flags)
            if damaged or len(rows.pts) < chunk.num_frames:
                warnings = (
                    f"chunk {chunk.id}: {len(rows.pts)} of {chunk.num_frames} frames could be"
                    f" decoded, {damaged} of them damaged ({trouble})",
                )
        return Commit(
            chunk_index=chunk.index,
            attempt=folder.name,
            pts=array("q", rows.pts),
            flags=array("B", rows.flags),
            digests=digests,
            first_picture=_digest(rows.first_picture),
            last_picture=_digest(rows.last_picture),
            decoder=decoder_version(),
            hardware=f"{self.processor.device}: {hardware_name()} on {socket.gethostname()}",
            batch_size=self.processor.batch_used,
            seconds=round(time.monotonic() - started, 3),
            warnings=warnings,
        )

    def _write_part(
        self, source: Path, chunk: Chunk, manifest: Manifest, folder: Path, *, tolerant: bool
    ) -> tuple[_Rows, dict[str, str]]:
        image_size = manifest.config.image_size
        part = PartWriter(folder, dim=self.processor.feature_dim, image_size=image_size)
        failpoints.reached("extract:part-created")
        rows = _Rows()
        sizes = [self.processor.model_input_size, *([] if image_size is None else [image_size])]
        frames = self.decoder.frames(source, chunk, sizes=sizes, tolerant=tolerant)
        batches = ahead(batched(frames, self.processor, image_size=image_size), _QUEUED_BATCHES)
        num_passes = self.num_passes if self.processor.reentrant else 1
        for batch, features in with_features(batches, self.processor, num_passes):
            part.append("features", features)
            if batch.images is not None:
                part.append("images", batch.images)
            part.append("motion", motion_rows(batch.glances, rows.last_glance))
            rows.add(batch)
            failpoints.reached("extract:batch-written")
        if rows.first_glance is not None and rows.last_glance is not None:
            part.append("glances", np.stack([rows.first_glance, rows.last_glance]))
        digests = part.close()
        failpoints.reached("extract:part-written")
        return rows, digests


def with_features(
    batches: Generator[_Batch], processor: FrameProcessor, num_passes: int
) -> Generator[tuple[_Batch, NDArray[np.float16]]]:
    """Yield every batch with its features, in order, `num_passes` of them computed at a time.

    Passes of one thread each, side by side, do more in a second than one pass of several threads:
    nothing waits for the slowest at the end of every layer, and what a decoder takes of one core
    does not hold up the others.
    """
    running: deque[tuple[_Batch, Future[NDArray[np.float16]]]] = deque()
    with ThreadPoolExecutor(num_passes, "backbone") as pool:
        try:
            for batch in batches:
                running.append((batch, pool.submit(processor.extract, batch.pictures)))
                # One more than run: the next must lie ready when a pass ends.
                if len(running) > num_passes:
                    done, features = running.popleft()
                    yield done, features.result()
            while running:
                done, features = running.popleft()
                yield done, features.result()
        finally:
            for _, features in running:
                features.cancel()
            batches.close()


def batched(
    frames: Iterator[Frame], processor: FrameProcessor, *, image_size: tuple[int, int] | None
) -> Iterator[_Batch]:
    """Group frames into batches at the backbone's size; only the last may be short."""
    pending: list[Frame] = []
    for frame in frames:
        pending.append(frame)
        if len(pending) == processor.batch_size:
            yield _make_batch(pending, processor, image_size)
            pending = []
    if pending:
        yield _make_batch(pending, processor, image_size)


def _make_batch(
    frames: list[Frame], processor: FrameProcessor, image_size: tuple[int, int] | None
) -> _Batch:
    # What the decoder's process did not scale is scaled here; the rest is put together.
    pictures = processor.resize([frame.images[0] for frame in frames])
    images = [frame.images[-1] for frame in frames]
    return _Batch(
        pts=[frame.pts for frame in frames],
        flags=[_flags_of(frame, picture) for frame, picture in zip(frames, pictures, strict=True)],
        glances=np.stack([frame.glance for frame in frames]),
        pictures=pictures,
        images=None if image_size is None else processor.resize(images, size=image_size),
    )


def _flags_of(frame: Frame, picture: NDArray[np.uint8]) -> int:
    return (
        (frame_flag("damaged") if frame.damaged else 0)
        | (frame_flag("pts_repaired") if frame.repaired else 0)
        | (frame_flag("black") if int(picture.max()) <= BLACK_LEVEL else 0)
    )


def _digest(picture: NDArray[np.uint8] | None) -> str:
    """Return what tells a picture from others; "" for none."""
    return "" if picture is None else hashlib.blake2b(picture.tobytes(), digest_size=8).hexdigest()


def _without_path(error: CorruptVideo | DecoderDied) -> str:
    """Say what happened without saying on which host's disk: the text goes into the dataset."""
    what = error.found if isinstance(error, CorruptVideo) else f"the decoder died: {error.how}"
    return f"{error.place}: {what}" if error.place else what


_END = object()


def ahead(items: Iterator[_Batch], depth: int) -> Generator[_Batch]:
    """Yield `items` while a thread makes up to `depth` of them in advance.

    The thread ends before the generator does, whichever way that is, so that the next chunk
    finds the decoder free.
    """
    ready: queue.Queue[Any] = queue.Queue(maxsize=depth)
    stopped = threading.Event()

    def put(item: object) -> None:
        while not stopped.is_set():
            try:
                ready.put(item, timeout=0.1)
                return
            except queue.Full:
                continue

    def make() -> None:
        try:
            for item in items:
                put(item)
                if stopped.is_set():
                    break
            put(_END)
        except BaseException as error:  # handed to the consumer, who raises it
            put(error)

    thread = threading.Thread(target=make, name="decode-ahead", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not _END:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopped.set()
        thread.join()


def hardware_name() -> str:
    """Return the processor's name as the system gives it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()

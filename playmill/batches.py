"""Decoded frames in batches, made ahead of the backbone, across the edges of chunks.

Knows no parts and no jobs. One thread decodes one chunk after the other; bounded queues keep
memory small, whatever the number and the length of the chunks.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from playmill.config import Decoder
from playmill.decoding.process import DecodeProcess
from playmill.errors import CorruptVideo, DecoderDied
from playmill.frame_processor import FrameProcessor
from playmill.frames import Frame
from playmill.passes import Pass
from playmill.plan import Chunk
from playmill.schema import frame_flag

log = logging.getLogger(__name__)

BLACK_LEVEL = 16
"""A picture none of whose values exceeds this is black (video black is 16 of 255)."""
QUEUED_BATCHES = 2


@dataclass(frozen=True, slots=True)
class Batch:
    """Decoded frames at the backbone's input size."""

    pts: list[int]
    flags: list[int]
    glances: NDArray[np.uint8]
    """(b, *motion.PICTURE_SIZE)."""
    pictures: NDArray[np.uint8]
    """(b, h, w, 3)."""
    images: NDArray[np.uint8] | None
    """(b, H, W, 3) to be stored, if that was asked for."""
    decoder: Decoder = "cpu"
    """What decoded them."""


@dataclass(frozen=True, slots=True)
class Again:
    """What has come of this chunk is void: it is decoded anew, going on after errors."""

    trouble: str


@dataclass(frozen=True, slots=True)
class ChunkEnd:
    """All batches of this chunk have come."""


Step: TypeAlias = Batch | Again | ChunkEnd
"""What decoding gives, in order: batches, Again at most once, more batches, ChunkEnd; and so on."""


def decoded(
    decoder: DecodeProcess,
    source: Path,
    chunks: Sequence[Chunk],
    processor: FrameProcessor,
    *,
    image_size: tuple[int, int] | None,
) -> Generator[Step]:
    """Decode `chunks`, one after the other.

    A chunk that comes out short or damaged, or kills the decoder, is decoded once more,
    single-threaded, going on after errors.

    Raises:
        DecoderDied: the decoder crashed or hung both times.
        CorruptVideo, SourceChanged: as `DecodeProcess.frames`, the second time.
        DecoderUnavailable: what is to decode is not there.
    """
    sizes = [processor.model_input_size, *([] if image_size is None else [image_size])]
    for chunk in chunks:
        num_frames = 0
        trouble: str | None
        try:
            frames = decoder.frames(source, chunk, sizes=sizes)
            for batch in batched(frames, processor, sizes):
                num_frames += len(batch.pts)
                yield batch
            missing = chunk.num_frames - num_frames
            trouble = f"{missing} of {chunk.num_frames} frames missing" if missing > 0 else None
        except (CorruptVideo, DecoderDied) as error:
            trouble = _without_path(error)
        if trouble is not None:
            log.warning("chunk %s of %s is decoded again: %s", chunk.id, source.name, trouble)
            yield Again(trouble)
            frames = decoder.frames(source, chunk, sizes=sizes, tolerant=True)
            yield from batched(frames, processor, sizes)
        yield ChunkEnd()


def batched(
    frames: Iterator[Frame], processor: FrameProcessor, sizes: Sequence[tuple[int, int]]
) -> Iterator[Batch]:
    """Group frames into batches at the sizes asked for; only the last may be short.

    Args:
        sizes: the backbone's, and perhaps that of stored pictures, in the order of `images`.
    """
    pending: list[Frame] = []
    for frame in frames:
        # One at a time: whole pictures of a batch could be hundreds of megabytes.
        images = (
            _at(size, image, processor) for size, image in zip(sizes, frame.images, strict=True)
        )
        pending.append(replace(frame, images=tuple(images)))
        if len(pending) == processor.batch_size:
            yield _make_batch(pending)
            pending = []
    if pending:
        yield _make_batch(pending)


def _at(
    size: tuple[int, int], image: NDArray[np.uint8], processor: FrameProcessor
) -> NDArray[np.uint8]:
    """Return a picture at `size`; the decoder's process has scaled what it could."""
    return image if image.shape[:2] == size else processor.resize([image], size=size)[0]


def _make_batch(frames: list[Frame]) -> Batch:
    has_images = len(frames[0].images) > 1
    return Batch(
        pts=[frame.pts for frame in frames],
        flags=[_flags_of(frame) for frame in frames],
        glances=np.stack([frame.glance for frame in frames]),
        pictures=np.stack([frame.images[0] for frame in frames]),
        images=np.stack([frame.images[1] for frame in frames]) if has_images else None,
        decoder=frames[0].decoder,
    )


def _flags_of(frame: Frame) -> int:
    return (
        (frame_flag("damaged") if frame.damaged else 0)
        | (frame_flag("pts_repaired") if frame.repaired else 0)
        | (frame_flag("black") if int(frame.image.max()) <= BLACK_LEVEL else 0)
    )


def _without_path(error: CorruptVideo | DecoderDied) -> str:
    """Say what happened without saying on which host's disk: the text goes into the dataset."""
    what = error.found if isinstance(error, CorruptVideo) else f"the decoder died: {error.how}"
    return f"{error.place}: {what}" if error.place else what


def through_backbone(
    steps: Generator[Step], processor: FrameProcessor, num_passes: int
) -> Generator[tuple[Step, Pass | None]]:
    """Yield every step, in order, a batch with its pass, `num_passes` computed at a time.

    Passes of one thread each, side by side, do more in a second than one pass of several threads:
    nothing waits for the slowest at the end of every layer, and what a decoder takes of one core
    does not hold up the others. On a GPU, which takes passes one after the other, the next stands
    in line there before the features of the last one are taken back. The end of a chunk holds
    nothing up: the next chunk's first batches are under way before this one's last are taken.
    """
    running: deque[tuple[Step, Future[Pass] | None]] = deque()
    num_running = 0
    with ThreadPoolExecutor(num_passes, "backbone") as pool:
        try:
            for step in steps:
                begun = None
                if isinstance(step, Batch):
                    begun = pool.submit(processor.begin, step.pictures)
                    num_running += 1
                running.append((step, begun))
                # One more than run: the next must lie ready when a pass ends.
                while running and (running[0][1] is None or num_running > num_passes):
                    step, begun = running.popleft()
                    num_running -= begun is not None
                    yield step, None if begun is None else begun.result()
            while running:
                step, begun = running.popleft()
                yield step, None if begun is None else begun.result()
        finally:
            for _, begun in running:
                if begun is not None:
                    begun.cancel()
            steps.close()


_END = object()


def ahead(items: Generator[Step], depth: int) -> Generator[Step]:
    """Yield `items` while a thread makes up to `depth` of them in advance.

    The thread ends before the generator does, whichever way that is, so that whoever comes next
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
            with closing(items):
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

"""Extract one chunk: decode -> resize -> backbone -> part. Knows no job, no queue.

Decoding runs in a process of its own and resizing in a thread, so that both overlap with the
backbone; bounded queues between them keep memory small whatever the length of the chunk.
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
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from playmill import failpoints
from playmill.decode_process import DecodeProcess
from playmill.errors import CorruptVideo, DecoderDied
from playmill.frame_processor import FrameProcessor
from playmill.frames import Frame, decoder_version
from playmill.jobs import Commit
from playmill.manifest import Manifest
from playmill.motion import motion_rows
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
    digests: list[str]
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
    first_picture: str = ""
    last_picture: str = ""
    first_glance: NDArray[np.uint8] | None = None
    last_glance: NDArray[np.uint8] | None = None

    def add(self, batch: _Batch) -> None:
        if self.first_glance is None:
            self.first_glance = batch.glances[0]
        self.last_glance = batch.glances[-1]
        for pts, flags, digest in zip(batch.pts, batch.flags, batch.digests, strict=True):
            repeated = frame_flag("duplicate_picture") if digest == self.last_picture else 0
            self.pts.append(pts)
            self.flags.append(flags | repeated)
            self.first_picture = self.first_picture or digest
            self.last_picture = digest


@dataclass(slots=True)
class Extractor:
    """What a process needs to extract chunks, kept from one chunk to the next."""

    processor: FrameProcessor
    decoder: DecodeProcess

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
            pts=tuple(rows.pts),
            flags=tuple(rows.flags),
            digests=digests,
            first_picture=rows.first_picture,
            last_picture=rows.last_picture,
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
        frames = self.decoder.frames(source, chunk, tolerant=tolerant)
        batches = batched(frames, self.processor, image_size=image_size)
        for batch in ahead(batches, _QUEUED_BATCHES):
            part.append("features", self.processor.extract(batch.pictures))
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
    raw = [frame.image for frame in frames]
    pictures = processor.resize(raw)
    return _Batch(
        pts=[frame.pts for frame in frames],
        flags=[_flags_of(frame, picture) for frame, picture in zip(frames, pictures, strict=True)],
        digests=[hashlib.blake2b(picture.data, digest_size=8).hexdigest() for picture in pictures],
        glances=np.stack([frame.glance for frame in frames]),
        pictures=pictures,
        images=None if image_size is None else processor.resize(raw, size=image_size),
    )


def _flags_of(frame: Frame, picture: NDArray[np.uint8]) -> int:
    return (
        (frame_flag("damaged") if frame.damaged else 0)
        | (frame_flag("pts_repaired") if frame.repaired else 0)
        | (frame_flag("black") if int(picture.max()) <= BLACK_LEVEL else 0)
    )


def _without_path(error: CorruptVideo | DecoderDied) -> str:
    """Say what happened without saying on which host's disk: the text goes into the dataset."""
    what = error.found if isinstance(error, CorruptVideo) else f"the decoder died: {error.how}"
    return f"{error.place}: {what}" if error.place else what


_END = object()


def ahead(items: Iterator[_Batch], depth: int) -> Iterator[_Batch]:
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

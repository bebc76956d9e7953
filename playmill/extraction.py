"""Extract chunks: decode -> scale -> backbone -> part. Knows no job, no queue.

Decoding and scaling run in a process of their own, and several batches go through the backbone
side by side, so that every core has work (`batches.py`); here their features become parts.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import socket
import time
from array import array
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from playmill import failpoints
from playmill.batches import (
    QUEUED_BATCHES,
    Again,
    Batch,
    ChunkEnd,
    Step,
    ahead,
    decoded,
    through_backbone,
)
from playmill.config import Decoder
from playmill.decoding.motion import motion_rows
from playmill.decoding.process import DecodeProcess
from playmill.frame_processor import FrameProcessor
from playmill.frames import decoder_version
from playmill.jobs import Commit
from playmill.manifest import Manifest
from playmill.parts import PartWriter
from playmill.passes import Pass
from playmill.plan import Chunk
from playmill.processor import hardware_name
from playmill.schema import frame_flag

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Rows:
    """What is known of the part's rows so far."""

    pts: list[int] = field(default_factory=list)
    flags: list[int] = field(default_factory=list)
    first_picture: NDArray[np.uint8] | None = None
    last_picture: NDArray[np.uint8] | None = None
    first_glance: NDArray[np.uint8] | None = None
    last_glance: NDArray[np.uint8] | None = None
    decoder: Decoder = "cpu"
    """What decoded them: one for the whole of a chunk."""
    batch_used: int = 0
    """Pictures that the last batch sent through the backbone together, which never grows."""

    def add(self, batch: Batch, batch_used: int) -> None:
        self.batch_used, self.decoder = batch_used, batch.decoder
        if self.first_picture is None:
            self.first_picture, self.first_glance = batch.pictures[0].copy(), batch.glances[0]
        self.last_glance = batch.glances[-1]
        for pts, flags, picture in zip(batch.pts, batch.flags, batch.pictures, strict=True):
            repeated = self.last_picture is not None and np.array_equal(picture, self.last_picture)
            self.pts.append(pts)
            self.flags.append(flags | (frame_flag("duplicate_picture") if repeated else 0))
            self.last_picture = picture


@dataclass(frozen=True, slots=True)
class _Written:
    """One chunk's part, as it lies on disk."""

    rows: _Rows
    digests: dict[str, str]
    trouble: str | None
    """Why the chunk was decoded twice; None: it was not."""


@dataclass(slots=True)
class Extractor:
    """What a process needs to extract chunks, kept from one chunk to the next."""

    processor: FrameProcessor
    decoder: DecodeProcess
    num_passes: int = 1
    """Batches that go through the backbone side by side, each in a thread of its own, if it bears
    that."""

    def extract(self, source: Path, chunk: Chunk, manifest: Manifest, *, folder: Path) -> Commit:
        """Extract one chunk: `extract_all` of it alone."""
        (commit,) = self.extract_all(source, [chunk], manifest, folders=[folder])
        return commit

    def extract_all(
        self, source: Path, chunks: Sequence[Chunk], manifest: Manifest, *, folders: Sequence[Path]
    ) -> Generator[Commit]:
        """Write each chunk's part into its folder (which must not exist); yield the commits.

        While the last batches of a chunk are computed and its part is put on disk, the next one is
        decoded already, and its first batches wait for the backbone.

        A chunk that comes out short or damaged, or kills the decoder, is decoded once more,
        single-threaded, going on after errors; what that gives is the result, with a warning.

        Raises:
            DecoderDied: the decoder crashed or hung both times.
            DecoderUnavailable: what is to decode is not there.
            OSError: a part cannot be written.
        """
        image_size = manifest.config.image_size
        steps = decoded(self.decoder, source, chunks, self.processor, image_size=image_size)
        num_passes = self.num_passes if self.processor.reentrant else 1
        with closing(
            through_backbone(ahead(steps, QUEUED_BATCHES), self.processor, num_passes)
        ) as passes:
            started = time.monotonic()
            for chunk, folder in zip(chunks, folders, strict=True):
                written = self._write_part(passes, folder, image_size)
                ended = time.monotonic()
                yield self._commit(chunk, folder, written, seconds=ended - started)
                started = ended

    def _write_part(
        self,
        passes: Iterator[tuple[Step, Pass | None]],
        folder: Path,
        image_size: tuple[int, int] | None,
    ) -> _Written:
        """Write what comes, up to the end of a chunk; begin anew where that is asked for."""
        part, rows, trouble = self._new_part(folder, image_size), _Rows(), None
        for step, computed in passes:
            if isinstance(step, ChunkEnd):
                break
            if isinstance(step, Again):
                shutil.rmtree(folder, ignore_errors=True)
                part, rows, trouble = self._new_part(folder, image_size), _Rows(), step.trouble
                continue
            assert computed is not None  # a batch has its pass
            part.append("features", computed.features())
            if step.images is not None:
                part.append("images", step.images)
            part.append("motion", motion_rows(step.glances, rows.last_glance))
            rows.add(step, computed.batch_used)
            failpoints.reached("extract:batch-written")
        if rows.first_glance is not None and rows.last_glance is not None:
            part.append("glances", np.stack([rows.first_glance, rows.last_glance]))
        digests = part.close()
        failpoints.reached("extract:part-written")
        return _Written(rows, digests, trouble)

    def _new_part(self, folder: Path, image_size: tuple[int, int] | None) -> PartWriter:
        part = PartWriter(folder, dim=self.processor.feature_dim, image_size=image_size)
        failpoints.reached("extract:part-created")
        return part

    def _commit(self, chunk: Chunk, folder: Path, written: _Written, *, seconds: float) -> Commit:
        rows = written.rows
        warnings: tuple[str, ...] = ()
        # What came out whole after all is not worth a word in the dataset: a decoder may have
        # been killed from outside.
        damaged = sum(bool(flags & frame_flag("damaged")) for flags in rows.flags)
        if written.trouble is not None and (damaged or len(rows.pts) < chunk.num_frames):
            warnings = (
                f"chunk {chunk.id}: {len(rows.pts)} of {chunk.num_frames} frames could be"
                f" decoded, {damaged} of them damaged ({written.trouble})",
            )
        if rows.decoder != self.decoder.kind and written.trouble is None:
            log.warning(
                "chunk %s: decoded by %s, as %s gave no frame of it",
                chunk.id,
                rows.decoder,
                self.decoder.kind,
            )
        return Commit(
            chunk_index=chunk.index,
            attempt=folder.name,
            pts=array("q", rows.pts),
            flags=array("B", rows.flags),
            digests=written.digests,
            first_picture=_digest(rows.first_picture),
            last_picture=_digest(rows.last_picture),
            decoder=decoder_version(rows.decoder),
            hardware=f"{self.processor.device}: {hardware_name()} on {socket.gethostname()}",
            batch_size=rows.batch_used or self.processor.batch_used,
            seconds=round(seconds, 3),
            warnings=warnings,
        )


def _digest(picture: NDArray[np.uint8] | None) -> str:
    """Return what tells a picture from others; "" for none."""
    return "" if picture is None else hashlib.blake2b(picture.tobytes(), digest_size=8).hexdigest()

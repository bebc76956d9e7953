"""Where a dataset's rows of features and pictures come from: parts, or a published dataset."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from playmill.dataset import Dataset, open_dataset
from playmill.decoding.motion import COLUMNS, join_chunks
from playmill.errors import DatasetError, PartError
from playmill.jobs import Commit
from playmill.parts import Promise, read_parts
from playmill.publishing.joined_frames import Frames
from playmill.reading.row_reader import blocks

RowName = Literal["features", "images"]


class RowSource(Protocol):
    """Where the rows of features and pictures come from."""

    def dim(self) -> int:
        """Return D, the length of a feature."""

    def rows(self, name: RowName, frames: Frames) -> Iterator[NDArray[Any]]:
        """Yield the rows of `frames` in order, in blocks; PartError if they are not as promised."""

    def motion(self, frames: Frames) -> NDArray[np.float16]:
        """Return (N, C) `motion.COLUMNS` of `frames`; PartError if they are not as promised."""


@dataclass(frozen=True, slots=True)
class PartRows:
    """Rows from the parts, verified against the commits as they are read."""

    parts: Sequence[Path]
    commits: Sequence[Commit]

    def dim(self) -> int:
        """Return D, the length of a feature."""
        for promise in self._promises("features"):
            if promise.num_rows:
                return int(next(read_parts([promise])).shape[1])
        raise AssertionError("join_frames has seen a frame")

    def damaged(self) -> list[Commit]:
        """Read everything; return the commits whose parts are not what they promise."""
        found = []
        for folder, commit in zip(self.parts, self.commits, strict=True):
            one = PartRows([folder], [commit])
            try:
                for name in commit.digests:
                    for _ in read_parts(one._promises(name)):
                        pass
            except PartError:
                found.append(commit)
        return found

    def rows(self, name: RowName, frames: Frames) -> Iterator[NDArray[Any]]:
        """Yield the rows that `frames.keep` chooses."""
        start = 0
        for block in read_parts(self._promises(name)):
            chosen = frames.keep[start : start + len(block)]
            start += len(block)
            yield block if bool(chosen.all()) else block[chosen]

    def _promises(self, name: str) -> Iterator[Promise]:
        for folder, commit in zip(self.parts, self.commits, strict=True):
            # The first and the last picture, twice the same of a chunk with a single one.
            num_rows = 2 * bool(commit.pts) if name == "glances" else len(commit.pts)
            digest = commit.digests[name]
            yield Promise(folder=folder, name=name, num_rows=num_rows, digest=digest)

    def motion(self, frames: Frames) -> NDArray[np.float16]:
        """Join the motion of the chunks."""
        motion = np.empty((len(frames.keep), len(COLUMNS)), np.float16)
        start = 0
        for block in read_parts(self._promises("motion")):
            motion[start : start + len(block)] = block
            start += len(block)
        lengths = [len(commit.pts) for commit in self.commits if commit.pts]
        glances = np.concatenate([pair.copy() for pair in read_parts(self._promises("glances"))])
        starts = np.cumsum([0, *lengths[:-1]])
        join_chunks(motion, starts, first=glances[0::2], last=glances[1::2])
        # A frame that was left out is what the next one was compared with.
        motion[1:][~frames.keep[:-1]] = np.nan
        return motion if bool(frames.keep.all()) else motion[frames.keep]


@dataclass(frozen=True, slots=True)
class DatasetRows:
    """Rows from a published dataset, once the parts they were made of are gone.

    HDF5's checksums guard them; the parts key stored beside them says that they are the same.
    """

    path: Path
    key: str
    """Feature key."""
    parts_key: str

    def dim(self) -> int:
        """Return D, the length of a feature."""
        with self._opened() as dataset:
            return int(dataset.features(self.key).shape[1])

    def rows(self, name: RowName, frames: Frames) -> Iterator[NDArray[Any]]:
        """Yield the rows, all of which must be those of `frames`."""
        with self._opened() as dataset:
            if not np.array_equal(dataset.pts, frames.pts):
                raise PartError(str(self.path), "has other frames than the commits")
            if name == "images" and not dataset.has_images:
                raise PartError(str(self.path), "has no pictures")
            yield from blocks(dataset.images if name == "images" else dataset.features(self.key))

    def motion(self, frames: Frames) -> NDArray[np.float16]:
        """Return the stored motion, which must be that of `frames`."""
        with self._opened() as dataset:
            if dataset.motion is None or not np.array_equal(dataset.pts, frames.pts):
                raise PartError(str(self.path), "has no motion, or of other frames")
            return np.asarray(dataset.motion[...], np.float16)

    @contextmanager
    def _opened(self) -> Iterator[Dataset]:
        try:
            with open_dataset(self.path) as dataset:
                if self.key not in dataset.feature_keys:
                    raise PartError(str(self.path), f"has no features {self.key}")
                if dataset.features(self.key).attrs["parts_key"] != self.parts_key:
                    raise PartError(str(self.path), f"its features {self.key} are other ones")
                yield dataset
        except (OSError, DatasetError) as error:
            fault = error if isinstance(error, OSError) else error.__cause__
            if isinstance(fault, OSError) and self._is_passing(fault):
                raise fault from None
            raise PartError(str(self.path), f"its features cannot be read: {error}") from error

    def _is_passing(self, error: OSError) -> bool:
        """Say whether an error is one of the disk, which says nothing about the rows.

        A damaged file is one too for HDF5, but one without a number. A file that is not there has
        gone only if something else is there: a folder that is not mounted is empty.
        """
        if isinstance(error, FileNotFoundError):
            return not any(self.path.parent.parent.glob("*"))
        return error.errno is not None or "errno = " in str(error)

"""Where the pictures of a page come from: the dataset itself, else the video it was made of.

Nothing here decides which frames are shown, and a page is made without pictures too.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from playmill.dataset import Dataset
from playmill.report.markup import Markup

MAX_SIDE = 320
"""Pixels of a picture's longer side."""
NEEDS_EXTRA = "No pictures: they need the extra `extract` (pip install 'playmill[extract]')."


@dataclass(frozen=True, kw_only=True, slots=True)
class Pictures:
    """The pictures of one page."""

    jpegs: dict[int, bytes] = field(default_factory=dict)
    """By frame."""
    note: str
    """Where they come from; without any, why and what to do about it."""

    def uri(self, frame: int) -> Markup | None:
        """Return the picture of `frame` as a data: URI; None where there is none."""
        jpeg = self.jpegs.get(frame)
        if jpeg is None:
            return None
        return Markup("data:image/jpeg;base64," + base64.b64encode(jpeg).decode())


class PictureSource(Protocol):
    """Gives pictures of a dataset's frames."""

    def reachable(self, dataset: Dataset) -> NDArray[np.bool_] | None:
        """Return (N,) which frames can be had at a fair price; None: all."""

    def take(self, dataset: Dataset, frames: Sequence[int]) -> Pictures:
        """Return the pictures of `frames`, as far as they can be had."""


class StoredPictures:
    """The pictures in the dataset."""

    def reachable(self, dataset: Dataset) -> None:
        """Return None: every frame has one."""

    def take(self, dataset: Dataset, frames: Sequence[int]) -> Pictures:
        """Return the stored pictures of `frames`."""
        from playmill.report import jpeg

        height, width = dataset.images.shape[1:3]
        return Pictures(
            jpegs={
                frame: jpeg.encode(dataset.images[frame], max_side=MAX_SIDE) for frame in frames
            },
            note=f"Pictures as the dataset stores them, {width} x {height}.",
        )


class NoPictures:
    """No pictures, for a reason."""

    def __init__(self, why: str) -> None:
        self._why = why

    def reachable(self, dataset: Dataset) -> None:
        """Return None: no frame is better than another."""

    def take(self, dataset: Dataset, frames: Sequence[int]) -> Pictures:
        """Return none."""
        return Pictures(note=self._why)


def picture_source(
    dataset: Dataset, *, video: Path | None = None, store: Path | None = None
) -> PictureSource:
    """Return where pictures of `dataset` can be had.

    Args:
        video: the video that the user named; it goes before stored pictures.
        store: the mill's store, which may know where the video lies; None: none is near.
    Raises:
        UsageError: `video` cannot be read, or is not the dataset's video.
    """
    try:
        from playmill.report import video_pictures
    except ImportError:
        return NoPictures(NEEDS_EXTRA)
    if video is not None:
        return video_pictures.named_video(dataset, video)
    if dataset.has_images:
        return StoredPictures()
    found = video_pictures.find_video(dataset, store) if store is not None else None
    return found or NoPictures(
        "No pictures: the dataset stores none, and its video was not found. Name it with"
        " `--video FILE`, or make the dataset with `--images HxW`."
    )

"""Pictures out of the video that a dataset was made of: a few frames, decoded apart."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from playmill.dataset import Dataset
from playmill.decoding.process import DecodeProcess
from playmill.errors import CorruptVideo, DecoderDied, PlaymillError, RecordingError, UsageError
from playmill.frames import Frame
from playmill.plan import Chunk, cut
from playmill.recording import read_recording
from playmill.report import jpeg
from playmill.report.pictures import MAX_SIDE, Pictures
from playmill.roots import Roots
from playmill.store import Store
from playmill.video_index import VideoIndex

MAX_REACH = 600
"""Frames that are decoded at most to come to one that is shown."""
_CHUNK_FRAMES = 30
_READING = (OSError, ValueError, KeyError, TypeError)


class VideoPictures:
    """Decodes pictures out of `index`'s video."""

    def __init__(self, index: VideoIndex, note: str) -> None:
        self._source = Path(index.source)
        self._chunks = cut(index, target_frames=_CHUNK_FRAMES)
        self._starts = np.array([chunk.start_pts for chunk in self._chunks], np.int64)
        self._note = note

    def _owner(self, pts: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.maximum(np.searchsorted(self._starts, pts, side="right") - 1, 0)

    def reachable(self, dataset: Dataset) -> NDArray[np.bool_]:
        """Return (N,) which frames are within `MAX_REACH` of where decoding can begin."""
        first = np.searchsorted(dataset.pts, self._starts[self._owner(dataset.pts)])
        return np.asarray(np.arange(len(dataset)) - first < MAX_REACH)

    def take(self, dataset: Dataset, frames: Sequence[int]) -> Pictures:
        """Decode `frames`; those that cannot be decoded are left out."""
        wanted: dict[int, dict[int, int]] = defaultdict(dict)
        reachable = self.reachable(dataset)
        owners = self._owner(dataset.pts)
        for frame in frames:
            chunk = int(owners[frame])
            if reachable[frame]:
                wanted[chunk][int(dataset.pts[frame])] = frame
        jpegs: dict[int, bytes] = {}
        with DecodeProcess() as decoder:
            for chunk, by_pts in sorted(wanted.items()):
                for picture in self._decode(decoder, self._chunks[chunk], set(by_pts)):
                    frame = by_pts[picture.pts]
                    jpegs[frame] = jpeg.encode(picture.image, max_side=MAX_SIDE)
        return Pictures(jpegs=jpegs, note=self._note)

    def _decode(self, decoder: DecodeProcess, chunk: Chunk, pts: set[int]) -> Iterator[Frame]:
        """Yield the frames at `pts`; after damage decode once more, going on after errors."""
        for tolerant in (False, True):
            try:
                for picture in decoder.frames(self._source, chunk, tolerant=tolerant):
                    if picture.pts in pts:
                        pts.remove(picture.pts)
                        yield picture
                        if not pts:
                            return
                return
            except CorruptVideo:
                continue
            except (PlaymillError, OSError):
                return


def named_video(dataset: Dataset, path: Path) -> VideoPictures:
    """Return the pictures of the video `path`, which the user says is the dataset's.

    Raises:
        UsageError: it cannot be read, or is another.
    """
    if not path.exists():
        raise UsageError(f"--video {path}: there is no such file")
    index = _index(path)
    if isinstance(index, PlaymillError):
        raise UsageError(f"--video: {index}") from index
    if index.digest == _recorded(dataset).get("digest"):
        return VideoPictures(index, _note(dataset))
    if index.time_base == dataset.time_base and np.isin(dataset.pts, index.pts).all():
        note = (
            f"Pictures decoded from {path.name}: its bytes are not those that the dataset was made"
            " of, but it has a picture at every frame's pts."
        )
        return VideoPictures(index, note)
    missing = int((~np.isin(dataset.pts, index.pts)).sum())
    raise UsageError(
        f"--video {path}: is not the video of this dataset, {_recorded(dataset).get('name')!r}: its"
        f" sha256 is another, and {missing} of {len(dataset)} frames have no picture at their pts"
        f" (time base {index.time_base}, in the dataset {dataset.time_base})"
    )


def find_video(dataset: Dataset, store: Path) -> VideoPictures | None:
    """Return the pictures of the dataset's video, where the store on this machine knows it.

    Only the very file counts, by its digest. None: it is unknown, gone, or has changed.
    """
    try:
        owner = Store(store).session_owner(dataset.path.parent.name)
        if owner is None:
            return None
        recording = Store(store).request(owner["job_id"]).recording
        place = Roots.whole_machine().resolve(recording)
        is_folder = place.is_dir()
        source = read_recording(place, identity=recording.path).source if is_folder else place
    except (*_READING, PlaymillError):
        return None
    if not source.exists():
        return None
    index = _index(source)
    if isinstance(index, PlaymillError) or index.digest != _recorded(dataset).get("digest"):
        return None
    return VideoPictures(index, _note(dataset))


def _index(path: Path) -> VideoIndex | PlaymillError:
    try:
        with DecodeProcess() as decoder:
            return decoder.index(path)
    except (RecordingError, DecoderDied) as error:
        return error


def _recorded(dataset: Dataset) -> dict[str, object]:
    video = dataset.provenance.get("video")
    return video if isinstance(video, dict) else {}


def _note(dataset: Dataset) -> str:
    return (
        f"Pictures decoded from the dataset's own video, {_recorded(dataset).get('name')}"
        " (same sha256)."
    )

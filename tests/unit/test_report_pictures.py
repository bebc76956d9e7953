"""Pictures are those of the frames they stand at, whatever they come from."""

from __future__ import annotations

import io
import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from playmill.config import PipelineConfig
from playmill.dataset import open_dataset
from playmill.errors import UsageError
from playmill.jobs import Request
from playmill.report import jpeg
from playmill.report.pictures import NoPictures, Pictures, StoredPictures, picture_source
from playmill.report.video_pictures import MAX_REACH, VideoPictures
from playmill.roots import Roots
from playmill.storage import DataStorage, ImageBlocks
from playmill.store import Store
from playmill.testing import draw_frame, make_video, read_number
from tests.unit.dataset_samples import make_content
from tests.unit.report_samples import make_dataset, make_video_dataset


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def numbers(pictures: Pictures) -> dict[int, int]:
    return {frame: read_number(pixels(data)) for frame, data in pictures.jpegs.items()}


def test_a_jpeg_looks_like_its_picture() -> None:
    ramp = np.arange(64, dtype=np.uint8) * 4
    image = np.stack(np.broadcast_arrays(ramp, ramp[:48, None], np.uint8(90)), axis=-1)
    shown = pixels(jpeg.encode(image, max_side=320))
    assert shown.shape == image.shape
    assert np.abs(shown.astype(int) - image).mean() < 3


@pytest.mark.parametrize(
    ("shape", "size"),
    [((1080, 1920), (180, 320)), ((2, 4000), (2, 320)), ((1, 1), (1, 1)), ((7, 5), (7, 5))],
)
def test_a_jpeg_is_bounded(shape: tuple[int, int], size: tuple[int, int]) -> None:
    image = np.full((*shape, 3), 200, np.uint8)
    shown = pixels(jpeg.encode(image, max_side=320))
    assert shown.shape[:2] == size
    assert np.abs(shown.astype(int) - 200).max() < 5


def test_stored_pictures_are_taken_first(tmp_path: Path) -> None:
    drawn = np.stack([draw_frame(number) for number in range(90)])
    images = ImageBlocks(size=(48, 64), blocks=[drawn])
    path = DataStorage(tmp_path).write(make_content(90), images=images)
    with open_dataset(path) as dataset:
        source = picture_source(dataset, store=tmp_path)
        assert isinstance(source, StoredPictures)
        taken = source.take(dataset, [3, 70])
    assert numbers(taken) == {3: 3, 70: 70}
    assert "64 x 48" in taken.note


@pytest.mark.parametrize("gop", [1, 15, 1000])
def test_the_video_gives_the_very_frames(tmp_path: Path, gop: int) -> None:
    path, video = make_video_dataset(tmp_path, gop=gop)
    with open_dataset(path) as dataset:
        source = picture_source(dataset, video=video)
        taken = source.take(dataset, [0, 1, 44, 45, 46, 89])
    assert numbers(taken) == {frame: frame for frame in (0, 1, 44, 45, 46, 89)}
    assert "same sha256" in taken.note


def test_frames_far_from_a_keyframe_are_not_decoded(tmp_path: Path) -> None:
    path, video = make_video_dataset(tmp_path, num_frames=MAX_REACH + 30, gop=10_000)
    with open_dataset(path) as dataset:
        source = picture_source(dataset, video=video)
        reachable = source.reachable(dataset)
        assert reachable is not None
        assert reachable.sum() == MAX_REACH
        taken = source.take(dataset, [MAX_REACH - 1, MAX_REACH])
    assert numbers(taken) == {MAX_REACH - 1: MAX_REACH - 1}


def test_damage_leaves_out_pictures_and_no_more(tmp_path: Path) -> None:
    path, video = make_video_dataset(tmp_path, num_frames=60, gop=30)
    with open_dataset(path) as dataset:
        source = picture_source(dataset, video=video)
        data = bytearray(video.read_bytes())
        middle = data.index(b"mdat") + 200
        data[middle : middle + 3000] = bytes(3000)
        video.write_bytes(data)
        taken = source.take(dataset, [5, 50])
    assert set(taken.jpegs) <= {5, 50}


def test_a_video_written_anew_is_taken_with_a_word_about_it(tmp_path: Path) -> None:
    path, video = make_video_dataset(tmp_path)
    copy = tmp_path / "other.mp4"
    copy.write_bytes(video.read_bytes() + bytes(8))
    with open_dataset(path) as dataset:
        taken = picture_source(dataset, video=copy).take(dataset, [7])
    assert numbers(taken) == {7: 7}
    assert "its bytes are not those" in taken.note


def test_another_video_is_refused(tmp_path: Path) -> None:
    path, _ = make_video_dataset(tmp_path)
    make_video(tmp_path / "b.mp4", numbers=range(9), pts=range(9), time_base=Fraction(1, 50))
    with open_dataset(path) as dataset:
        with pytest.raises(UsageError, match="is not the video of this dataset"):
            picture_source(dataset, video=tmp_path / "b.mp4")
        with pytest.raises(UsageError, match="there is no such file"):
            picture_source(dataset, video=tmp_path / "absent.mp4")
        (tmp_path / "text.mp4").write_text("no video")
        with pytest.raises(UsageError, match="8 bytes that cannot be opened"):
            picture_source(dataset, video=tmp_path / "text.mp4")


def in_store(store: Path, dataset: Path, recording: Path) -> None:
    """Note in a mill's store that `dataset` was made of `recording`."""
    place = Roots.whole_machine().locate(recording)
    request = Request.make(place, (), PipelineConfig(), submitted_ns=1)
    Store(store).submit(request)
    (store / "sessions").mkdir(parents=True, exist_ok=True)
    Store(store).claim_session(dataset.parent.name, request)


def test_the_store_knows_where_the_video_lies(tmp_path: Path) -> None:
    path, video = make_video_dataset(tmp_path)
    store = tmp_path / "datasets" / ".playmill"
    in_store(store, path, video)
    with open_dataset(path) as dataset:
        source = picture_source(dataset, store=store)
        assert isinstance(source, VideoPictures)
        assert numbers(source.take(dataset, [33])) == {33: 33}


@pytest.mark.parametrize("what", ["gone", "changed", "no video", "no store", "broken store"])
def test_what_is_not_the_very_video_is_not_taken_by_itself(tmp_path: Path, what: str) -> None:
    path, video = make_video_dataset(tmp_path)
    store = tmp_path / "store"
    if what != "no store":
        in_store(store, path, video)
    if what == "gone":
        video.unlink()
    elif what == "changed":
        video.write_bytes(video.read_bytes() + b"x")
    elif what == "no video":
        video.write_text("text")
    elif what == "broken store":
        for file in (store / "jobs").rglob("request.json"):
            file.write_text(json.dumps({"recording": 3}))
    with open_dataset(path) as dataset:
        source = picture_source(dataset, store=store)
        assert isinstance(source, NoPictures)
        assert "--video FILE" in source.take(dataset, [1]).note


def test_without_pictures_the_page_says_how_to_get_some(tmp_path: Path) -> None:
    with open_dataset(make_dataset(tmp_path, 3)) as dataset:
        note = picture_source(dataset).take(dataset, [0]).note
    assert "`--video FILE`" in note
    assert "`--images HxW`" in note

"""Extracting a chunk: the same rows for any number of passes, and an orderly end of a bad one."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from playmill import encoders
from playmill.batches import Batch, ChunkEnd, Step, through_backbone
from playmill.config import PipelineConfig
from playmill.decoding.motion import PICTURE_SIZE
from playmill.decoding.process import DecodeProcess
from playmill.encoders import Encoder, describe
from playmill.errors import EncoderError
from playmill.extraction import Extractor
from playmill.frame_processor import FrameProcessor
from playmill.frames import Frame
from playmill.jobs import Commit
from playmill.manifest import Manifest, make_manifest
from playmill.parts import Promise, read_parts
from playmill.passes import Pass
from playmill.plan import Chunk, cut
from playmill.recording import read_recording
from playmill.schema import frame_flag
from playmill.testing import MadeRecording, make_recording, make_stills
from playmill.video_index import index_video


@pytest.fixture(scope="module")
def decoder() -> Iterator[DecodeProcess]:
    with DecodeProcess() as process:
        yield process


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> MadeRecording:
    return make_recording(tmp_path_factory.mktemp("r"), seconds=2, gop=20, size=(320, 240))


def planned(folder: Path, config: PipelineConfig) -> Manifest:
    encoder = encoders.describe(config.encoder)
    recording = read_recording(folder, identity=folder.name)
    return make_manifest(recording, config, index=index_video, encoder=encoder)


def extracted(
    made: MadeRecording,
    decoder: DecodeProcess,
    folder: Path,
    *,
    config: PipelineConfig,
    num_passes: int,
) -> list[Commit]:
    """Extract every chunk; return what was committed, without what times and places it."""
    manifest = planned(made.folder, config)
    config = replace(config, num_threads=num_passes)
    processor = FrameProcessor.of_run(encoders.load(config.encoder, device="cpu"), config)
    extractor = Extractor(processor, decoder, num_passes)
    commits = [
        extractor.extract(made.video, chunk, manifest, folder=folder / chunk.id)
        for chunk in manifest.chunks
    ]
    return [replace(commit, seconds=0.0) for commit in commits]


@pytest.mark.parametrize("encoder", ["mean_pixel", "efficientnet_lite0"])
def test_the_number_of_passes_changes_no_bit(
    made: MadeRecording, decoder: DecodeProcess, tmp_path: Path, encoder: str
) -> None:
    config = PipelineConfig(encoder=encoder, chunk_frames=20, batch_size=3, image_size=(60, 80))
    one = extracted(made, decoder, tmp_path / "1", config=config, num_passes=1)
    for num_passes in (2, 5):
        folder = tmp_path / str(num_passes)
        assert extracted(made, decoder, folder, config=config, num_passes=num_passes) == one
    assert len(one) == 3
    assert all(commit.digests for commit in one)


def test_a_repeated_picture_is_flagged_and_the_ends_are_known(
    decoder: DecodeProcess, tmp_path: Path
) -> None:
    numbers = [3, 3, 7, 7, 7, 3]
    made_of = make_recording(tmp_path / "r", seconds=1)
    stills = tmp_path / "stills"
    make_stills(stills, numbers=numbers, times_us=range(10, 16))
    config = PipelineConfig(encoder="mean_pixel", batch_size=2)
    manifest = planned(made_of.folder, config)
    (chunk,) = cut(index_video(stills), target_frames=9)
    processor = FrameProcessor.from_encoder(
        encoders.load("mean_pixel", device="cpu"), batch_size=2, num_threads=1
    )
    commit = Extractor(processor, decoder, 2).extract(
        stills, chunk, manifest, folder=tmp_path / "part"
    )
    repeated = frame_flag("duplicate_picture")
    assert [bool(flags & repeated) for flags in commit.flags] == [
        False, True, False, True, True, False,
    ]  # fmt: skip
    assert commit.first_picture == commit.last_picture != ""


class Failing(nn.Module):
    """Gives a number too large to store from its third picture on."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def forward(self, x: Tensor) -> Tensor:
        self.seen += 1
        return torch.full((len(x), 1), 1.0 if self.seen < 3 else 1e9)


def test_a_pass_that_fails_ends_the_others_and_frees_the_decoder(
    made: MadeRecording, decoder: DecodeProcess, tmp_path: Path
) -> None:
    config = PipelineConfig(encoder="mean_pixel", chunk_frames=1000, batch_size=2)
    manifest = planned(made.folder, config)
    failing = FrameProcessor((64, 64), Failing(), "cpu", batch_size=2, num_threads=1)
    with pytest.raises(EncoderError, match=r"it gave a feature of 1e\+09"):
        Extractor(failing, decoder, 2).extract(
            made.video, manifest.chunks[0], manifest, folder=tmp_path / "bad"
        )
    assert not [one for one in threading.enumerate() if one.name.startswith("backbone")]
    assert len(list(decoder.frames(made.video, manifest.chunks[0]))) == 60


def one_batch(number: int) -> Batch:
    """Return a batch of one picture, whose values are all `number`."""
    pictures = np.full((1, 8, 8, 3), number, np.uint8)
    glances = np.zeros((1, *PICTURE_SIZE), np.uint8)
    return Batch(pts=[number], flags=[0], glances=glances, pictures=pictures, images=None)


def test_features_come_in_the_order_of_their_batches() -> None:
    def batches() -> Generator[Step]:
        yield from map(one_batch, range(20))

    processor = FrameProcessor((8, 8), nn.AvgPool2d(8), "cpu", batch_size=1, num_threads=1,
                               mean=(0, 0, 0), std=(1, 1, 1))  # fmt: skip
    found = list(through_backbone(batches(), processor, 4))
    assert [batch.pts for batch, _ in found if isinstance(batch, Batch)] == [
        [number] for number in range(20)
    ]
    values = np.concatenate([begun.features() for _, begun in found if begun])[:, 0] * 255
    np.testing.assert_allclose(values, range(20), atol=0.05)


class Queued(Pass):
    """A pass whose features come when the pass after it has begun, as a GPU's queue would like."""

    def __init__(self, begun: Pass, following: threading.Event | None) -> None:
        self.batch_used = begun.batch_used
        self._begun, self._following = begun, following

    def features(self) -> NDArray[np.float16]:
        assert self._following is None or self._following.wait(10), "the GPU would stand still"
        return self._begun.features()


def test_the_next_chunk_is_under_way_before_this_ones_last_features_are_taken() -> None:
    num_chunks = 3
    has_begun = [threading.Event() for _ in range(num_chunks)]

    class Noting(FrameProcessor):
        def begin(self, batch: NDArray[np.uint8]) -> Pass:
            number = int(batch[0, 0, 0, 0])
            has_begun[number].set()
            return Queued(super().begin(batch), dict(enumerate(has_begun)).get(number + 1))

    def chunks_of_one() -> Generator[Step]:
        for number in range(num_chunks):
            yield from (one_batch(number), ChunkEnd())

    processor = Noting((8, 8), nn.AvgPool2d(8), "cpu", batch_size=1, num_threads=1)
    found = []
    for step, begun in through_backbone(chunks_of_one(), processor, 1):
        found.append(type(step).__name__)
        if begun is not None:
            begun.features()
    assert found == ["Batch", "ChunkEnd"] * num_chunks


def test_decoding_goes_on_into_the_next_chunk_while_one_is_written(
    made: MadeRecording, decoder: DecodeProcess, tmp_path: Path
) -> None:
    manifest = planned(made.folder, PipelineConfig(encoder="mean_pixel", chunk_frames=20))
    asked: list[int] = []

    class Noting(DecodeProcess):
        def frames(self, source: Path, chunk: Chunk, **options: Any) -> Iterator[Frame]:
            asked.append(chunk.index)
            return decoder.frames(source, chunk, **options)

    processor = FrameProcessor.from_encoder(encoders.load("mean_pixel", device="cpu"))
    folders = [tmp_path / chunk.id for chunk in manifest.chunks]
    commits = Extractor(processor, Noting()).extract_all(
        made.video, manifest.chunks, manifest, folders=folders
    )
    assert next(commits).chunk_index == 0
    assert asked[:2] == [0, 1]
    commits.close()
    assert not [one for one in threading.enumerate() if one.name == "decode-ahead"]
    assert len(list(decoder.frames(made.video, manifest.chunks[2]))) == 20


@pytest.mark.parametrize("damaged", [False, True])
def test_chunks_in_one_go_are_the_chunks_one_by_one(
    made: MadeRecording, decoder: DecodeProcess, tmp_path: Path, damaged: bool
) -> None:
    config = PipelineConfig(
        encoder="mean_pixel", chunk_frames=20, batch_size=3, image_size=(60, 80)
    )
    manifest = planned(made.folder, config)
    video = tmp_path / "video.mp4"
    content = bytearray(made.video.read_bytes())
    if damaged:  # the second chunk's pictures, not its first
        start = manifest.chunks[1].seek_pos + manifest.chunks[1].seek_size + 40
        content[start : start + 360] = bytes(360)
    video.write_bytes(content)
    processor = FrameProcessor.from_encoder(
        encoders.load("mean_pixel", device="cpu"), batch_size=3, num_threads=1
    )
    extractor = Extractor(processor, decoder, 2)
    whole = [tmp_path / "all" / chunk.id for chunk in manifest.chunks]
    found = list(extractor.extract_all(video, manifest.chunks, manifest, folders=whole))
    single = [
        extractor.extract(video, chunk, manifest, folder=tmp_path / "one" / chunk.id)
        for chunk in manifest.chunks
    ]
    assert [replace(commit, seconds=0.0) for commit in found] == [
        replace(commit, seconds=0.0) for commit in single
    ]
    assert [bool(commit.warnings) for commit in found] == [False, damaged, False]
    for folder, commit in zip(whole, found, strict=True):
        num_rows, digest = len(commit.pts), commit.digests["features"]
        promise = Promise(folder=folder, name="features", num_rows=num_rows, digest=digest)
        (rows,) = read_parts([promise])
        assert rows.shape == (num_rows, 48)


def test_a_chunk_says_with_how_many_pictures_to_a_pass_it_was_computed(
    made: MadeRecording, decoder: DecodeProcess, tmp_path: Path
) -> None:
    manifest = planned(made.folder, PipelineConfig(encoder="mean_pixel", chunk_frames=20))
    encoder = encoders.load("mean_pixel", device="cpu")

    class Filling(nn.Module):
        """Runs out of memory in the second chunk's first pass."""

        passes = 0

        def forward(self, x: Tensor) -> Tensor:
            self.passes += 1
            if self.passes == 2:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return x.mean((2, 3))

    spec = replace(encoder.spec, name="team.models:make", feature_dim=3)
    processor = FrameProcessor.from_encoder(
        Encoder(spec=spec, module=Filling(), device=encoder.device), batch_size=32, num_threads=1
    )
    commits = list(
        Extractor(processor, decoder).extract_all(
            made.video,
            manifest.chunks,
            manifest,
            folders=[tmp_path / chunk.id for chunk in manifest.chunks],
        )
    )
    assert [commit.batch_size for commit in commits] == [32, 16, 16]


class Absentminded(nn.Module):
    """Keeps what it computes in itself, as a module with a hook on an inner layer does."""

    def __init__(self) -> None:
        super().__init__()
        self.running = 0
        self.most = 0

    def forward(self, x: Tensor) -> Tensor:
        self.running += 1
        self.most = max(self.most, self.running)
        self.kept = x.mean(dim=(2, 3))
        time.sleep(0.002)
        self.running -= 1
        return self.kept


@pytest.mark.parametrize(("name", "passes"), [("team.models:make", 1), ("mean_pixel", 2)])
def test_a_module_that_may_keep_state_gets_one_batch_at_a_time(
    made: MadeRecording, decoder: DecodeProcess, tmp_path: Path, name: str, passes: int
) -> None:
    config = PipelineConfig(encoder="mean_pixel", chunk_frames=1000, batch_size=2)
    manifest = planned(made.folder, config)
    module = Absentminded()
    spec = replace(describe("mean_pixel"), name=name, feature_dim=3)
    encoder = Encoder(spec=spec, module=module, device=torch.device("cpu"))
    processor = FrameProcessor.from_encoder(encoder, batch_size=2, num_threads=1)
    Extractor(processor, decoder, 2).extract(
        made.video, manifest.chunks[0], manifest, folder=tmp_path / "part"
    )
    assert module.most == passes

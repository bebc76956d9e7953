"""The benchmark of a GPU runs: where there is none, on a CPU."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks import gpu, host
from playmill import encoders
from playmill.config import PipelineConfig
from playmill.decoding.process import DecodeProcess
from playmill.errors import DecoderUnavailable
from playmill.frame_processor import FrameProcessor
from playmill.frames import Frame
from playmill.plan import Chunk
from playmill.testing import make_recording


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.needs_cuda)])
def test_every_row_of_the_gpu_benchmark_is_measured(tmp_path: Path, device: str) -> None:
    made = make_recording(tmp_path / "r", seconds=2, gop=10)
    config = PipelineConfig(
        encoder="mean_pixel",
        batch_size=4,
        chunk_frames=10,
        device_class=device,  # type: ignore[arg-type]
    )
    rows, rate = gpu.measure(made.folder, config, model_batches=3)
    assert [row.path for row in rows] == [
        *("decoding alone", "model alone", "extraction", "pipeline.run(), start-up included"),
        "extraction, 2 processes",
    ]
    assert rows[-1].value == f"{rate:.0f} frames/s"
    assert all(row.ratio is not None and row.ratio > 0 for row in rows)
    assert min(row.ratio or 0 for row in rows[:2]) == 1


def test_the_rate_is_that_of_the_time_in_which_all_were_at_work() -> None:
    # Between the first end of all, at 1 s, and the first of the last ends, at 4 s.
    one = [(1.0, 64), (2.0, 64), (4.0, 32)]
    other = [(1.5, 64), (4.0, 64), (9.0, 64)]
    frames = 64 + 32 + 64 + 64
    assert host.rate([one, other]) == (frames / 3.0, frames / 4)


@pytest.mark.parametrize(
    ("rates", "chosen"),
    [
        ({"cpu": 400.0, "nvdec": 800.0}, "--decoder nvdec, for sound .* 2.00 times as fast"),
        ({"cpu": 400.0, "nvdec": 410.0}, "--decoder cpu: with NVDEC extraction is 1.02 times"),
        ({"cpu": 400.0, "nvdec": 100.0}, "--decoder cpu: with NVDEC extraction is 0.25 times"),
        ({"cpu": 400.0}, "--decoder cpu: there is nothing to compare"),
    ],
    ids=["faster", "as fast", "slower", "no nvdec"],
)
def test_the_decoder_is_chosen_by_measurement(rates: dict[str, float], chosen: str) -> None:
    assert re.match(chosen, gpu.choice(rates))


def test_another_decoder_is_not_measured_in_its_place(tmp_path: Path) -> None:
    # Given: what is to be NVDEC is the CPU
    made = make_recording(tmp_path / "r", seconds=1)
    processor = FrameProcessor.from_encoder(encoders.load("mean_pixel", device="cpu"))

    class Mistaken(DecodeProcess):
        def frames(self, source: Path, chunk: Chunk, **options: Any) -> Iterator[Frame]:
            return decoder.frames(source, chunk, **options)

    with (
        DecodeProcess() as decoder,
        Mistaken(kind="nvdec") as mistaken,
        pytest.raises(DecoderUnavailable, match=r"of video\.mp4 \(h264\) it decodes nothing"),
    ):
        gpu.decode_alone(made.video, mistaken, processor)

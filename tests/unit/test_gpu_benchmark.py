"""The benchmark of a GPU runs: where there is none, on a CPU."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import gpu, host
from playmill.config import PipelineConfig
from playmill.testing import make_recording


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.needs_cuda)])
def test_every_row_of_the_gpu_benchmark_is_measured(tmp_path: Path, device: str) -> None:
    made = make_recording(tmp_path / "r", seconds=1, gop=10)
    config = PipelineConfig(
        encoder="mean_pixel",
        batch_size=4,
        chunk_frames=10,
        device_class=device,  # type: ignore[arg-type]
    )
    rows = gpu.measure(made.folder, config, model_batches=3)
    assert [row.path for row in rows] == [
        *("decoding alone", "model alone", "extraction", "pipeline.run(), start-up included"),
    ]
    assert all(row.ratio is not None and row.ratio > 0 for row in rows)
    assert min(row.ratio or 0 for row in rows[:2]) == 1


def test_the_rate_is_that_of_the_time_in_which_all_were_at_work() -> None:
    # Between the first end of all, at 1 s, and the first of the last ends, at 4 s.
    one = [(1.0, 64), (2.0, 64), (4.0, 32)]
    other = [(1.5, 64), (4.0, 64), (9.0, 64)]
    frames = 64 + 32 + 64 + 64
    assert host.rate([one, other]) == (frames / 3.0, frames / 4)

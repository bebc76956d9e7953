"""How the cores and GPUs of a machine are shared out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from playmill.config import PipelineConfig
from playmill.decoding.threads import decoder_threads
from playmill.store import Store
from tasks import extract
from workers.mill import default_workers, local_settings


@pytest.mark.parametrize(
    ("device", "cores", "processes", "threads"),
    [
        ("cpu", 64, 1, 2),
        ("cuda", 2, 1, 2),
        ("cuda", 2, 2, 2),
        ("cuda", 16, 4, 4),
        ("cuda", 15, 4, 3),
        ("cuda", 64, 1, 8),
        ("cuda", 4, 16, 2),
    ],
)
def test_decoders_share_the_cores_that_a_gpu_leaves_them(
    monkeypatch: pytest.MonkeyPatch, device: str, cores: int, processes: int, threads: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    assert decoder_threads(device, processes=processes) == threads


@pytest.mark.parametrize(("chosen", "threads"), [(None, 2), (5, 5)], ids=["by itself", "told"])
def test_an_extracting_process_decodes_with_the_threads_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chosen: int | None, threads: int
) -> None:
    settings = local_settings(tmp_path, broker_url="redis://h", device="cpu")
    told = settings.to_env() | {"PLAYMILL_DECODER_THREADS": str(chosen or "")}
    monkeypatch.setattr(extract, "settings", lambda: type(settings).from_env(told))
    config = PipelineConfig(encoder="mean_pixel")
    assert extract._load(Store(tmp_path), config).decoder.num_threads == threads


def test_a_local_mill_has_two_processes_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,3")
    assert default_workers("cuda", 2) == 4
    assert default_workers("cpu", 2) == 3

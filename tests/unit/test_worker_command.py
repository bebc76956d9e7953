"""`playmill worker`: which processes it makes of the GPUs that it may use."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import typer

from playmill.errors import UsageError
from playmill.roots import Roots
from playmill.store import Store
from playmill.store.identity import DATASETS_MARKER, begin
from tasks.settings import Settings
from workers.commands import serving
from workers.processes import Process


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Process]:
    """The processes that a worker command would have supervised."""
    settings = Settings(
        broker_url="redis://localhost",
        store=tmp_path / "store",
        datasets=tmp_path / "datasets",
        roots=Roots.whole_machine(),
        device="cuda",
    )
    found: list[Process] = []

    def supervise(processes: Sequence[Process]) -> int:
        found.extend(processes)
        return 0

    monkeypatch.setattr(serving, "connect", lambda **_: (settings, Store(tmp_path / "store")))
    monkeypatch.setattr(serving, "supervise", supervise)
    return found


@pytest.mark.parametrize(
    ("per_gpu", "names"),
    [(1, ["w-2", "w-5"]), (2, ["w-2-0", "w-2-1", "w-5-0", "w-5-1"])],
    ids=["one each", "two each"],
)
def test_every_gpu_has_its_processes(
    started: list[Process], monkeypatch: pytest.MonkeyPatch, per_gpu: int, names: list[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    with pytest.raises(typer.Exit):
        serving.worker("gpu", name="w", per_gpu=per_gpu)
    assert [process.name for process in started] == names
    for process in started:
        assert process.env["CUDA_VISIBLE_DEVICES"] == process.name.split("-")[1]
        assert f"{process.name}@%h" in process.command
        assert "--quiet" in process.command


def test_several_processes_on_a_gpu_need_one(
    started: list[Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(UsageError, match="--per-gpu 2: this worker has no GPU"):
        serving.worker("gpu", name="w", per_gpu=2)
    assert not started


def test_a_worker_that_would_publish_into_another_folder_does_not_start(
    started: list[Process], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, datasets = tmp_path / "store", tmp_path / "datasets"
    store.mkdir()
    datasets.mkdir()
    begin(store, datasets)
    (datasets / DATASETS_MARKER).unlink()
    with pytest.raises(UsageError, match=r"has no \.playmill-id in it.*Is the share mounted"):
        serving.worker("cpu", name="w")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    with pytest.raises(typer.Exit):
        serving.worker("gpu", name="w")
    assert len(started) == 2

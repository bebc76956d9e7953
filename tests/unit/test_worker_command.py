"""`playmill worker`: which processes it makes of the GPUs that it may use."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
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
    [
        (1, ["w-2", "w-5"]),
        (None, ["w-2-0", "w-2-1", "w-5-0", "w-5-1"]),
        (3, ["w-2-0", "w-2-1", "w-2-2", "w-5-0", "w-5-1", "w-5-2"]),
    ],
    ids=["one each", "by default", "three each"],
)
def test_every_gpu_has_its_processes(
    started: list[Process],
    monkeypatch: pytest.MonkeyPatch,
    per_gpu: int | None,
    names: list[str],
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    with pytest.raises(typer.Exit):
        serving.worker("gpu", name="w", per_gpu=per_gpu)
    assert [process.name for process in started] == names
    for process in started:
        assert process.env["CUDA_VISIBLE_DEVICES"] == process.name.split("-")[1]
        assert f"{process.name}@%h" in process.command
        assert "--quiet" in process.command


@pytest.mark.parametrize(
    ("visible", "on_machine", "chosen", "threads"),
    [("0,1", 2, None, "6"), ("1", 4, None, "3"), ("0", 0, None, "8"), ("0", 4, 5, "5")],
    ids=["all GPUs", "other GPUs too", "no more than of use", "as the user says"],
)
def test_the_processes_of_a_machine_share_its_cores(
    started: list[Process],
    monkeypatch: pytest.MonkeyPatch,
    visible: str,
    on_machine: int,
    chosen: int | None,
    threads: str,
) -> None:
    connect = serving.connect
    monkeypatch.setattr(
        serving,
        "connect",
        lambda **_: (replace(connect()[0], decoder_threads=chosen), connect()[1]),
    )
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(24)))
    monkeypatch.setattr(serving, "num_gpus", lambda: on_machine)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with pytest.raises(typer.Exit):
        serving.worker("gpu", name="w")
    assert len(started) == 2 * len(visible.split(","))
    assert {process.env["PLAYMILL_DECODER_THREADS"] for process in started} == {threads}
    for process in started:
        Settings.from_env(process.env)


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
        serving.worker("gpu", name="w", per_gpu=1)
    assert len(started) == 2

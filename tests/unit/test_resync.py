"""Resync: what the mill would publish with other rules, from the dataset alone, byte for byte."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from playmill import pipeline
from playmill.cli import app
from playmill.config import PipelineConfig
from playmill.dataset import open_dataset
from playmill.errors import DatasetError, RecordingError, UsageError
from playmill.publishing.resync import Rules, resync, resync_all
from playmill.schema import REPORT_FILE_NAME
from playmill.storage import DataStorage
from playmill.testing import make_recording, make_video
from tests.unit.dataset_samples import make_content, make_features
from tests.unit.test_vpt import tick

RECORDING = Path(__file__).resolve().parents[2] / "examples/recordings/doom-320x240-audio"
CONFIG = PipelineConfig(encoder="mean_pixel")


def run(datasets: Path, **changes: Any) -> Path:
    return pipeline.run(RECORDING, datasets, replace(CONFIG, **changes))


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(tmp_path_factory.mktemp("published"), image_size=(6, 8))


@pytest.fixture
def dataset(published: Path, tmp_path: Path) -> Path:
    """Return a copy of the dataset, in a datasets folder of its own."""
    folder = tmp_path / "datasets" / published.parent.name
    shutil.copytree(published.parent, folder)
    return folder / published.name


CHANGES: dict[str, dict[str, Any]] = {
    "policy": {"policy": "nearest"},
    "window": {"window_us": 5_000},
    "latency": {"latency_us": -40_000},
    "what the pictures show": {"auto_latency": True},
    "the first rule": {"policy": "window", "window_us": 100_000},
    "gates": {"require": ("coverage>0.5",)},
    "controls": {"controls": (("a", "left"), ("w", "forward"))},
}


@pytest.mark.parametrize("changes", CHANGES.values(), ids=CHANGES)
def test_it_is_what_a_run_would_publish(
    dataset: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    before = dataset.read_bytes()
    resync(dataset, lambda config: replace(config, **changes))
    expected = run(tmp_path / "run", image_size=(6, 8), **changes)
    assert dataset.read_bytes() == expected.read_bytes() != before
    beside = [path.with_name(REPORT_FILE_NAME).read_text() for path in (dataset, expected)]
    assert beside[0] == beside[1]
    resync(dataset, lambda config: CONFIG_OF(before, config))
    assert dataset.read_bytes() == before


def CONFIG_OF(before: bytes, config: PipelineConfig) -> PipelineConfig:
    """Return the rules that the dataset had at first."""
    return replace(
        config,
        policy="following",
        window_us=100_000,
        latency_us=0,
        auto_latency=False,
        require=(),
        controls=(),
    )


def test_what_reading_the_log_has_shown_is_still_told(tmp_path: Path) -> None:
    recording = make_recording(tmp_path / "recording")
    lines = recording.log.read_text().splitlines(keepends=True)
    recording.log.write_text("".join([*lines[40:], *lines[:40]]))
    rules = replace(CONFIG, policy="nearest")
    dataset = pipeline.run(recording.folder, tmp_path / "datasets", CONFIG)
    expected = pipeline.run(recording.folder, tmp_path / "run", rules)
    resync(dataset, lambda config: replace(config, policy="nearest"))
    assert dataset.read_bytes() == expected.read_bytes()
    with open_dataset(dataset) as session:
        assert [w for w in session.warnings if "times of the input log go back by" in w]


def test_the_same_rules_change_nothing(dataset: Path) -> None:
    stamp = dataset.stat().st_mtime_ns
    resync(dataset, lambda config: config)
    assert dataset.stat().st_mtime_ns == stamp


def test_features_of_other_encoders_are_carried_over(dataset: Path) -> None:
    with open_dataset(dataset) as first:
        num_frames, content_key = len(first), first.dataset_key
    other = replace(CONFIG, encoder="mean_pixel", precision="fp32", latency_us=1)
    resync(dataset, lambda config: replace(config, latency_us=other.latency_us))
    with open_dataset(dataset) as second:
        assert len(second) == num_frames
        assert second.dataset_key != content_key
        assert second.has_images


def test_a_gate_that_fails_leaves_the_dataset_as_it_was(dataset: Path) -> None:
    before = dataset.read_bytes()
    with pytest.raises(RecordingError, match=r"unassigned_fraction .*expected unassigned_fraction"):
        resync(dataset, lambda config: replace(config, require=("unassigned_fraction<0.0001",)))
    assert dataset.read_bytes() == before


def test_a_dataset_of_other_origin_is_refused(tmp_path: Path) -> None:
    path = DataStorage(tmp_path).write(make_content(), features=[make_features()])
    with pytest.raises(DatasetError, match="cannot be synchronized anew: its provenance lacks con"):
        resync(path, lambda config: config)


def test_a_dataset_that_lies_elsewhere_is_refused(dataset: Path) -> None:
    other = dataset.parent.with_name("session_other")
    dataset.parent.rename(other)
    with pytest.raises(DatasetError, match="lies where session 'h-09009' does not belong"):
        resync(other / "data.h5", lambda config: replace(config, policy="nearest"))


def test_one_that_fails_does_not_stop_the_others(dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.h5").write_bytes(b"no HDF5")
    paths = [tmp_path / "broken.h5", dataset]
    rows = list(resync_all(paths, lambda config: replace(config, policy="nearest")))
    assert [row.changed for row in rows] == [False, True]
    assert "broken.h5" in (rows[0].error or "")
    assert rows[1].assigned is not None
    assert rows[1].assigned > 0


def command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "playmill.cli", "resync", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_command(dataset: Path) -> None:
    done = command(dataset.parent.parent, "--policy", "nearest", "--json")
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)
    assert (row["dataset"], row["changed"], row["error"]) == (str(dataset), True, None)
    assert (row["anew"], row["skipped"], row["lag_shown"]) == (True, None, None)
    assert (row["policy"], row["window_ms"], row["latency_ms"]) == ("nearest", 100, 0)
    done = command(dataset, "--policy", "nearest")
    rule = "policy nearest, window 100 ms, latency 0 ms; "
    assert done.stdout.startswith(f"{dataset}: unchanged: {rule}")
    done = command(dataset, "--require", "coverage>0.9999999")
    assert done.returncode == 0, done.stdout
    assert done.stdout.startswith(f"{dataset}: unchanged (the new options are noted): {rule}")


def test_it_says_which_latency_was_applied(dataset: Path) -> None:
    (row,) = resync_all([dataset], lambda config: replace(config, auto_latency=True))
    assert "unchanged (the new options are noted)" in str(row)
    assert "latency 0 ms (auto: the pictures do not show the lag); " in str(row)
    assert (row.to_json()["latency_ms"], row.to_json()["lag_shown"]) == (0, False)
    shown = Rules(policy="nearest", window_ms=None, latency_ms=53.5, lag_shown=True)
    assert str(shown) == "policy nearest, window none, latency 53.5 ms (auto)"
    (row,) = resync_all([dataset], lambda config: replace(config, window_us=1_000))
    assert row.anew
    assert "\n  warning: " in str(row)
    assert "the window is 1 ms" in row.to_json()["warnings"][0]


@pytest.fixture
def of_lines(dataset: Path) -> Path:
    """Return a dataset of policy line, beside `dataset`."""
    folder = dataset.parents[2]
    pts = [4500 * number for number in range(20)]
    make_video(folder / "a.mp4", numbers=range(20), pts=pts, time_base=Fraction(1, 90_000))
    lines = [json.dumps(tick(number)) for number in range(20)]
    (folder / "a.jsonl").write_text("\n".join(lines))
    return pipeline.run(folder / "a.mp4", dataset.parents[1], CONFIG)


LINE_OPTIONS = {
    "--latency-ms": ("auto", "it has no latency"),
    "--window-ms": ("50", "it has no window"),
    "--policy": ("nearest", "whose policy is line"),
}


@pytest.mark.parametrize("option", LINE_OPTIONS)
def test_a_dataset_of_lines_in_a_folder_is_passed_over(
    dataset: Path, of_lines: Path, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    value, reason = LINE_OPTIONS[option]
    before = of_lines.read_bytes()
    folder = str(dataset.parents[1])
    called = ["resync", folder, option, value]
    app(called, standalone_mode=False)
    lines = capsys.readouterr().out.splitlines()
    (line,) = (line for line in lines if line.startswith(f"{of_lines}: passed over: "))
    assert reason in line
    assert line.count(str(of_lines)) == 1
    app([*called, "--json"], standalone_mode=False)
    rows = {row["dataset"]: row for row in json.loads(capsys.readouterr().out)}
    assert reason in rows[str(of_lines)]["skipped"]
    assert rows[str(of_lines)]["error"] is None
    assert rows[str(dataset)]["skipped"] is None
    assert of_lines.read_bytes() == before
    with pytest.raises(UsageError, match=reason):
        app(["resync", str(dataset), str(of_lines), option, value], standalone_mode=False)
    assert capsys.readouterr().out == ""


def test_what_is_not_there_is_wrong_usage(tmp_path: Path) -> None:
    for path, message in (
        (tmp_path / "nothere", "nothere: there is no such file or folder"),
        (tmp_path, "no dataset (session_ID/data.h5) in this folder"),
    ):
        for options in ((), ("--latency-ms", "5")):
            done = command(path, *options)
            assert (done.returncode, done.stdout) == (2, "")
            assert message in done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "nothing to change; give --policy"),
        (("--policy", "sometimes"), "unknown policy 'sometimes'"),
        (("--policy", "line"), "gameplay-session/1"),
        (("--window-ms", "-3"), "--window-ms is -3; it must be 0 or more"),
        (("--require", "luck>1"), "no 'luck'; there are clock_residual_p50"),
    ],
)
def test_wrong_usage(dataset: Path, options: tuple[str, ...], message: str) -> None:
    before = dataset.read_bytes()
    done = command(dataset, *options)
    assert done.returncode in (1, 2)
    assert message in done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    assert dataset.read_bytes() == before


def test_policy_line_is_wrong_for_a_log_with_times(dataset: Path) -> None:
    with pytest.raises(UsageError, match="whose policy is any policy but line"):
        resync(dataset, lambda config: replace(config, policy="line"))

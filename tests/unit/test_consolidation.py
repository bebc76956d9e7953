"""Commits and a log become one dataset's frames, events and warnings, or an error that says why."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from playmill.decoding.motion import PICTURE_SIZE, motion_rows
from playmill.errors import ClockError, CorruptVideo, PartError, RecordingError, SourceChanged
from playmill.jobs import Commit
from playmill.manifest import Manifest, file_digest
from playmill.parts import PartWriter
from playmill.publishing.consolidation import consolidate, read_events
from playmill.publishing.joined_frames import FROZEN_US, Frames, join_frames
from playmill.publishing.labels import check_overlap
from playmill.publishing.row_source import PartRows
from playmill.recording import Recording, read_recording
from playmill.schema import frame_flag
from playmill.storage import DataStorage
from tests.unit.dataset_samples import make_events
from tests.unit.job_samples import TICKS, ZERO_US, make_commit, make_manifest, make_session

DUPLICATE, GAP, FROZEN = (
    frame_flag(name) for name in ("duplicate_picture", "gap_before", "frozen")
)
BLACK = frame_flag("black")
MICRO = Fraction(1, 1_000_000)


def join(*pts: Sequence[int], flags: Sequence[int] | None = None, **changed: Any) -> Frames:
    """Join chunks of these pts, of a video whose ticks are microseconds and whose pts 0 is 0."""
    commits = [make_commit(index, values) for index, values in enumerate(pts)]
    if flags is not None:
        commits = [replace(commits[0], flags=tuple(flags)), *commits[1:]]
    return join_frames(make_manifest(time_base=MICRO, pts_zero_us=0, **changed), commits)


# Frames


def test_chunks_are_joined_in_order() -> None:
    frames = join_frames(make_manifest(), [make_commit(0), make_commit(1)])
    assert frames.pts.tolist() == [TICKS * number for number in range(8)]
    assert frames.timestamp_us.tolist() == [
        ZERO_US + round(number * 1e6 / 30) for number in range(8)
    ]
    assert not frames.flags.any()
    assert frames.keep.all()
    assert frames.warnings == ()


def test_a_chunk_without_frames_is_passed_over() -> None:
    assert join([0, 10], [], [20]).pts.tolist() == [0, 10, 20]


@pytest.mark.parametrize("commits", [[], [make_commit(0, [])]], ids=["no chunks", "empty chunk"])
def test_no_frame_at_all_is_an_error(commits: list[Commit]) -> None:
    with pytest.raises(CorruptVideo, match=r"video\.mp4: found no frame that can be decoded \(8"):
        join_frames(make_manifest(), commits)


def test_frames_of_an_equal_microsecond_are_left_out_and_counted() -> None:
    manifest = make_manifest(time_base=Fraction(1, 3_000_000), pts_zero_us=0)
    commits = [make_commit(0, [0, 1, 2, 3, 4]), make_commit(1, [5, 6, 9])]
    frames = join_frames(manifest, commits)
    assert frames.pts.tolist() == [0, 2, 5, 9]
    assert frames.timestamp_us.tolist() == [0, 1, 2, 3]
    assert frames.keep.tolist() == [True, False, True, False, False, True, False, True]
    assert frames.warnings == ("4 frames left out: same microsecond as an earlier one",)


@pytest.mark.parametrize(
    ("anchor", "pts"), [(2**62 - 1, 2**62 + 5), (0, 2**62)], ids=["anchor", "time base"]
)
def test_times_beyond_64_bits_are_an_error(anchor: int, pts: int) -> None:
    manifest = make_manifest(time_base=Fraction(3, 1_000_000), pts_zero_us=anchor)
    with pytest.raises(ClockError, match=r"times beyond 64 bits .*Mend video\.pts_zero_us"):
        join_frames(manifest, [make_commit(0, [0, pts])])


def test_negative_times_are_times() -> None:
    assert join([-20, -10, 0]).timestamp_us.tolist() == [-20, -10, 0]


def test_flags_of_the_chunks_are_kept() -> None:
    assert join([0, 10, 20], flags=[0, BLACK, 0]).flags.tolist() == [0, BLACK, 0]


def test_a_picture_repeated_across_a_chunk_edge_is_a_duplicate() -> None:
    first = make_commit(0, [0, 10], last_picture="same")
    empty = make_commit(1, [])
    repeated = make_commit(2, [20, 30], first_picture="same")
    manifest = make_manifest(time_base=MICRO)
    assert join_frames(manifest, [first, repeated]).flags.tolist() == [0, 0, DUPLICATE, 0]
    assert join_frames(manifest, [first, empty, repeated]).flags.tolist() == [0, 0, DUPLICATE, 0]


@pytest.mark.parametrize(
    ("pts", "gaps"),
    [
        ([0, 10, 20, 37, 47], []),
        ([0, 10, 20, 38, 48], [3]),
        ([0, 10, 20, 1000, 1010, 5000, 5010], [3, 5]),
        ([0, 5000], []),
        ([0], []),
    ],
    ids=["late", "one lost", "two gaps", "two frames", "one frame"],
)
def test_a_gap_is_flagged_on_the_frame_after_it(pts: list[int], gaps: list[int]) -> None:
    assert np.flatnonzero(join(pts).flags & GAP).tolist() == gaps


@pytest.mark.parametrize(
    ("repeats", "expected"),
    [
        ([0, 0, DUPLICATE], [0, 0]),  # A, B left out, B: not what was before B
        ([0, DUPLICATE, DUPLICATE], [0, DUPLICATE]),
        ([0, DUPLICATE, 0], [0, 0]),
        ([0, 0, 0], [0, 0]),
    ],
)
def test_a_duplicate_repeats_the_frame_before_it_that_is_kept(
    repeats: list[int], expected: list[int]
) -> None:
    frames = join([0, 0, 10], flags=repeats)
    assert frames.keep.tolist() == [True, False, True]
    assert frames.flags.tolist() == expected
    behind = join([0, 10, 10, 20], flags=[0, DUPLICATE, 0, DUPLICATE])
    assert behind.flags.tolist() == [0, DUPLICATE, 0]


def test_a_gap_may_lie_between_chunks() -> None:
    assert join([0, 10, 20], [500, 510, 520]).flags.tolist() == [0, 0, 0, GAP, 0, 0]


@pytest.mark.parametrize(
    ("shown_us", "expected"),
    [(FROZEN_US - 1, [0, DUPLICATE, 0]), (FROZEN_US, [0, DUPLICATE | FROZEN, 0])],
    ids=["short", "long"],
)
def test_a_picture_shown_for_a_second_is_frozen(shown_us: int, expected: list[int]) -> None:
    frames = join([0, shown_us, 2 * FROZEN_US], flags=[0, DUPLICATE, 0])
    assert (frames.flags & (DUPLICATE | FROZEN)).tolist() == expected


def test_every_repeat_of_a_frozen_picture_is_frozen_also_at_the_end() -> None:
    step = FROZEN_US // 2
    flags = [0, DUPLICATE, 0, DUPLICATE, DUPLICATE]
    frames = join([step * number for number in range(5)], flags=flags)
    frozen = DUPLICATE | FROZEN
    assert frames.flags.tolist() == [0, DUPLICATE, 0, frozen, frozen]


# Overlap of log and video


FIRST, LAST = 1_000_000, 2_000_000


def overlap(
    times_us: Sequence[int],
    *,
    first: int = FIRST,
    last: int = LAST,
    window_us: int | None = 100_000,
    latency_us: int = 0,
) -> tuple[str, ...]:
    """Compare a log of these events with a video of two frames."""
    return check_overlap(
        "s/inputs.jsonl",
        make_events(times_us),
        join([first, last]).timestamp_us,
        window_us=window_us,
        latency_us=latency_us,
    )


INSIDE: dict[str, dict[str, Any]] = {
    "within": {"times_us": [1_500_000]},
    "on the first frame": {"times_us": [FIRST]},
    "a window before": {"times_us": [FIRST - 100_000]},
    "a window after": {"times_us": [LAST + 100_000]},
    "in a gap of the video": {"times_us": [1_400_000], "window_us": 1},
    "no window, at once": {"times_us": [LAST], "window_us": 0},
    "unbounded, just after": {"times_us": [LAST + 50_000], "window_us": None},
    "late effect": {"times_us": [FIRST - 300_000], "latency_us": 200_000},
    "early effect": {"times_us": [LAST + 300_000], "latency_us": -200_000},
    "half": {"times_us": [0, LAST]},
    "no events": {"times_us": []},
    "the whole range": {"times_us": [0, 2**63 - 1], "first": 0, "last": 2**61, "window_us": 2**61},
}


@pytest.mark.parametrize("values", INSIDE.values(), ids=INSIDE)
def test_a_log_that_lies_in_the_video_is_trusted(values: dict[str, Any]) -> None:
    assert overlap(**values) == ()


OUTSIDE: dict[str, dict[str, Any]] = {
    "before": {"times_us": [FIRST - 100_001]},
    "after": {"times_us": [LAST + 100_001]},
    "around": {"times_us": [0, 5_000_000]},
    "a day later": {"times_us": [LAST + 86_400_000_000]},
    "a day later, unbounded": {"times_us": [LAST + 86_400_000_000], "window_us": None},
    "at the end of time": {"times_us": [2**63 - 1]},
    "before a video of later": {"times_us": [0], "first": 2**60, "last": 2**61},
    "video before time": {"times_us": [5], "first": -(2**61), "last": -(2**60)},
    "late effect": {"times_us": [LAST], "latency_us": 200_000},
    "extreme latency": {"times_us": [LAST], "latency_us": 2**62 - 1},
    "extreme latency back": {"times_us": [LAST], "latency_us": 1 - 2**62},
}


@pytest.mark.parametrize("values", OUTSIDE.values(), ids=OUTSIDE)
def test_a_log_outside_the_video_is_an_error(values: dict[str, Any]) -> None:
    with pytest.raises(
        ClockError, match=r"s/inputs\.jsonl: found events from .* none in the video"
    ):
        overlap(**values)


def test_a_log_that_lies_mostly_outside_is_warned_about() -> None:
    warnings = overlap([0, 1, FIRST])
    assert warnings == ("only 1 of 3 events fall into the video",)


# Sources that change


def planned(folder: Path) -> tuple[Recording, Manifest]:
    """Return a recording and a manifest that knows its files."""
    recording = read_recording(folder, identity="s")
    manifest = make_manifest(
        chunks=1,
        session_digest=file_digest(recording.session_file),
        log_digest=file_digest(recording.log),
        reader=recording.reader,
    )
    return recording, manifest


def test_an_empty_log_and_no_log_have_no_events(tmp_path: Path) -> None:
    make_session(tmp_path / "empty")
    make_session(tmp_path / "none", inputs=None)
    assert len(read_events(*planned(tmp_path / "empty"))) == 0
    without = read_events(*planned(tmp_path / "none"))
    assert len(without) == 0
    assert [mask.name for mask in without.masks] == ["unknown"]
    assert read_events(*planned(tmp_path / "empty")).masks == ()


@pytest.mark.parametrize("name", ["inputs.jsonl", "session.json"])
def test_a_source_that_is_not_the_planned_one_is_an_error(tmp_path: Path, name: str) -> None:
    make_session(tmp_path / "s")
    recording, manifest = planned(tmp_path / "s")
    with (tmp_path / "s" / name).open("a") as stream:
        stream.write(" \n" if name == "session.json" else '{"t":1,"type":"key_down","key":"w"}\n')
    with pytest.raises(SourceChanged, match=f"{name}: found another content than when it was"):
        read_events(recording, manifest)


# The whole


def publish(
    tmp_path: Path, *, damage: bool = False, require: tuple[str, ...] = (), **changed: Any
) -> tuple[Path, Any]:
    """Consolidate a session of four frames and two events; return datasets folder and summary."""
    folder = tmp_path / "s"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(tmp_path / "part", ignore_errors=True)
    make_session(folder)
    lines = [{"t": ZERO_US + 10_000, "type": "key_down", "key": "w"},
             {"t": ZERO_US + 900_000, "type": "key_up", "key": "w"}]  # fmt: skip
    text = "".join(json.dumps(line) + "\n" for line in lines) + "garbage\n"
    (folder / "inputs.jsonl").write_text(text)
    recording, manifest = planned(folder)
    manifest = replace(manifest, config=replace(manifest.config, require=require))
    part = PartWriter(tmp_path / "part", dim=3, image_size=None)
    part.append("features", np.arange(12, dtype=np.float16).reshape(4, 3))
    glances = np.arange(4 * 36 * 64, dtype=np.uint8).reshape(4, *PICTURE_SIZE)
    part.append("motion", motion_rows(glances))
    part.append("glances", glances[[0, -1]])
    commit = make_commit(0, digests=part.close(), **changed)
    if damage:
        (tmp_path / "part/features/c.0.0").unlink()
    datasets = tmp_path / "datasets"
    storage = DataStorage(datasets)
    summary = consolidate(
        recording,
        manifest,
        [commit],
        source=PartRows([tmp_path / "part"], [commit]),
        storage=storage,
    )
    return datasets, summary


def test_parts_and_log_become_a_dataset(tmp_path: Path) -> None:
    datasets, summary = publish(tmp_path, warnings=("chunk 0: trouble",))
    assert summary.dataset == datasets / "session_sample" / "data.h5"
    assert (summary.frames, summary.events) == (4, 2)
    assert (summary.unassigned_events, summary.rejected_lines) == (1, 1)
    assert summary.warnings == (
        "chunk 0: trouble",
        "1 line of the input log was not understood (line 3: not JSON: Expecting value at"
        " character 0); /inputs/rejected_line and rejected_reason have it",
    )
    with h5py.File(summary.dataset) as file:
        (features,) = file["features"].values()
        assert features[:].tolist() == np.arange(12).reshape(4, 3).tolist()
        assert json.loads(file.attrs["warnings"]) == list(summary.warnings)
        assert file["sync/frame"][:].tolist() == [0, -1]


def test_rows_of_frames_that_are_left_out_are_left_out(tmp_path: Path) -> None:
    _, summary = publish(tmp_path, pts=[0, TICKS, 2 * TICKS, 2 * TICKS])
    assert summary.frames == 3
    with h5py.File(summary.dataset) as file:
        (features,) = file["features"].values()
        assert features[:].tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]


def test_a_damaged_part_publishes_nothing(tmp_path: Path) -> None:
    with pytest.raises(PartError, match="cannot be read"):
        publish(tmp_path, damage=True)
    assert list((tmp_path / "datasets").rglob("*.h5")) == []


def test_a_recording_that_misses_a_gate_leaves_its_report_until_it_is_published(
    tmp_path: Path,
) -> None:
    kept = tmp_path / "datasets" / "failed" / "session_sample.alignment.json"
    for limit in ("0.1", "0.2"):
        with pytest.raises(RecordingError, match=f"The whole report: {kept}") as raised:
            publish(tmp_path, require=(f"unassigned_fraction<{limit}", "gap_fraction<0.5"))
        report = json.loads(kept.read_text())
        assert report["gates"][0]["gate"] == f"unassigned_fraction<{limit}"
        assert report["unassigned_why"]["after_last_frame"] == 1
        assert report["session_id"] == "sample"
        assert report["recording"] == str(tmp_path / "s")
        assert report["error"] == str(raised.value)
    assert [path.name for path in kept.parent.iterdir()] == [kept.name]
    assert list((tmp_path / "datasets").rglob("*.h5")) == []
    publish(tmp_path)
    assert not kept.exists()


def test_the_bytes_do_not_depend_on_who_computed_them_when(tmp_path: Path) -> None:
    one, two = (
        publish(tmp_path / name, hardware=name, seconds=number, attempt=f"{number}-00000000")[1]
        for number, name in enumerate(("one", "two"), start=1)
    )
    assert one.dataset.read_bytes() == two.dataset.read_bytes()

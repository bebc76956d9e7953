"""Keys change with what they name, and with nothing else."""

from __future__ import annotations

import json
import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from playmill.config import PipelineConfig, digest_of
from playmill.errors import SourceChanged
from playmill.manifest import (
    Manifest,
    SourceFile,
    check_unchanged,
    file_digest,
    source_files,
)
from playmill.manifest import (
    make_manifest as plan,
)
from playmill.plan import Chunk
from playmill.recording import Recording, read_recording
from playmill.video_index import VideoIndex
from tests.unit.job_samples import ZERO_US, make_manifest, make_session

FEATURES: dict[str, dict[str, Any]] = {
    "video": {"video_digest": digest_of("other")},
    "plan": {"chunks": 1},
    "weights": {"weights_digest": digest_of("other")},
    "preprocessing": {"preprocessing": "other"},
    "encoder": {"config": PipelineConfig(window_us=100_000, encoder="mean_pixel")},
    "weights file": {"config": PipelineConfig(window_us=100_000, weights_digest="0" * 64)},
    "precision": {"config": PipelineConfig(window_us=100_000, precision="fp16")},
    "runtime": {"config": PipelineConfig(window_us=100_000, runtime="torch")},
    "batch": {"config": PipelineConfig(window_us=100_000, batch_size=3)},
    "device": {"config": PipelineConfig(window_us=100_000, device_class="cuda")},
    "pictures": {"config": PipelineConfig(window_us=100_000, image_size=(4, 4))},
}
LABELS: dict[str, dict[str, Any]] = {
    "session id": {"session_id": "other"},
    "clock": {"clock": "stream"},
    "anchor": {"pts_zero_us": 0},
    "session.json": {"session_digest": None},
    "log": {"log_digest": digest_of("other")},
    "reader": {"reader": None},
    "policy": {"config": PipelineConfig(window_us=100_000, policy="nearest")},
    "window": {"config": PipelineConfig(window_us=None)},
    "latency": {"config": PipelineConfig(window_us=100_000, latency_us=1)},
}
NOTHING: dict[str, dict[str, Any]] = {
    "name": {"video_name": "other.mp4"},
    "warnings": {"warnings": ("a warning",)},
    "target length": {
        "config": PipelineConfig(policy="following", window_us=100_000, chunk_frames=9)
    },
}


@pytest.mark.parametrize("changed", FEATURES.values(), ids=FEATURES)
def test_what_decides_features_changes_both_keys(changed: dict[str, Any]) -> None:
    assert make_manifest(**changed).parts_key != make_manifest().parts_key
    assert make_manifest(**changed).dataset_key != make_manifest().dataset_key


@pytest.mark.parametrize("changed", LABELS.values(), ids=LABELS)
def test_what_decides_labels_alone_needs_no_gpu(changed: dict[str, Any]) -> None:
    assert make_manifest(**changed).parts_key == make_manifest().parts_key
    assert make_manifest(**changed).dataset_key != make_manifest().dataset_key


@pytest.mark.parametrize("changed", NOTHING.values(), ids=NOTHING)
def test_what_decides_nothing_changes_no_key(changed: dict[str, Any]) -> None:
    assert make_manifest(**changed).parts_key == make_manifest().parts_key
    assert make_manifest(**changed).dataset_key == make_manifest().dataset_key


def test_a_manifest_survives_json() -> None:
    manifest = make_manifest(
        time_base=Fraction(1001, 30_000),
        session_id="ünï\ud800",
        warnings=("a", "b"),
        config=PipelineConfig(window_us=None, image_size=(4, 6)),
    )
    copy = Manifest.from_json(json.loads(json.dumps(manifest.to_json())))
    assert copy == manifest
    assert (copy.parts_key, copy.dataset_key) == (manifest.parts_key, manifest.dataset_key)


def test_a_manifest_of_another_version_is_refused() -> None:
    with pytest.raises(ValueError, match="manifest version 0, not 2"):
        Manifest.from_json(make_manifest().to_json() | {"version": 0})


def test_the_frames_of_a_plan_are_counted() -> None:
    assert make_manifest(chunks=3, num_frames=5).num_frames == 15


# Sources


def read(folder: Path) -> Recording:
    """Read the session in `folder`, which is made if it is not there."""
    if not folder.exists():
        make_session(folder)
    return read_recording(folder, identity="x")


def test_sources_are_named_relative_to_the_recording(tmp_path: Path) -> None:
    names = [source.path for source in source_files(read(tmp_path / "s"))]
    assert names == ["session.json", "video.mp4", "inputs.jsonl"]


def test_a_bare_video_is_its_own_source(tmp_path: Path) -> None:
    (tmp_path / "x.mp4").write_bytes(b"12345")
    recording = read_recording(tmp_path / "x.mp4", identity="x")
    assert [(source.path, source.size) for source in source_files(recording)] == [("", 5)]


def test_sources_that_stay_are_unchanged(tmp_path: Path) -> None:
    recording = read(tmp_path / "s")
    check_unchanged(recording, source_files(recording))


def test_a_source_that_grows_is_an_error(tmp_path: Path) -> None:
    recording = read(tmp_path / "s")
    before = source_files(recording)
    with recording.source.open("ab") as stream:
        stream.write(b"more")
    with pytest.raises(SourceChanged, match=r"'video\.mp4' written to .*12 bytes, no longer 8"):
        check_unchanged(recording, before)


def test_a_source_that_is_touched_is_an_error(tmp_path: Path) -> None:
    recording = read(tmp_path / "s")
    before = source_files(recording)
    os.utime(recording.source, ns=(1, 1))
    with pytest.raises(SourceChanged, match=r"found 'video\.mp4' written to since"):
        check_unchanged(recording, before)


def test_a_source_that_has_come_since_is_an_error(tmp_path: Path) -> None:
    make_session(tmp_path / "s", inputs=None)
    before = source_files(read(tmp_path / "s"))
    make_session(tmp_path / "s")
    now = read(tmp_path / "s")
    with pytest.raises(SourceChanged, match=r"found a new source 'inputs\.jsonl'"):
        check_unchanged(now, source_files(now)[: len(before)])


def test_a_source_that_has_gone_since_is_an_error(tmp_path: Path) -> None:
    before = source_files(read(tmp_path / "s"))
    make_session(tmp_path / "s", inputs=None)
    now = read(tmp_path / "s")
    with pytest.raises(SourceChanged, match=r"found no 'inputs\.jsonl' any more"):
        check_unchanged(now, [*source_files(now), before[2]])


def test_a_picture_with_a_new_name_is_a_change(tmp_path: Path) -> None:
    (tmp_path / "5.png").write_bytes(b"x")
    os.utime(tmp_path, ns=(1, 1))
    before = SourceFile.of(tmp_path, base=tmp_path.parent)
    (tmp_path / "5.png").rename(tmp_path / "6.png")
    assert SourceFile.of(tmp_path, base=tmp_path.parent) != before


def test_a_folder_with_a_link_to_nowhere_can_be_looked_at(tmp_path: Path) -> None:
    (tmp_path / "5.png").symlink_to(tmp_path / "nowhere")
    (tmp_path / "6.png").symlink_to(tmp_path / "6.png")
    assert SourceFile.of(tmp_path, base=tmp_path).path == ""


# Planning


class Spec:
    """What a manifest asks of an encoder."""

    weights_digest = digest_of("weights")
    preprocessing = "none"


def index_of(path: Path, pts: list[int]) -> VideoIndex:
    """Return the index of a video of these pts, all of them keyframes."""
    count = len(pts)
    return VideoIndex(
        source=str(path),
        digest=digest_of("video"),
        codec="h264",
        width=64,
        height=48,
        time_base=Fraction(1, 90_000),
        pts=np.array(pts, np.int64),
        dts=np.array(pts, np.int64),
        pos=np.arange(count, dtype=np.int64),
        size=np.ones(count, np.int64),
        keyframe=np.ones(count, bool),
        clean=np.ones(count, bool),
        repaired=np.zeros(count, bool),
        discard=np.zeros(count, bool),
        warnings=("from the index",),
    )


def planned(recording: Recording, config: PipelineConfig, pts: list[int]) -> Manifest:
    """Plan a recording whose video has these pts."""
    spec: Any = Spec()
    return plan(recording, config, index=lambda path: index_of(path, pts), encoder=spec)


def test_a_plan_holds_what_the_sources_say(tmp_path: Path) -> None:
    recording = read(tmp_path / "s")
    manifest = planned(recording, PipelineConfig(chunk_frames=2), [0, 3000, 6000, 9000])
    assert [chunk.num_frames for chunk in manifest.chunks] == [2, 2]
    assert all(isinstance(chunk, Chunk) for chunk in manifest.chunks)
    assert (manifest.session_id, manifest.pts_zero_us) == ("s", ZERO_US)
    assert manifest.log_digest == file_digest(tmp_path / "s/inputs.jsonl")
    assert manifest.session_digest == file_digest(tmp_path / "s/session.json")
    assert manifest.warnings == ("from the index",)


def test_the_readers_window_is_filled_in(tmp_path: Path) -> None:
    recording = read(tmp_path / "s")
    assert planned(recording, PipelineConfig(), [0]).config.window_us == 100_000
    assert planned(recording, PipelineConfig(window_us=7), [0]).config.window_us == 7
    assert planned(recording, PipelineConfig(window_us=None), [0]).config.window_us is None


def test_packets_that_share_a_time_are_counted(tmp_path: Path) -> None:
    warnings = planned(read(tmp_path / "s"), PipelineConfig(), [0, 0, 3000, 3000, 6000]).warnings
    assert warnings[1:] == ("2 packets with the time of another; one frame of each time is kept",)


def test_a_video_without_packets_has_a_plan_without_chunks(tmp_path: Path) -> None:
    assert planned(read(tmp_path / "s"), PipelineConfig(), []).chunks == ()


def test_no_file_has_no_digest() -> None:
    assert file_digest(None) is None

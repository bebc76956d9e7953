"""Videos whose logs have a format of their own: found by looking, placed by their readers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

import playmill.inputs
from playmill.config import PipelineConfig
from playmill.encoders import describe
from playmill.errors import ClockError, LogError, SourceChanged, UsageError
from playmill.inputs import (
    READERS,
    Anchor,
    Clock,
    GameplaySessionReader,
    InputEvents,
    LogFiles,
    ReadOptions,
    VideoTimes,
    readers,
)
from playmill.manifest import Manifest, make_manifest
from playmill.publishing.consolidation import read_events
from playmill.recording import Recording, read_recording
from playmill.testing import make_video
from playmill.video_index import index_video
from tests.unit.job_samples import make_session

NINETY = Fraction(1, 90_000)


@dataclass(frozen=True)
class TapeReader:
    """Reads logs of the native form called <video>.tape, which say when the video began."""

    name: str = "tape"
    policies: tuple[str, ...] = ()
    default_window_us: int | None = None
    private: tuple[str, ...] = ("title",)
    suffix: str = ".tape"

    def find(self, video: Path) -> LogFiles | None:
        log, about = video.with_suffix(self.suffix), video.with_suffix(".about.json")
        side = video.with_suffix(".side")
        if not log.is_file():
            return None
        return LogFiles(
            video=video,
            log=log,
            metadata=about if about.is_file() else None,
            sides=(side,) if side.is_file() else (),
        )

    def clock(self, files: LogFiles) -> Clock:
        return "log_us"

    def anchor(self, files: LogFiles, video: VideoTimes) -> Anchor | None:
        if not files.sides:
            return None
        lines = tuple(video.pts.tolist()) if self.policies == ("line",) else None
        return Anchor(
            pts_zero_us=int(files.sides[0].read_text()),
            clock="log_us",
            line_pts=lines,
            warnings=("the tape was dusty",),
        )

    def read(self, files: LogFiles, options: ReadOptions) -> InputEvents:
        if options.line_us is None:
            return GameplaySessionReader().read(files)
        empty = InputEvents.none()
        times = options.line_us
        return replace(
            empty,
            timestamp_us=times,
            device=np.zeros(len(times), np.uint8),
            kind=np.zeros(len(times), np.uint8),
            code=np.full(len(times), -1, np.int32),
            value=np.zeros((len(times), 2), np.float32),
            raw_offsets=np.zeros(len(times) + 1, np.int64),
        )


class BrokenTapeReader(TapeReader):
    """Finds that the tape does not say when the video began."""

    def anchor(self, files: LogFiles, video: VideoTimes) -> Anchor | None:
        raise ClockError(str(files.log), "", "a torn tape", "one that is whole", "Mend it.")


@pytest.fixture
def formats(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """Let a test add readers of its own."""
    known: dict[str, Any] = dict(READERS) | {"tape": TapeReader()}
    monkeypatch.setattr(playmill.inputs, "READERS", MappingProxyType(known))
    readers.cache_clear()
    yield known
    readers.cache_clear()


def make_tape(folder: Path, **files: str) -> Path:
    make_video(folder / "clip.mp4", numbers=range(4), pts=range(0, 12000, 3000), time_base=NINETY)
    (folder / "clip.tape").write_text('{"t":33400,"type":"key_down","key":"w"}\n')
    for suffix, text in files.items():
        (folder / f"clip.{suffix.replace('__', '.')}").write_text(text)
    return folder / "clip.mp4"


def read(path: Path, **config: Any) -> Recording:
    return read_recording(path, identity=path.name, config=PipelineConfig(**config))


def manifest_of(recording: Recording, **config: Any) -> Manifest:
    encoder = describe("mean_pixel", None)
    chosen = PipelineConfig(encoder="mean_pixel", **config)
    return make_manifest(recording, chosen, index=index_video, encoder=encoder)


@pytest.mark.usefixtures("formats")
class TestFound:
    def test_the_log_is_found_by_looking(self, tmp_path: Path) -> None:
        path = make_tape(tmp_path, side="1000", about__json='{"session_id": "s 1", "title": "x"}')
        recording = read(path)
        assert (recording.reader, recording.log) == ("tape", tmp_path / "clip.tape")
        assert recording.session_id == "s 1"
        assert recording.metadata == {"session_id": "s 1"}
        assert recording.sides == (tmp_path / "clip.side",)
        assert len(recording.sources) == 4

    def test_private_metadata_stays_where_it_is_asked_for(self, tmp_path: Path) -> None:
        path = make_tape(tmp_path, about__json='{"title": "x"}')
        assert read(path).metadata == {}
        assert read(path, keep_text=True).metadata == {"title": "x"}

    def test_broken_metadata_is_a_warning(self, tmp_path: Path) -> None:
        recording = read(make_tape(tmp_path, about__json="{"))
        assert recording.metadata == {}
        assert "clip.about.json is left out: it is broken JSON at line 1" in recording.warnings[0]
        assert recording.session_id.startswith("clip-")

    def test_a_named_format_is_the_only_one_looked_for(self, tmp_path: Path) -> None:
        path = make_tape(tmp_path)
        assert read(path, input_format="tape").reader == "tape"
        with pytest.raises(LogError, match="a log of the format gameplay-session/1, as --format"):
            read(path, input_format="gameplay-session/1")
        with pytest.raises(UsageError, match="no reader is named 'disc'; there are gameplay"):
            read(path, input_format="disc")


@pytest.mark.parametrize("name", ["inputs.csv", "events.jsonl", "event.jsonl", "annotation.proto"])
def test_a_log_that_no_reader_knows_is_an_error(tmp_path: Path, name: str) -> None:
    path = make_tape(tmp_path)
    (tmp_path / "clip.tape").unlink()
    (tmp_path / name).write_text("torn")
    with pytest.raises(LogError, match=rf"{name} beside it, in a format that no reader here knows"):
        read(path)
    (tmp_path / "other.mp4").write_bytes(path.read_bytes())
    assert read(path).log is None  # whose it is, nobody can tell


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("clip.jsonl", "", "clip.jsonl beside it, and nothing in it that tells its format"),
        ("event.jsonl", "\n", "event.jsonl beside it, and nothing in it that tells its format"),
        ("clip.JSONL", "{}", "clip.JSONL beside it, with a suffix in capitals"),
    ],
)
def test_a_log_that_no_reader_looks_into_is_an_error(
    tmp_path: Path, name: str, content: str, found: str
) -> None:
    path = make_tape(tmp_path)
    (tmp_path / "clip.tape").unlink()
    (tmp_path / name).write_text(content)
    with pytest.raises(LogError, match=re.escape(found)):
        read(path)


def test_two_logs_beside_a_video_are_one_too_many(tmp_path: Path, formats: dict[str, Any]) -> None:
    formats["disc"] = TapeReader(name="disc", suffix=".disc")
    path = make_tape(tmp_path, disc="{}")
    with pytest.raises(LogError, match=r"clip\.tape \(tape\), clip\.disc \(disc\); expected one"):
        read(path)
    assert read(path, input_format="disc").reader == "disc"


@pytest.mark.usefixtures("formats")
class TestPlanned:
    def test_the_reader_places_the_video_in_time(self, tmp_path: Path) -> None:
        recording = read(make_tape(tmp_path, side="1000"))
        manifest = manifest_of(recording)
        assert (manifest.pts_zero_us, manifest.clock) == (1000, "log_us")
        assert "the tape was dusty" in manifest.warnings
        assert (manifest.config.policy, manifest.config.window_us) == ("following", None)
        assert Manifest.from_json(json.loads(json.dumps(manifest.to_json()))) == manifest
        events = read_events(recording, manifest)
        assert events.timestamp_us.tolist() == [33400]

    def test_the_user_knows_better_when_the_video_began(self, tmp_path: Path) -> None:
        recording = read(make_tape(tmp_path, side="1000"), pts_zero_us=7)
        assert manifest_of(recording).pts_zero_us == 7
        assert manifest_of(recording).warnings == ("the tape was dusty",)
        far = manifest_of(read(make_tape(tmp_path, side="1000"), pts_zero_us=2_001_000))
        assert "pts 0 is +2000.0 ms off what the recording's files say" in far.warnings[-1]

    def test_the_user_can_help_where_the_files_are_broken(
        self, tmp_path: Path, formats: dict[str, Any]
    ) -> None:
        formats["tape"] = BrokenTapeReader()
        path = make_tape(tmp_path)
        with pytest.raises(ClockError, match="found a torn tape"):
            manifest_of(read(path))
        helped = manifest_of(read(path, pts_zero_us=7))
        assert (helped.pts_zero_us, helped.clock) == (7, "log_us")

    def test_nobody_knows_when_the_video_began(self, tmp_path: Path) -> None:
        recording = read(make_tape(tmp_path))
        with pytest.raises(ClockError, match=r"nothing says when the video began.*--pts-zero-us"):
            manifest_of(recording)
        manifest = manifest_of(read(make_tape(tmp_path), pts_zero_us=7))
        assert (manifest.pts_zero_us, manifest.clock) == (7, "log_us")  # the log's clock it is

    def test_every_file_decides_the_dataset(self, tmp_path: Path) -> None:
        path = make_tape(tmp_path, side="1000")
        manifest = manifest_of(read(path))
        (tmp_path / "clip.side").write_text("01000")
        assert manifest_of(read(path)).dataset_key != manifest.dataset_key
        assert manifest_of(read(path)).parts_key == manifest.parts_key
        with pytest.raises(SourceChanged, match="another content than when it was planned"):
            read_events(read(path), manifest)


class TestLines:
    @pytest.fixture(autouse=True)
    def lines(self, formats: dict[str, Any]) -> None:
        formats["tape"] = TapeReader(policies=("line",))

    def test_lines_have_the_times_of_their_frames(self, tmp_path: Path) -> None:
        recording = read(make_tape(tmp_path, side="1000"))
        manifest = manifest_of(recording)
        assert manifest.config.policy == "line"
        assert manifest.line_pts is not None
        ticks = [Fraction(pts) * manifest.time_base * 1_000_000 for pts in manifest.line_pts]
        events = read_events(recording, manifest)
        assert events.timestamp_us.tolist() == [1000 + round(tick) for tick in ticks]

    @pytest.mark.parametrize("policy", ["following", "window"])
    def test_another_policy_is_wrong_usage(self, tmp_path: Path, policy: str) -> None:
        with pytest.raises(UsageError, match=rf"whose policy is line; '{policy}' makes no sense"):
            read(make_tape(tmp_path), policy=policy)

    def test_a_session_cannot_name_it(self, tmp_path: Path) -> None:
        log = {"file": "inputs.jsonl", "format": "tape"}
        make_session(tmp_path / "s", inputs=log)
        with pytest.raises(ClockError, match=r"inputs\.format: found 'tape'; expected 'jsonl'"):
            read(tmp_path / "s")


def test_policy_line_is_not_for_logs_with_times(tmp_path: Path) -> None:
    make_session(tmp_path / "s")
    with pytest.raises(UsageError, match="gameplay-session/1, whose policy is any policy but line"):
        read(tmp_path / "s", policy="line")


@pytest.mark.usefixtures("formats")
def test_a_session_can_name_the_reader_of_its_log(tmp_path: Path) -> None:
    make_session(tmp_path / "s", inputs={"file": "inputs.jsonl", "format": "tape"})
    assert read(tmp_path / "s").reader == "tape"

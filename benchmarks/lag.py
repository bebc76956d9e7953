"""How well `lag.estimate_lag` finds what is known: `python -m benchmarks.lag FOLDER...`.

First, pictures that move with the inputs exactly: how far is an estimate from what the game takes?
Then, every recording in the folders, of any format that is read, is cut into spans. Each span is
tried with its own inputs, the frames moved by offsets from -400 to +400 ms (are they found?), and
with inputs that are not its own (does it keep quiet?): those of another span or recording, its own
shuffled, and its own played backwards.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from playmill.alignment.lag import estimate_lag
from playmill.config import PipelineConfig
from playmill.decoding.motion import motion_rows
from playmill.decoding.pictures import GrayConverter
from playmill.encoders import describe
from playmill.inputs.events import KINDS, InputEvents
from playmill.manifest import make_manifest
from playmill.publishing.consolidation import read_events
from playmill.recording import read_recording
from playmill.recording.discovery import discover
from playmill.video_index import index_video
from tests.unit import lag_samples

OFFSETS_MS = (-400, -217, -100, 0, 100, 283, 400)
"""Added to the time of every frame; an input's effect is then seen that much later."""
GAMES = ((30, 0), (30, 35), (60, 0), (60, 60), (20, 0), (20, 35))
"""Frames and tics a second of games whose lag is known; 0: they react at once."""
SEEDS, GAME_SECONDS = 4, 40
_MOVE = KINDS.index("move")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Scene:
    """A recording, or a span of one."""

    name: str
    frame_us: NDArray[np.int64]
    motion: NDArray[np.float16]
    events: InputEvents

    @property
    def step_us(self) -> float:
        """Return the usual time from one frame to the next."""
        return float(np.median(np.diff(self.frame_us)))

    def cut(self, start_us: int, stop_us: int) -> Scene:
        """Return the span [start_us, stop_us), with a second more of inputs on either side."""
        frames = (self.frame_us >= start_us) & (self.frame_us < stop_us)
        motion = self.motion[frames]
        motion[:1] = np.nan
        times = self.events.timestamp_us
        events = select(self.events, (times >= start_us - 10**6) & (times < stop_us + 10**6))
        return replace(self, frame_us=self.frame_us[frames], motion=motion, events=events)

    def spans(self, seconds: int) -> Iterator[Scene]:
        """Yield up to ten overlapping spans."""
        start, stop = int(self.frame_us[0]), int(self.frame_us[-1]) + 1
        length = seconds * 10**6
        for place in np.linspace(start, stop - length, 10 if stop - start > 1.1 * length else 1):
            if stop - start > 0.98 * length:
                yield self.cut(int(place), int(place) + length)


def select(
    events: InputEvents, kept: NDArray[Any], timestamp_us: NDArray[np.int64] | None = None
) -> InputEvents:
    """Return events by a mask or by indices, at other times if need be, without raw lines."""
    times = events.timestamp_us[kept] if timestamp_us is None else timestamp_us
    return replace(
        events,
        timestamp_us=times,
        **{name: getattr(events, name)[kept] for name in ("device", "kind", "code", "value")},
        raw=np.zeros(0, np.uint8),
        raw_offsets=np.zeros(len(times) + 1, np.int64),
    )


def decode(video: Path) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Return times on the video's own clock, in microseconds, and small gray pictures."""
    convert = GrayConverter()
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        found = [(frame.pts, convert(frame)) for frame in container.decode(stream)]
        base = stream.time_base
    times = [round(pts * base * 1_000_000) for pts, _ in found if pts is not None and base]
    return np.array(times, np.int64), np.array([picture for _, picture in found])


def read_scene(path: Path) -> Scene:
    """Decode a recording's video and read its inputs."""
    recording = read_recording(path, identity=path.name)
    config = PipelineConfig(encoder="mean_pixel")
    manifest = make_manifest(recording, config, index=index_video, encoder=describe("mean_pixel"))
    times, pictures = decode(recording.source)
    return Scene(
        name=path.name,
        frame_us=times + manifest.pts_zero_us,
        motion=motion_rows(pictures),
        events=read_events(recording, manifest),
    )


def evidence_of(scene: Scene) -> Iterator[tuple[str, Scene]]:
    """Yield the scene with all its inputs, with mouse moves alone, and without them."""
    moves = scene.events.kind == _MOVE
    yield "all", scene
    if 0 < np.count_nonzero(moves) < len(moves):
        yield "mouse", replace(scene, events=select(scene.events, moves))
        yield "keys", replace(scene, events=select(scene.events, ~moves))


def foreign(
    scene: Scene, others: list[Scene], rng: np.random.Generator
) -> Iterator[tuple[str, Scene]]:
    """Yield the scene with inputs that are not its own."""
    start, stop = int(scene.frame_us[0]), int(scene.frame_us[-1])
    other = others[int(rng.integers(len(others)))]
    times = other.events.timestamp_us
    if len(times):
        place = int(other.frame_us[0])
        room = int(other.frame_us[-1]) - place - (stop - start)
        # Of the same recording, inputs from at least a span away.
        for _ in range(100):
            begin = place + int(rng.random() * max(room, 0))
            if other.name != scene.name or abs(begin - start) > stop - start + 2 * 10**6:
                events = select(other.events, (times >= begin) & (times < begin + stop - start))
                moved = replace(events, timestamp_us=events.timestamp_us + (start - begin))
                yield "of another", replace(scene, events=moved)
                break
    events = scene.events
    begin = events.timestamp_us[:1]
    waits = rng.permutation(np.diff(events.timestamp_us, prepend=begin))
    order = rng.permutation(len(events))
    yield "shuffled", replace(scene, events=select(events, order, begin + np.cumsum(waits)))
    order = np.arange(len(events))[::-1]
    turned = start + stop - events.timestamp_us[order]
    yield "backwards", replace(scene, events=select(events, order, turned))


def measure_known() -> None:
    """Print how far estimates are from what a game is known to take."""
    print("| frames/s | tics/s | inputs | lag ms | found less lag, ms |\n|---|---|---|---|---|")
    makers = {"mouse": lag_samples.mouse_events, "keys": lag_samples.key_events}
    for fps, tics in GAMES:
        tic_us = 1_000_000 // tics if tics else 1
        for name, make in makers.items():
            errors = []
            for seed in range(SEEDS):
                rng = np.random.default_rng(seed)
                frame_us = lag_samples.frame_times(rng, seconds=GAME_SECONDS, fps=fps)
                events = make(rng, int(frame_us[0]) - 10**6, int(frame_us[-1]) + 10**6)
                pictures = lag_samples.play(rng, frame_us, events, lag_us=0, tic_us=tic_us)
                log = lag_samples.log_of(events)
                estimate = estimate_lag(frame_us, motion_rows(pictures), log)
                errors.append((estimate.lag_us - tic_us // 2) / 1000)
            found = ", ".join(f"{error:+.1f}" for error in errors)
            print(f"| {fps} | {tics or ''} | {name} | {tic_us // 2 / 1000} | {found} |", flush=True)
    print()


def measure_offsets(scenes: list[Scene], lengths: list[int]) -> None:
    """Print how offsets that were put in are found."""
    heads = "recording | span s | inputs | cases | confident | of these within a frame"
    print(f"| {heads} | found less offset, ms |")
    print("|---|---|---|---|---|---|---|")
    claims = right = cases = 0
    for scene in scenes:
        found: dict[tuple[int, str], list[tuple[bool, float]]] = defaultdict(list)
        for seconds in lengths:
            for span in scene.spans(seconds):
                for name, part in evidence_of(span):
                    for offset_ms in OFFSETS_MS:
                        late = part.frame_us + offset_ms * 1000
                        estimate = estimate_lag(late, part.motion, part.events)
                        error = estimate.lag_us - offset_ms * 1000
                        found[seconds, name].append((estimate.confident, error))
        for (seconds, name), results in found.items():
            errors = np.array([error for confident, error in results if confident])
            good = int(np.count_nonzero(np.abs(errors) <= scene.step_us))
            cases, claims, right = cases + len(results), claims + len(errors), right + good
            own = f"{np.median(errors) / 1000:.1f}" if len(errors) else ""
            share = f"{good / len(errors):.3f}" if len(errors) else ""
            print(
                f"| {scene.name} | {seconds} | {name} | {len(results)} | "
                f"{len(errors) / len(results):.2f} | {share} | {own} |",
                flush=True,
            )
    print(f"\n{cases} cases, {claims} confident, of these within a frame: {right}")


def measure_false_claims(scenes: list[Scene], lengths: list[int], rounds: int) -> None:
    """Print how often inputs that are not a span's own are taken for them."""
    rng = np.random.default_rng(1)
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for _ in range(rounds):
        for scene in scenes:
            for seconds in lengths:
                spans = list(scene.spans(seconds))
                if not spans:
                    continue
                span = spans[int(rng.integers(len(spans)))]
                for name, other in foreign(span, scenes, rng):
                    for _, part in evidence_of(other):
                        estimate = estimate_lag(part.frame_us, part.motion, part.events)
                        counts[name][0] += 1
                        counts[name][1] += estimate.confident
                        if estimate.confident:
                            print(f"{scene.name} {seconds} s, {name}: {estimate}", flush=True)
    print("\n| inputs | cases | confident |\n|---|---|---|")
    for name, (cases, claims) in counts.items():
        print(f"| {name} | {cases} | {claims} |")


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--seconds", type=int, nargs="+", default=[20, 30, 60])
    parser.add_argument("--rounds", type=int, default=10)
    arguments = parser.parse_args()
    measure_known()
    scenes = []
    for path in discover(arguments.folders):
        began = time.perf_counter()
        scenes.append(read_scene(path))
        print(f"{path}: {time.perf_counter() - began:.1f} s", file=sys.stderr)
    measure_offsets(scenes, arguments.seconds)
    measure_false_claims(scenes, arguments.seconds, arguments.rounds)


if __name__ == "__main__":
    main()

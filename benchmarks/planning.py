"""Planning a 10-hour recording: index, cut, manifest.

    python -m benchmarks.planning [--hours 10]

The video is a real one of small pictures, whose packets are repeated until it is long enough: what
planning costs depends on the number of packets, and on the bytes that are digested on the way (by
SHA-256, which does about 0.4 GB/s on a processor without instructions for it). Processor time of
one thread is counted.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import av

from benchmarks.table import Row, print_table
from playmill.config import PipelineConfig
from playmill.encoders import describe
from playmill.manifest import Manifest, make_manifest
from playmill.recording import read_recording
from playmill.testing import make_recording
from playmill.video_index import VideoIndex, index_video

FPS = 30
PIECE_S = 10


def lengthen(video: Path, target: Path, seconds: int) -> None:
    """Write the packets of `video`, which lasts PIECE_S, again and again into `target`."""
    with av.open(str(video)) as source, av.open(str(target), "w") as out:
        stream = source.streams.video[0]
        copy = out.add_stream_from_template(stream)
        packets = [packet for packet in source.demux(stream) if packet.dts is not None]
        step = round(PIECE_S / stream.time_base)
        for packet in packets:
            packet.stream = copy
        for _ in range(seconds // PIECE_S):
            for packet in packets:
                out.mux(packet)
                packet.pts += step
                packet.dts += step


def measure(hours: float) -> list[Row]:
    """Measure each step."""
    with tempfile.TemporaryDirectory(prefix="playmill-bench-") as name:
        made = make_recording(Path(name) / "short", seconds=PIECE_S, fps=FPS, gop=2 * FPS)
        lengthen(made.video, Path(name) / "long.mp4", int(hours * 3600))
        size_mb = (Path(name) / "long.mp4").stat().st_size / 1e6
        recording = read_recording(Path(name) / "long.mp4", identity="long")
        indexed_s = 0.0

        def index(path: Path) -> VideoIndex:
            nonlocal indexed_s
            started = time.process_time()
            found = index_video(path)
            indexed_s = time.process_time() - started
            return found

        started = time.process_time()
        manifest = make_manifest(
            recording, PipelineConfig(), index=index, encoder=describe("mean_pixel")
        )
        planned_s = time.process_time() - started - indexed_s
        started = time.process_time()
        text = json.dumps(manifest.to_json())
        again = Manifest.from_json(json.loads(text))
        json_s = time.process_time() - started
        if again != manifest:
            raise AssertionError("the manifest does not survive JSON")
    what = f"plan {hours:g} hours"
    size = f"{manifest.num_frames:,} frames, {len(manifest.chunks):,} chunks"
    return [
        Row(what, f"index ({size}, {size_mb:.0f} MB)", f"{indexed_s:.1f} s", aim="seconds"),
        Row(what, "cut and manifest", f"{planned_s:.2f} s"),
        Row(what, f"as JSON and back ({len(text) / 1e6:.1f} MB)", f"{json_s:.2f} s"),
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hours", type=float, default=10.0)
    print_table(measure(parser.parse_args().hours))


if __name__ == "__main__":
    main()

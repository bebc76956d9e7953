"""Where the time of a run goes, stage by stage, as a table and a picture.

    python -m benchmarks.stages [RECORDING] [--plot benchmarks/stages.png]

The serial pipeline on one recording, in a process of its own, so that imports count as well.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.table import PROJECT, Row, apart, print_table

RECORDING = PROJECT / "examples" / "recordings" / "doom-640x480"
PLOT = PROJECT / "benchmarks" / "stages.png"
WIDTH, BAR, MARGIN = 900, 34, 16
LABEL = 260
COLORS = ("#4c72b0", "#55a868", "#c44e52", "#8172b3", "#ccb974", "#64b5cd")


def run_here(path: Path) -> dict[str, float]:
    """Run the pipeline on `path` in this process; return the seconds of each stage."""
    seconds: dict[str, float] = {}

    @contextmanager
    def stage(name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        seconds[name] = time.perf_counter() - started

    with stage("imports"):
        from playmill import encoders
        from playmill.config import PipelineConfig
        from playmill.decoding.process import DecodeProcess
        from playmill.extraction import Extractor
        from playmill.frame_processor import FrameProcessor
        from playmill.manifest import make_manifest
        from playmill.publishing.consolidation import consolidate
        from playmill.publishing.row_source import PartRows
        from playmill.recording import read_recording
        from playmill.storage import DataStorage
        from playmill.verify import verify
    config = PipelineConfig()
    with (
        tempfile.TemporaryDirectory(prefix="playmill-bench-") as scratch,
        DecodeProcess() as decoder,
    ):
        with stage("load the encoder"):
            encoder = encoders.load(config.encoder, device="cpu")
            processor = FrameProcessor.of_run(encoder, config)
        recording = read_recording(path, identity="bench")
        with stage("index, digest, plan"):
            manifest = make_manifest(recording, config, index=decoder.index, encoder=encoder.spec)
        extractor = Extractor(processor, decoder, config.num_passes)
        parts = [Path(scratch, chunk.id) for chunk in manifest.chunks]
        with stage("extract (decode, model, parts)"):
            source, chunks = recording.source, manifest.chunks
            commits = list(extractor.extract_all(source, chunks, manifest, folders=parts))
        with stage("consolidate (with verify)"):
            rows, storage = PartRows(parts, commits), DataStorage(Path(scratch, "datasets"))
            done = consolidate(recording, manifest, commits, source=rows, storage=storage)
        with stage("verify once more"):
            if verify(done.dataset):
                raise AssertionError("the dataset is not sound")
    return seconds


def measure(path: Path, plot: Path | None = None) -> list[Row]:
    """Measure the stages; draw them into `plot`."""
    seconds = apart("benchmarks.stages", path, "--here")
    if plot is not None:
        draw(seconds, plot, title=f"Where the time goes: {path.name}, seconds")
    total = sum(seconds.values())
    return [Row("stages", name, f"{value:.2f} s", value / total) for name, value in seconds.items()]


def draw(seconds: dict[str, float], path: Path, *, title: str) -> None:
    """Draw a bar a stage into a PNG."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(size=16)
    height = 3 * MARGIN + BAR * (len(seconds) + 1)
    image = Image.new("RGB", (WIDTH, height), "white")
    pen = ImageDraw.Draw(image)
    pen.text((MARGIN, MARGIN), title, fill="black", font=font)
    scale = (WIDTH - LABEL - 5 * MARGIN) / max(seconds.values())
    for line, (name, value) in enumerate(seconds.items()):
        top = 2 * MARGIN + BAR * (line + 1) - MARGIN // 2
        pen.text((MARGIN, top + 5), name, fill="black", font=font)
        right = LABEL + max(1, round(value * scale))
        pen.rectangle((LABEL, top, right, top + BAR - 8), fill=COLORS[line % len(COLORS)])
        pen.text((right + 6, top + 5), f"{value:.2f}", fill="black", font=font)
    image.save(path)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recording", nargs="?", type=Path, default=RECORDING)
    parser.add_argument("--plot", type=Path, help="PNG to draw into")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.here:
        print(json.dumps(run_here(arguments.recording)))
    else:
        print_table(measure(arguments.recording, arguments.plot))


if __name__ == "__main__":
    main()

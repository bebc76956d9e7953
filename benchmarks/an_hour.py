"""What looking at, checking and using an hour of play costs: the commands, and a first batch.

    python -m benchmarks.an_hour [--frames 108000] [--log-events 1000000]

A dataset of an hour (1280 random features a frame, 16 keys, moves and scrolls) is published as the
mill does it. Each command then runs in a process of its own. Peak memory is that of the largest
process: some commands check in a child.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from functools import partial
from pathlib import Path

from benchmarks.consolidating import KEYS, ZERO_US, make_manifest, make_parts, make_session
from benchmarks.table import Row, apart, peak_bytes, print_table

NUM_LINKED = 5
"""Datasets of the folder whose index is written: one file by several names."""
MAX_MB = 500
LENGTH, BATCH = 64, 32


def write_log(path: Path, num_frames: int, num_events: int) -> None:
    """Write a log: of five inputs three are moves, one a scroll, and one a press or release."""
    step = num_frames * 1_000_000 // 30 / max(num_events, 1)
    with path.open("w", encoding="utf-8") as log:
        for event in range(num_events):
            what = f'{{"t":{ZERO_US + int(event * step)},"type":'
            turn = event // 5
            if event % 5 > 1:
                log.write(f'{what}"mouse_move","dx":{event % 17 - 8},"dy":{event % 3 - 1}}}\n')
            elif event % 5:
                log.write(f'{what}"mouse_wheel","delta":{turn % 2 * 2 - 1}}}\n')
            else:
                kind = "key_up" if turn // len(KEYS) % 2 else "key_down"
                log.write(f'{what}"{kind}","key":"{KEYS[turn % len(KEYS)]}"}}\n')


@contextmanager
def published(num_frames: int, num_events: int) -> Iterator[Path]:
    """Publish the dataset in a folder that is gone afterwards; yield the file."""
    from playmill.publishing.consolidation import consolidate
    from playmill.publishing.row_source import PartRows
    from playmill.recording import read_recording
    from playmill.storage import DataStorage

    with tempfile.TemporaryDirectory(prefix="playmill-bench-") as name:
        folder = Path(name)
        commits = make_parts(folder / "parts", num_frames)
        make_session(folder / "session", num_frames, 0)
        write_log(folder / "session" / "inputs.jsonl", num_frames, num_events)
        manifest = make_manifest(folder / "session", commits)
        recording = read_recording(folder / "session", identity="session")
        parts = [folder / "parts" / f"{commit.chunk_index:06d}" for commit in commits]
        yield consolidate(
            recording,
            manifest,
            commits,
            source=PartRows(parts, commits),
            storage=DataStorage(folder / "datasets"),
        ).dataset


def command(*arguments: str) -> None:
    """Run the `playmill` command; what it prints is thrown away."""
    from playmill.cli import app

    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        app(list(arguments), standalone_mode=False)


def first_batch(path: str) -> None:
    """Take one shuffled batch of windows."""
    from torch.utils.data import DataLoader

    from playmill.torch_dataset import WindowDataset

    windows = WindowDataset(path, LENGTH, valid_only=True)
    batch = next(iter(DataLoader(windows, batch_size=BATCH, shuffle=True)))
    assert batch["features"].shape[:2] == (BATCH, LENGTH)


def measure_here(run: Callable[[], None]) -> dict[str, float]:
    """Run it; return seconds, seconds of processor and the peak in MB, children included."""
    started = time.perf_counter()
    run()
    seconds, spent = time.perf_counter() - started, os.times()
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    cpu_s = spent.user + spent.system + spent.children_user + spent.children_system
    return {"seconds": seconds, "cpu_s": cpu_s, "peak_mb": max(peak_bytes(), children) / 1e6}


def measure(num_frames: int, num_events: int) -> list[Row]:
    """Measure each command on one dataset."""
    with published(num_frames, num_events) as dataset:
        folder = dataset.parents[2]
        for number in range(NUM_LINKED):
            linked = folder / "many" / f"session_{number}" / dataset.name
            linked.parent.mkdir(parents=True)
            linked.hardlink_to(dataset)
        index = ("report", str(folder / "many"), "-o", str(folder / "index.html"), "--no-pictures")
        of_one = ("report", str(dataset), "-o", str(folder / "one.html"), "--no-pictures")
        steps: dict[str, tuple[str, ...]] = {
            "inspect": ("inspect", str(dataset)),
            "verify": ("verify", str(dataset)),
            "report, without pictures": of_one,
            f"report of a folder of {NUM_LINKED}": index,
            "the same again, nothing changed": index,
            "resync --window-ms 60": ("resync", str(dataset), "--window-ms", "60"),
            f"first batch of {BATCH} x {LENGTH}, torch": ("first-batch", str(dataset)),
        }
        return [_row(name, arguments) for name, arguments in steps.items()]


def _row(name: str, arguments: tuple[str, ...]) -> Row:
    found = apart("benchmarks.an_hour", "--here", *arguments)
    value = f"{found['seconds']:.1f} s ({found['cpu_s']:.1f} s of processor)"
    most = f"{found['peak_mb']:.0f} MB"
    aim = f"< {MAX_MB} MB" + (", < 30 s" if arguments[0] == "report" else "")
    if arguments[0] == "first-batch":
        aim = ""
    return Row("an hour", name, f"{value}, {most}", aim=aim)


def main() -> None:
    """Print the table."""
    if sys.argv[1:2] == ["--here"]:
        verb, *rest = sys.argv[2:]
        run = (
            partial(first_batch, *rest) if verb == "first-batch" else partial(command, verb, *rest)
        )
        print(json.dumps(measure_here(run)))
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=108_000)
    parser.add_argument("--log-events", type=int, default=1_000_000)
    arguments = parser.parse_args()
    print_table(measure(arguments.frames, arguments.log_events))


if __name__ == "__main__":
    main()

"""Random windows of 64 frames a second, from every layout that such features are kept in.

    python -m benchmarks.reading [--frames 60000]

The page cache is warm and processor time is counted, so that what is measured is what a layout
costs, also where other processes run. The layouts: the first sketch's
(an array per frame, gzip), robomimic's (one gzip array, chunked as h5py chooses), a numpy memory
map that is copied, and ours: read by plain h5py (which checks every chunk at every read), and by
`Dataset.window` (which checks a chunk when it is first touched), on the first pass over the file
and from then on.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from benchmarks.table import Row, print_table
from playmill.publishing.chunk_writer import ChunkWriter
from playmill.reading.row_reader import RowReader
from playmill.schema import FEATURE_CHUNK_ROWS

DIM = 1280
LENGTH = 64
SECONDS = 4.0
SKETCH_FRAMES = 6_000
CACHE_BYTES = 8 << 20
"""HDF5's chunk cache, for every layout that it reads: more than `Dataset` gives it."""
CACHE_SLOTS = 1009


def features(num_frames: int) -> NDArray[np.float16]:
    """Return rows like those of a backbone: half of the values small, none special."""
    values = np.random.default_rng(0).standard_normal((num_frames, DIM), np.float32)
    return np.maximum(values, -0.2).astype(np.float16)


def write_all(folder: Path, rows: NDArray[np.float16]) -> None:
    """Write `rows` in every layout."""
    np.save(folder / "map.npy", rows)
    with h5py.File(folder / "robomimic.h5", "w") as file:
        file.create_dataset("features", data=rows, compression="gzip")
    with h5py.File(folder / "sketch.h5", "w") as file:
        frames = file.create_group("frames")
        for number, row in enumerate(rows[:SKETCH_FRAMES]):
            frames.create_dataset(f"frame_{number:08}", data=row, compression="gzip")
    with h5py.File(folder / "ours.h5", "w", libver=("v108", "v110")) as file:
        chunks = (FEATURE_CHUNK_ROWS, DIM)
        node = file.create_dataset(
            "features", rows.shape, rows.dtype, chunks=chunks, fletcher32=True
        )
        writer = ChunkWriter(node)
        writer.append(rows)
        writer.close()


def windows_per_s(read: Callable[[int], Any], num_frames: int, *, once: bool = False) -> float:
    """Return how many windows `read` gives in a second of processor time.

    Args:
        read: reads the window that begins at a frame.
        once: take windows of whole chunks, each once, in random order; otherwise any.
    """
    rng = np.random.default_rng(1)
    starts = rng.integers(0, num_frames - LENGTH, 100_000).tolist()
    if once:
        starts = (rng.permutation(num_frames // LENGTH - 1) * LENGTH).tolist()
    began, started, count = time.perf_counter(), time.process_time(), 0
    for start in starts:
        read(start)
        count += 1
        if count % 16 == 0 and time.perf_counter() - began > SECONDS:
            break
    return count / (time.process_time() - started)


def measure(num_frames: int) -> list[Row]:
    """Measure every layout."""
    with tempfile.TemporaryDirectory(prefix="playmill-bench-") as name:
        folder = Path(name)
        write_all(folder, features(num_frames))
        cache = {"rdcc_nbytes": CACHE_BYTES, "rdcc_nslots": CACHE_SLOTS}
        with (
            h5py.File(folder / "sketch.h5") as sketch,
            h5py.File(folder / "robomimic.h5", **cache) as robomimic,
            h5py.File(folder / "ours.h5", **cache) as ours,
        ):
            memory = np.load(folder / "map.npy", mmap_mode="r")
            np.array(memory)  # warms the cache
            frames, gzip, plain = sketch["frames"], robomimic["features"], ours["features"]
            reader = RowReader(plain)

            def by_frame(start: int) -> NDArray[np.float16]:
                names = (f"frame_{number:08}" for number in range(start, start + LENGTH))
                return np.stack([frames[name][...] for name in names])

            def of(array: Any) -> Callable[[int], Any]:
                return lambda start: np.array(array[start : start + LENGTH])

            def direct(start: int) -> NDArray[Any]:
                return reader.read(start, start + LENGTH)

            rates = {
                "memory map, copied": windows_per_s(of(memory), num_frames),
                "first sketch, an array per frame, gzip": windows_per_s(by_frame, SKETCH_FRAMES),
                "robomimic, gzip": windows_per_s(of(gzip), num_frames),
                "ours, plain h5py": windows_per_s(of(plain), num_frames),
                "ours, first touch": windows_per_s(direct, num_frames, once=True),
                "ours, checked before": 0.0,
            }
            for _ in reader.chunks():
                pass
            rates["ours, checked before"] = windows_per_s(direct, num_frames)
    return list(rows(rates))


def rows(rates: dict[str, float]) -> list[Row]:
    """Put the rates beside those that they are measured against."""
    base, sketch, gzip = list(rates.values())[:3]
    aims = {
        "ours, plain h5py": f">= 3x robomimic's: {rates['ours, plain h5py'] / gzip:.1f}",
        "ours, first touch": ">= 0.25",
        "ours, checked before": ">= 0.5; >= 20x first sketch's: "
        f"{rates['ours, checked before'] / sketch:.0f}",
    }
    return [
        Row("random windows of 64", path, f"{rate:.0f} /s", rate / base, aims.get(path, ""))
        for path, rate in rates.items()
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=60_000)
    print_table(measure(parser.parse_args().frames))


if __name__ == "__main__":
    main()

"""Every benchmark around extraction, in one run and one table: `make bench` runs it.

    python -m benchmarks.suite [--quick] [--plot benchmarks/stages.png]

`python -m benchmarks.throughput`, which `make bench` runs first, measures extraction itself.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from benchmarks import (
    an_hour,
    consolidating,
    host,
    memory,
    peers,
    planning,
    reading,
    reading_logs,
    stages,
    synchronizing,
)
from benchmarks.table import Row, print_table
from playmill.processor import hardware_name

PACKAGES = ("numpy", "h5py", "zarr", "av", "torch")


def main() -> None:
    """Run all; print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the data, once")
    parser.add_argument("--plot", type=Path, help="PNG of the stages to draw")
    arguments = parser.parse_args()
    share = 10 if arguments.quick else 1
    suite: dict[str, Callable[[], list[Row]]] = {
        "synchronizing": lambda: synchronizing.measure(1_000_000 // share, 10_000_000 // share),
        "consolidating": lambda: consolidating.measure(1_100_000 // share, 0, 1),
        "an hour": lambda: an_hour.measure(108_000 // share, 1_000_000 // share),
        "reading": lambda: reading.measure(60_000 // share),
        "reading logs": lambda: reading_logs.measure(300_000 // share),
        "planning": lambda: planning.measure(10 / share),
        "memory": lambda: memory.measure(300 // share),
        "stages": lambda: stages.measure(stages.RECORDING, arguments.plot),
        "host": lambda: host.measure(host.RECORDING),
        "peers": lambda: peers.measure(peers.VIDEO),
    }
    print(f"{hardware_name()}, {os.cpu_count()} cores, Python {platform.python_version()},")
    print(", ".join(f"{name} {version(name)}" for name in PACKAGES) + ";")
    print(f"{time.strftime('%Y-%m-%d')}, load average at the start {os.getloadavg()[0]:.1f}\n")
    print_table(row for name, measure in suite.items() for row in _timed(name, measure))


def _timed(name: str, measure: Callable[[], list[Row]]) -> list[Row]:
    started = time.perf_counter()
    rows = measure()
    print(f"  {name}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    return rows


if __name__ == "__main__":
    main()

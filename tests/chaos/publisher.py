"""A process that publishes: `python -m tests.chaos.publisher DATASETS FIRST STOP [GO]`.

Writes the datasets of keys FIRST .. STOP - 1 of one session, one after the other, once the file GO
is there. Failpoints are armed by PLAYMILL_FAILPOINT, as in a worker.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from playmill.storage import DataStorage
from tasks.settings import armed_failpoints
from tests.unit.dataset_samples import make_content, make_features


def publish(datasets: Path, number: int) -> Path:
    """Publish the dataset whose key and latency have this number."""
    content = make_content(dataset_key=f"key-{number}", latency_us=number)
    return DataStorage(datasets).write(content, features=[make_features()])


def main(datasets: Path, first: int, stop: int, go: Path | None = None) -> None:
    """Publish some datasets."""
    for failpoint in armed_failpoints():
        failpoint.arm()
    while go is not None and not go.exists():
        time.sleep(0.005)
    for number in range(first, stop):
        publish(datasets, number)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), *map(Path, sys.argv[4:]))

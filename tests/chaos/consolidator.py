"""A process that consolidates without asking for a lease, as nobody should.

`python -m tests.chaos.consolidator JOB GO`, with the settings of a worker.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from playmill.store import Store
from tasks import consolidate
from tasks.app import settings


def main(job_id: str, go: Path) -> None:
    """Publish a job once the file `go` is there."""
    store = Store(settings().store)
    while not go.exists():
        time.sleep(0.005)
    consolidate._publish(store, job_id)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))

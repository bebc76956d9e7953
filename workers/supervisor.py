"""One extracting worker for each GPU of this machine, as one process to start and to stop."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from types import FrameType

from workers.processes import Process

LOOK_S = 1.0


def supervise(processes: Sequence[Process]) -> int:
    """Run the processes until TERM or INT; one that dies is started again.

    Returns 0 once all have ended. Raises MillBroken if one dies again and again.
    """
    stopping = False

    def stop(_: int, __: FrameType | None) -> None:
        nonlocal stopping
        stopping = True
        for process in processes:
            process.ask_to_stop()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, stop)
    try:
        for process in processes:
            process.start()
        while not stopping:
            time.sleep(LOOK_S)
            for process in processes:
                if not stopping:
                    process.revive()
        while any(process.alive() for process in processes):
            time.sleep(LOOK_S / 4)
        return 0
    finally:
        for process in processes:
            process.kill()

"""The workers of this machine as one process to start and to stop: one a GPU, or just one."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Sequence
from types import FrameType

from workers.processes import Process

log = logging.getLogger(__name__)

LOOK_S = 1.0
WRONG_USAGE = 2
"""Exit status of a command that was called wrongly: it would be again."""


def supervise(processes: Sequence[Process]) -> int:
    """Run the processes until TERM or INT; one that ends by itself is started again.

    A second INT ends them at once. Returns the exit status: that of a process which was called
    wrongly, else 0 once all have ended.
    """
    stopping = at_once = False

    def stop(number: int, _: FrameType | None) -> None:
        nonlocal stopping, at_once
        if number == signal.SIGINT and not stopping:
            log.info("ending after the task in hand; interrupt again to end at once")
        at_once = stopping and number == signal.SIGINT
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
                if process.status == WRONG_USAGE:
                    return WRONG_USAGE
                if not stopping:
                    process.revive()
        while not at_once and any(process.alive() for process in processes):
            time.sleep(LOOK_S / 4)
        return 0
    finally:
        for process in processes:
            process.kill()

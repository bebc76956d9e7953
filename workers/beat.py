"""The clock: reconciles, and begins nightly runs. `python -m workers.beat`.

It does both by itself and sends no message for them: a message would wait in line behind the very
work that it is to mend. Any number of clocks may run at once.
"""

from __future__ import annotations

import logging
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType

import redis

from playmill.errors import PlaymillError
from playmill.nights.nightly import note_schedule
from playmill.store import Store
from tasks import broker
from tasks.advance import Line
from tasks.app import settings
from tasks.nightly import TICK_S, read_config, tick
from tasks.reconcile import reconcile
from tasks.settings import armed_failpoints
from workers import logs

log = logging.getLogger(__name__)

LOOK_S = 2.0
"""Pause between two looks at the queues."""
REST = 4.0
"""Pause after an early reconciliation, in times of how long it took: a long list of jobs on a slow
disk must not keep beat, and the disk, busy all the time."""


def main() -> int:
    """Tick until TERM or INT."""
    logs.configure()
    for failpoint in armed_failpoints():
        failpoint.arm()
    chosen, store = settings(), Store(settings().store)
    stopped = threading.Event()

    def stop(_: int, __: FrameType | None) -> None:
        stopped.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    if chosen.crontab is not None:
        # A configuration that cannot be used ends beat at once, where somebody looks; a schedule
        # is noted now, as the first tick may come just after its first nominal time.
        read_config(chosen, store)
        note_schedule(store, chosen.crontab, now_s=time.time())
    log.info(
        "beat: reconciling every %.0f s, store %s, datasets %s, broker %s",
        chosen.reconcile_s,
        chosen.store,
        chosen.datasets,
        chosen.shown_broker_url,
    )
    return run(
        stopped,
        reconciling=lambda: every(LOOK_S, Reconciler(store, chosen.reconcile_s).look, stopped),
        nightly=lambda: every(TICK_S, lambda: tick(store, chosen, now_s=time.time()), stopped),
    )


def run(
    stopped: threading.Event,
    *,
    reconciling: Callable[[], object],
    nightly: Callable[[], object],
) -> int:
    """Run both until `stopped`; a bug in one ends the other too. Return the exit status."""
    bugs = []

    def guarded(work: Callable[[], object]) -> None:
        try:
            work()
        except Exception:
            log.exception("beat: a fault that it does not know: ending")
            bugs.append(work)
        finally:
            stopped.set()

    # In a thread of its own: a first look at a large inbox takes minutes.
    thread = threading.Thread(target=guarded, args=(nightly,), name="nightly")
    thread.start()
    guarded(reconciling)
    thread.join()
    return 1 if bugs else 0


class Reconciler:
    """Reconciles when it is time, and earlier when workers may soon want for work."""

    def __init__(self, store: Store, period_s: float) -> None:
        self._store, self._period_s = store, period_s
        self._wanting: set[Line] = set()
        self._done_s, self._rest_s = -period_s, 0.0

    def look(self) -> None:
        """Reconcile, if there is a reason to."""
        since_s = time.monotonic() - self._done_s
        if since_s < self._period_s and (since_s < self._rest_s or not self._any_hungry()):
            return
        started_s = time.monotonic()
        _, self._wanting = reconcile(self._store)
        self._done_s = time.monotonic()
        self._rest_s = REST * (self._done_s - started_s)

    def _any_hungry(self) -> bool:
        """Say whether a queue runs low for which there is more on the store."""
        return any(broker.hungry(queue, verb) for queue, verb in self._wanting)


def every(period_s: float, work: Callable[[], object], stopped: threading.Event) -> None:
    """Do `work` again and again; a fault of Redis or of a disk is waited for."""
    while not stopped.is_set():
        try:
            work()
        except (redis.RedisError, OSError, PlaymillError) as error:
            log.error("beat: %s: %s", type(error).__name__, error)
        stopped.wait(period_s)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except PlaymillError as error:
        sys.exit(f"playmill: {error}")

"""Random faults while recordings are worked on: nothing is lost, and nothing is there twice."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from playmill.jobs import MAX_ATTEMPTS
from tests.chaos.mill import Job, Mill, free_port, kill9, make_recordings, pid_of, undisturbed
from tests.chaos.proxy import Proxy

NUM_RECORDINGS = 12
NUM_CHUNKS = 4
SLOW = "extract:part-written:sleep=0.5:1000000"
"""Makes a chunk take long enough to be in somebody's hands when something breaks."""
PAUSE_S = (0.5, 2.5)


class Faults:
    """Everything that may break, by name. Kills count, as they may cost a try."""

    def __init__(self, mill: Mill, proxy: Proxy, rng: random.Random) -> None:
        self._mill, self._proxy, self._rng = mill, proxy, rng
        self.kills = 0
        self.faults: dict[str, Callable[[], object]] = {
            "a gpu child is killed": lambda: self._kill_child("gpu"),
            "another gpu child is killed": lambda: self._kill_child("gpu"),
            "a cpu child is killed": lambda: self._kill_child("cpu"),
            "a gpu worker is killed": lambda: self._kill_worker("gpu"),
            "a cpu worker is killed": lambda: self._kill_worker("cpu"),
            "beat is killed": lambda: mill.kill("beat"),
            "redis is killed": lambda: mill.kill("redis"),
            "redis is gone for 4 s": self._outage,
            "redis is emptied": lambda: mill.redis().flushall(),
            "the gpu queue is deleted": lambda: mill.redis().delete("playmill:extract-cpu"),
            "a gpu message is lost": lambda: mill.redis().rpop("playmill:extract-cpu"),
            "another gpu message is lost": lambda: mill.redis().lpop("playmill:extract-cpu"),
            "a cpu message is lost": lambda: mill.redis().rpop("playmill:cpu"),
            "all connections are reset": proxy.reset_all,
            "the network is gone for 4 s": lambda: self._network("reset"),
            "the network is slow for 4 s": lambda: self._network("delay"),
        }

    def _kill_child(self, kind: str) -> None:
        children = list(self._mill.pool_children(kind).values())
        if children:
            self.kills += kill9(self._rng.choice(children))

    def _kill_worker(self, kind: str) -> None:
        self._mill.kill(f"{kind}{self._rng.randrange(2)}")
        self.kills += 1

    def _outage(self) -> None:
        with self._mill.without("redis"):
            time.sleep(4)

    def _network(self, mode: str) -> None:
        self._proxy.mode = "reset" if mode == "reset" else "delay"
        if mode == "reset":
            self._proxy.reset_all()
        time.sleep(4)
        self._proxy.mode = "pass"


def busy_children(mill: Mill, jobs: list[Job]) -> set[int]:
    """Return the processes that have extracted something of these jobs."""
    tries = (attempt for job in jobs for attempt in mill.tries(job))
    return {pid_of(attempt) for attempt in tries if attempt["step"].isdecimal()}


@pytest.mark.timeout(500)
@pytest.mark.parametrize("seed", [1])  # one of many: give another to look further
def test_whatever_breaks_every_job_is_published_once_and_right(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    recordings = make_recordings(tmp_path / "in", NUM_RECORDINGS, seconds=NUM_CHUNKS)
    expected = {path.name: undisturbed(path, tmp_path / "serial") for path in recordings}
    port = free_port()
    folder = tmp_path / "mill"
    with (
        Proxy(port) as proxy,
        Mill(folder, uncounted=[SLOW], broker_port=proxy.port, redis_port=port) as mill,
    ):
        started = time.monotonic()
        jobs = [mill.submit(path) for path in recordings]
        mill.wait_for(lambda: list(mill.store.root.glob("parts/*/commits/*.json")))
        # When everything breaks once, in some order
        faults = Faults(mill, proxy, rng)
        names = sorted(faults.faults)
        rng.shuffle(names)
        for name in names:
            time.sleep(rng.uniform(*PAUSE_S))
            print(f"{time.monotonic() - started:6.1f} s: {name}")
            faults.faults[name]()
        open_jobs = sum(mill.ending(job) is None for job in jobs)
        # Then every job is published all the same
        mill.wait(jobs, timeout_s=200)
        took_s = time.monotonic() - started
        mill.assert_right(expected, jobs)
        chunks = [
            attempt for job in jobs for attempt in mill.tries(job) if attempt["step"].isdecimal()
        ]
        print(
            f"seed {seed}: {len(names)} faults, {faults.kills} kills; {open_jobs} jobs were open"
            f" after the last; all published after {took_s:.0f} s; {len(chunks)} chunk tries for"
            f" {NUM_RECORDINGS * NUM_CHUNKS} chunks"
        )
        assert len(chunks) <= NUM_RECORDINGS * NUM_CHUNKS * MAX_ATTEMPTS
        # And every worker takes work again
        after = [
            mill.submit(path)
            for path in make_recordings(tmp_path / "in", 3, first=100, seconds=NUM_CHUNKS)
        ]
        mill.wait(after, timeout_s=200)
        children = {child.pid for child in mill.pool_children("gpu").values()}
        assert busy_children(mill, after) >= children, mill.report()


@pytest.mark.timeout(400)
def test_connections_that_are_half_open_are_given_up_and_nobody_stays_idle(tmp_path: Path) -> None:
    recordings = make_recordings(tmp_path / "in", 4, seconds=NUM_CHUNKS)
    expected = {path.name: undisturbed(path, tmp_path / "serial") for path in recordings}
    port = free_port()
    with (
        Proxy(port) as proxy,
        Mill(tmp_path / "mill", uncounted=[SLOW], broker_port=proxy.port, redis_port=port) as mill,
    ):
        jobs = [mill.submit(path) for path in recordings]
        mill.wait_for(lambda: list(mill.store.root.glob("parts/*/commits/*.json")))
        # When no connection delivers anything any more, and none is closed
        started = time.monotonic()
        assert proxy.half_open_all() > 4
        mill.wait(jobs, timeout_s=200)
        print(f"published {time.monotonic() - started:.0f} s after the connections went dead")
        mill.assert_right(expected, jobs)
        # Then all workers have connections of their own again
        after = [
            mill.submit(path)
            for path in make_recordings(tmp_path / "in", 3, first=100, seconds=NUM_CHUNKS)
        ]
        mill.wait(after, timeout_s=200)
        deadline = time.monotonic() + 120
        number = 200
        while not busy_children(mill, after) >= {
            child.pid for child in mill.pool_children("gpu").values()
        }:
            assert time.monotonic() < deadline, f"somebody stays idle\n{mill.report()}"
            after += [
                mill.submit(path)
                for path in make_recordings(tmp_path / "in", 2, first=number, seconds=NUM_CHUNKS)
            ]
            number += 2
            mill.wait(after, timeout_s=100)
        print(f"all workers at work {time.monotonic() - started:.0f} s after it")

"""A simulated fleet: `python -m benchmarks.fleet`. What the mill itself costs, at 1 to 64 workers.

Everything is real (Redis, Celery's messages, the tasks, store, parts, publication) but two things:
a chunk's features are zeros that take a fixed delay, in place of a GPU, and 16 workers are threads
of one process. Every dataset is counted at the end.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from array import array
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace, TracebackType
from typing import Any

import numpy as np
import psutil
import redis

from playmill import encoders
from playmill.config import PipelineConfig
from playmill.decoding.motion import PICTURE_SIZE, motion_rows
from playmill.jobs import Commit
from playmill.manifest import Manifest
from playmill.parts import PartWriter
from playmill.plan import Chunk
from playmill.roots import Roots
from playmill.store import Store
from playmill.store.identity import begin
from playmill.testing import make_recording
from tasks import app as tasks_app
from tasks.queues import served_by
from tasks.settings import Settings
from workers.processes import Process
from workers.redis_server import find_redis_server, redis_command, wait_for_redis

FPS = 10
CONFIG = PipelineConfig(encoder="mean_pixel", chunk_frames=FPS)
THREADS = 16
"""Workers that are one process."""
FLEETS = (1, 8, 64)


# ---- what is simulated ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DelayExtractor:
    """Stands in for `playmill.extraction.Extractor`."""

    delay_s: float
    processor: Any
    """Knows its weights' digest, for the task's check."""

    def extract(self, source: Path, chunk: Chunk, manifest: Manifest, *, folder: Path) -> Commit:
        """Write a real part of zeros after the delay."""
        started = time.monotonic()
        time.sleep(self.delay_s)
        rows = np.zeros((chunk.num_frames, 3), np.float16)
        part = PartWriter(folder, dim=3, image_size=None)
        part.append("features", rows)
        still = np.zeros((len(rows), *PICTURE_SIZE), np.uint8)
        part.append("motion", motion_rows(still))
        part.append("glances", still[[0, -1]])
        ticks = int(1 / (FPS * manifest.time_base))
        return Commit(
            chunk_index=chunk.index,
            attempt=folder.name,
            pts=array("q", (chunk.start_pts + ticks * row for row in range(len(rows)))),
            flags=array("B", bytes(len(rows))),
            digests=part.close(),
            first_picture=f"first {chunk.index}",
            last_picture=f"last {chunk.index}",
            decoder="none",
            hardware="none",
            batch_size=CONFIG.batch_size,
            seconds=round(time.monotonic() - started, 3),
        )


class DirectIndexer:
    """Stands in for `DecodeProcess`: indexes in this process, which costs no start of another."""

    def __enter__(self) -> Any:
        from playmill.video_index import index_video

        return SimpleNamespace(index=index_video)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        pass


def serve(kind: str, *, number: int, threads: int, delay_s: float) -> None:
    """Be `threads` workers of a queue."""
    import playmill.decoding.process
    import tasks.extract
    from workers import cpu, gpu

    playmill.decoding.process.DecodeProcess = DirectIndexer  # type: ignore[assignment, misc]
    spec = encoders.describe(CONFIG.encoder)
    extractor = DelayExtractor(delay_s, SimpleNamespace(spec=spec))
    tasks.extract._load = lambda *_: extractor  # type: ignore[assignment, misc]
    app = {"gpu": gpu, "cpu": cpu}[kind].app
    app.conf.imports = (f"workers.{kind}",)
    app.worker_main(
        [
            *(
                "worker",
                "-Q",
                ",".join(served_by(kind, device="cpu")),
                "-P",
                "threads",
                "-c",
                str(threads),
                "-n",
                f"{kind}{number}@%h",
            ),
            *("-l", "WARNING", "--without-gossip", "--without-mingle", "--without-heartbeat"),
        ]
    )


# ---- the measurement -----------------------------------------------------------------------------


def make_inbox(folder: Path, count: int, *, chunks: int) -> list[Path]:
    """Make recordings of `chunks` chunks, each with a video of its own."""
    first = make_recording(folder / "play-0", seconds=chunks, fps=FPS, gop=FPS)
    video, log = first.video.read_bytes(), first.log.read_bytes()
    session = (first.folder / "session.json").read_text()
    made = [first.folder]
    for number in range(1, count):
        place = folder / f"play-{number}"
        place.mkdir()
        # An empty box at the end of the file, which every player skips.
        box = b"free" + number.to_bytes(8, "big")
        (place / first.video.name).write_bytes(video + (len(box) + 4).to_bytes(4, "big") + box)
        (place / first.log.name).write_bytes(log)
        (place / "session.json").write_text(session.replace('"play-0"', f'"play-{number}"'))
        made.append(place)
    return made


@contextmanager
def processes(
    settings: Settings, folder: Path, sockets: Path, args: list[list[str]]
) -> Iterator[list[Process]]:
    """Run Redis, beat and the fleet's processes for a block; give them."""
    env = settings.to_env()
    python = [sys.executable, "-m"]
    commands = {
        "redis": redis_command(find_redis_server(), sockets),
        "beat": [*python, "workers.beat"],
        **{
            f"{words[0]}{words[1]}": [*python, "benchmarks.fleet", "--serve", *words]
            for words in args
        },
    }
    started = [
        Process(name, words, env, folder / f"{name}.log") for name, words in commands.items()
    ]
    try:
        for process in started:
            process.start()
            if process.name == "redis":
                wait_for_redis(sockets)
        yield started
    finally:
        for process in reversed(started):
            process.kill()
        shutil.rmtree(sockets, ignore_errors=True)


def measure(
    inbox: list[Path],
    folder: Path,
    *,
    workers: int,
    num_cpu: int,
    delay_s: float,
    reconcile_s: float,
) -> dict[str, Any]:
    """Let a fleet publish all recordings; return what it took."""
    from tasks.submit import make_request, submit_all

    folder.mkdir()
    sockets = Path(tempfile.mkdtemp(prefix="fleet-"))
    settings = Settings(
        broker_url=f"redis+socket://{sockets}/redis.sock?virtual_host=0",
        store=folder / "store",
        datasets=folder / "datasets",
        roots=Roots.whole_machine(),
        device="cpu",
        max_waiting=max(64, 4 * workers),
        reconcile_s=reconcile_s,
    )
    tasks_app.use(settings)
    store = Store(settings.store)
    begin(store.root, settings.datasets)
    started, begun_ns = time.monotonic(), time.time_ns()
    requests = (
        make_request(path, CONFIG, settings.roots, submission_ns=begun_ns) for path in inbox
    )
    jobs = [request.job_id for request in submit_all(store, requests, datasets=settings.datasets)]
    submitted_s = time.monotonic() - started
    sizes = [min(THREADS, workers - at) for at in range(0, workers, THREADS)]
    serving = [["gpu", str(n), str(size), str(delay_s)] for n, size in enumerate(sizes)]
    serving += [["cpu", str(n), "1", "0"] for n in range(num_cpu)]
    with processes(settings, folder, sockets, serving) as started:
        client = redis.Redis(unix_socket_path=str(sockets / "redis.sock"))
        left, peak = set(jobs), 0
        while left:
            time.sleep(0.5)
            left = {job for job in left if not (store.job_folder(job) / "published.json").exists()}
            peak = max(peak, int(client.info("memory")["used_memory"]))
            failed = [job for job in left if store.ending(job, "failed")]
            if failed:
                raise SystemExit(f"{failed[0]} failed: {store.ending(failed[0], 'failed')}")
        stats = client.info("commandstats")
        client.close()
        cpu_s = sum(map(_cpu_s, started))
    return _figures(settings, jobs, stats, workers, delay_s) | {
        "submit ms a recording": 1000 * submitted_s / len(jobs),
        "Redis MB": peak / 1e6,
        "CPU s a recording": cpu_s / len(jobs),
    }


def _cpu_s(process: Process) -> float:
    """Return the CPU seconds that a process and its children have used."""
    assert process.running is not None
    lifeline = psutil.Process(process.running.pid)
    times = [each.cpu_times() for each in (lifeline, *lifeline.children(recursive=True))]
    return sum(time.user + time.system for time in times)


def _figures(
    settings: Settings, jobs: list[str], stats: dict[str, Any], workers: int, delay_s: float
) -> dict[str, Any]:
    files = Counter(path.parent.name for path in settings.datasets.rglob("data.h5"))
    assert len(files) == len(jobs), f"{len(files)} datasets of {len(jobs)} recordings"
    assert set(files.values()) == {1}
    begun, committed = [], []
    for path in (settings.store / "parts").glob("*/attempts/*.json"):
        begun.append(path)
    for path in (settings.store / "parts").glob("*/commits/*.json"):
        committed.append(path.stat().st_mtime)
    first = min(float(_json(path)["started_s"]) for path in begun)
    wall_s = max(committed) - first
    chunks = len(committed)
    calls = {name.removeprefix("cmdstat_"): value["calls"] for name, value in stats.items()}
    pushes = calls.get("lpush", 0)
    return {
        "workers": workers,
        "recordings": len(jobs),
        "chunks": chunks,
        "tries": len(begun),
        "wall s": wall_s,
        "efficiency": chunks * delay_s / (workers * wall_s),
        "ms a chunk beside the delay": 1000 * (wall_s * workers / chunks - delay_s),
        "messages a chunk": pushes / chunks,
        "Redis commands a chunk": sum(calls.values()) / chunks,
        "most frequent": ", ".join(
            f"{name} {count / chunks:.1f}"
            for name, count in sorted(calls.items(), key=lambda item: -item[1])[:6]
        ),
    }


def _json(path: Path) -> dict[str, Any]:
    from playmill.markers import read_json

    return read_json(path) or {}


def main() -> None:
    """Measure fleets of 1, 8 and 64 workers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recordings", type=int, default=100, help="for the largest fleet")
    parser.add_argument("--chunks", type=int, default=10, help="in each recording")
    parser.add_argument("--delay", type=float, default=10.0, help="seconds a chunk takes")
    parser.add_argument("--reconcile", type=float, default=30.0, help="seconds between two")
    parser.add_argument("--workers", type=int, nargs="*", default=FLEETS)
    parser.add_argument("--cpu-workers", type=int, default=2, help="that plan and publish")
    parser.add_argument("--serve", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        kind, number, threads, delay = args.serve
        serve(kind, number=int(number), threads=int(threads), delay_s=float(delay))
        return
    with tempfile.TemporaryDirectory(prefix="playmill-fleet-") as folder:
        inbox = make_inbox(Path(folder, "inbox"), args.recordings, chunks=args.chunks)
        for workers in args.workers:
            # A small fleet gets as much work for each worker, at the least two recordings.
            share = max(2, args.recordings * workers // max(args.workers))
            where = Path(folder, f"fleet-{workers}")
            figures = measure(
                inbox[:share],
                where,
                workers=workers,
                num_cpu=args.cpu_workers,
                delay_s=args.delay,
                reconcile_s=args.reconcile,
            )
            width = max(map(len, figures))
            for name, value in figures.items():
                shown = f"{value:.3g}" if isinstance(value, float) else value
                print(f"{name:{width}}  {shown}")
            print(flush=True)


if __name__ == "__main__":
    main()

"""A backlog: `python -m benchmarks.backlog`. What it costs to submit it, and to look through it.

Submits folders of tiny recordings with the real command, and reconciles a store of planned jobs of
which half is extracted, each in a process of its own that has a real Redis and no workers.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from benchmarks.fleet import CONFIG
from playmill.config import digest_of
from playmill.jobs import Request
from playmill.manifest import MANIFEST_VERSION, SourceFile
from playmill.roots import RootedPath, Roots
from playmill.store import Store
from playmill.testing import make_recording
from tasks import app as tasks_app
from tasks.settings import Settings
from workers.processes import PROJECT, Process
from workers.redis_server import find_redis_server, redis_command, wait_for_redis

REPEATS = 10


@contextmanager
def redis_server(folder: Path) -> Iterator[Settings]:
    """Run a Redis for a block; give the settings of a deployment in `folder`."""
    sockets = Path(tempfile.mkdtemp(prefix="backlog-"))
    settings = Settings(
        broker_url=f"redis+socket://{sockets}/redis.sock?virtual_host=0",
        store=folder / "store",
        datasets=folder / "datasets",
        roots=Roots.whole_machine(),
        device="cpu",
    )
    process = Process(
        "redis", redis_command(find_redis_server(), sockets), {}, folder / "redis.log"
    )
    process.start()
    try:
        wait_for_redis(sockets)
        yield settings
    finally:
        process.kill()
        shutil.rmtree(sockets, ignore_errors=True)


def timed(settings: Settings, *command: str, folder: Path) -> tuple[float, float, str]:
    """Run a Python command; return seconds, peak MB and what it printed."""
    started = time.monotonic()
    with (folder / "out.txt").open("w+") as out:
        process = subprocess.Popen(
            [sys.executable, *command],
            env={**os.environ, **settings.to_env(), "PYTHONPATH": str(PROJECT)},
            stdout=out,
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{command[:4]} ended with {process.returncode}")
        out.seek(0)
        return time.monotonic() - started, usage.ru_maxrss / 1024, out.read()


def make_inbox(folder: Path, count: int) -> None:
    """Make recordings that share the bytes of one video and log."""
    first = make_recording(folder / "play-0").folder
    session = (first / "session.json").read_text()
    for number in range(1, count):
        place = folder / f"play-{number}"
        place.mkdir()
        for path in first.iterdir():
            if path.name != "session.json":
                os.link(path, place / path.name)
        (place / "session.json").write_text(session.replace('"play-0"', f'"play-{number}"'))


def submit(folder: Path, count: int) -> None:
    """Measure `playmill submit FOLDER`, the first time and once more."""
    folder.mkdir()
    make_inbox(folder / "in", count)
    command = ("-m", "playmill.cli", "submit", str(folder / "in"), "--encoder", CONFIG.encoder)
    with redis_server(folder) as settings:
        for what, more in (("", ()), (" again, --json", ("--json",))):
            seconds, peak, out = timed(settings, *command, *more, folder=folder)
            print(
                f"submit {count} recordings{what}: {seconds:.1f} s, peak {peak:.0f} MB,"
                f" {len(out.splitlines())} lines",
                flush=True,
            )


def make_store(store: Store, *, jobs: int, chunks: int) -> None:
    """Make planned jobs, half of whose chunks have a commit marker."""
    from tests.unit.job_samples import make_manifest

    plan = make_manifest(chunks=chunks, config=CONFIG).to_json()
    with mock.patch("os.fsync"):  # what is measured comes afterwards
        for number in range(jobs):
            request = Request.make(
                RootedPath("local", f"play-{number}"),
                (SourceFile(path="video.mp4", size=1, mtime_ns=1),),
                CONFIG,
                submitted_ns=number,
            )
            store.submit(request)
            parts_key = digest_of("parts", number)
            text = json.dumps(plan | {"parts_key": parts_key})
            (store.job_folder(request.job_id) / f"manifest.v{MANIFEST_VERSION}.json").write_text(
                text
            )
            commits = store.root / "parts" / parts_key / "commits"
            commits.mkdir(parents=True)
            for chunk in range(0, chunks, 2):
                (commits / f"{chunk:06d}.json").touch()


def reconcile_often() -> None:
    """Reconcile the store of these settings, and print seconds and MB of each time."""
    from tasks.reconcile import reconcile

    settings = tasks_app.settings()
    for number in range(REPEATS):
        started, cpu = time.monotonic(), time.process_time()
        count, wanting = reconcile(Store(settings.store))
        seconds, cpu = time.monotonic() - started, time.process_time() - cpu
        resident = int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(
            f"  {number + 1}: {count} jobs in {seconds:.2f} s ({cpu:.2f} s CPU);"
            f" {resident:.0f} MB, peak {peak:.0f} MB; wanting: {sorted(wanting)}"
        )


def reconcile(folder: Path, jobs: int, chunks: int) -> None:
    """Measure reconciliations of a backlog, one after the other."""
    folder.mkdir()
    with redis_server(folder) as settings:
        make_store(Store(settings.store), jobs=jobs, chunks=chunks)
        _, _, out = timed(settings, "-m", "benchmarks.backlog", "--reconcile", folder=folder)
        print(f"reconcile {jobs} jobs of {chunks} chunks:\n{out}", flush=True)


def main() -> None:
    """Measure a backlog of 10, 1,000 and 10,000 recordings, and of 10 and 1,000 jobs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recordings", type=int, nargs="*", default=[10, 1000, 10_000])
    parser.add_argument("--jobs", type=int, nargs="*", default=[10, 1000])
    parser.add_argument("--chunks", type=int, default=400, help="in each job")
    parser.add_argument("--reconcile", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.reconcile:
        reconcile_often()
        return
    with tempfile.TemporaryDirectory(prefix="playmill-backlog-") as folder:
        for count in args.recordings:
            submit(Path(folder, f"submit-{count}"), count)
        for jobs in args.jobs:
            reconcile(Path(folder, f"reconcile-{jobs}"), jobs, args.chunks)


if __name__ == "__main__":
    main()

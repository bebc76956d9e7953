"""The queue's half of the `playmill` command: run, submit, status, retry, worker, ..."""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn

import redis
import typer
from rich.console import Console

from playmill.errors import JobUnreadable, PlaymillError, UsageError
from playmill.identity import STORE_MARKER, check_datasets
from playmill.identity import begin as begin_store
from playmill.jobs import JobFacts
from playmill.lone_logs import LoneLog
from playmill.options import Wanted, takes_config
from playmill.phrases import plural
from playmill.recording import discover
from playmill.refusals import forget as forget_refusals
from playmill.roots import Roots
from playmill.store import Store
from tasks import app as tasks_app
from tasks import broker, presence
from tasks.advance import advance, open_jobs
from tasks.collect import collect, drop_parts_of, find_garbage
from tasks.leftovers import STALE_S, find_leftovers, sweep
from tasks.nightly import begin, finish, go_on, report_so_far
from tasks.reconcile import reconcile as reconcile_store
from tasks.settings import Settings
from tasks.submit import make_request, submit_all
from tasks.waiting import Waiting
from workers.mill import (
    STORE_NAME,
    LocalMill,
    default_workers,
    local_settings,
    locked,
    visible_gpus,
)
from workers.outcome import Row, outcome, outcomes, print_json, print_outline, skipped
from workers.processes import PROJECT, Process, python_path, worker_command
from workers.progress import ProgressView, names_of
from workers.supervisor import supervise
from workers.unreadable import Unreadable

Paths = Annotated[
    list[Path],
    typer.Argument(metavar="PATH...", help="Recordings, video files, or folders to search."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON list to stdout.")]
WAIT_S = 2.0
"""Pause between two looks at the store while waiting."""
LocalDatasets = Annotated[
    Path | None, typer.Option(help="Look into a folder that `playmill run` worked in.")
]
Jobs = Annotated[list[str], typer.Argument(metavar="JOB...", help="Job ids, or their beginnings.")]


class BrokerLost(PlaymillError):
    """Redis cannot be used; the one argument is a sentence."""


def add_to(app: typer.Typer) -> None:
    """Add the commands to the library's."""
    verbs = (run, submit, nightly, status, watch, retry, cancel, reconcile, gc, worker, beat)
    for command in verbs:
        app.command()(command)


@takes_config(auto_device=lambda: "cuda" if visible_gpus() else "cpu")
def run(
    paths: Paths,
    datasets: Annotated[Path, typer.Option(help="Folder of datasets; made if absent.")],
    wanted: Wanted,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Extracting processes.", show_default="by cores")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make datasets on this machine: a private Redis, worker processes, and nothing left behind."""
    if wanted.config.device_class == "cuda" and not visible_gpus():
        raise UsageError("--device cuda: this machine has no NVIDIA GPU; take --device cpu")
    lone: list[LoneLog] = []
    found = list(discover(paths, skip=[datasets], tell=lone.append))
    datasets = _writable_folder(datasets)
    num_workers = workers or default_workers(wanted.config.device_class, wanted.config.num_threads)
    console = Console(stderr=True)
    store = Store(datasets / STORE_NAME)
    with locked(store.root), _interruptible():
        config = replace(wanted.config, weights_digest=_keep_weights(store, wanted.weights))
        begin_store(store.root, datasets)
        begun_ns, roots = time.time_ns(), Roots.whole_machine()
        requests = [make_request(path, config, roots, submission_ns=begun_ns) for path in found]
        job_ids = [request.job_id for request in submit_all(store, requests, datasets=datasets)]
        # Last, and used at once: what it makes goes when its block ends.
        mill = LocalMill(datasets, num_workers=num_workers, device=config.device_class)
        names = _names(store, job_ids)
        interrupted = False
        with mill:
            try:
                with ProgressView(names, console) as view:
                    mill.run(job_ids, report=view.update, unreadable=Unreadable(view.say))
            except KeyboardInterrupt:
                interrupted = True
                console.print("stopping after the chunk in hand; interrupt again to stop at once")
                _stop(mill)
        rows = [*outcomes(store, job_ids, mill.settings), *map(skipped, lone)]
    _finish(rows, as_json=as_json, console=console, interrupted=interrupted)


@takes_config(auto_device=lambda: Settings.from_env().device)
def submit(
    paths: Paths,
    wanted: Wanted,
    urgent: Annotated[
        bool, typer.Option("--urgent", help="Before all that is not, also if submitted already.")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until all have ended.")] = False,
    as_json: Json = False,
) -> None:
    """Submit recordings to the workers of PLAYMILL_BROKER_URL."""
    settings, store = _connect()
    config = replace(wanted.config, weights_digest=_keep_weights(store, wanted.weights))
    for path in paths:
        # Wrong usage is found before anything is submitted.
        next(discover([path], skip=[settings.datasets]), None)
    lone: list[LoneLog] = []

    begun_ns = time.time_ns()

    def submitted() -> Iterator[str]:
        requests = (
            make_request(path, config, settings.roots, urgent=urgent, submission_ns=begun_ns)
            for path in discover(paths, skip=[settings.datasets], tell=lone.append)
        )
        for request in submit_all(store, requests, datasets=settings.datasets):
            yield request.job_id

    console = Console(stderr=True)
    if not wait:
        # One recording at a time: there may be more of them than is good to hold.
        rows = (outcome(store, job_id, settings) for job_id in submitted())
        # The list of lone logs is full once the recordings are through.
        more = (skipped(log) for log in lone)
        with _sending_afterwards(store, settings, console):
            _finish(chain(rows, more), as_json=as_json, console=console)
        return
    with _sending_afterwards(store, settings, console):
        job_ids = list(submitted())
    with _interruptible():
        _wait(store, settings, job_ids, console)
    ended = chain(outcomes(store, job_ids, settings), map(skipped, lone))
    _finish(ended, as_json=as_json, console=console)


@contextmanager
def _sending_afterwards(store: Store, settings: Settings, console: Console) -> Iterator[None]:
    """Send what the block has submitted, however it ends, and say what it will wait for."""
    try:
        yield
    finally:
        with _broker_errors():
            waiting = Waiting(store, shown_broker_url=settings.shown_broker_url)
            reconcile_store(store, tell=waiting.note)
            _hint(waiting, console)


def _hint(waiting: Waiting, console: Console) -> None:
    for line in waiting.lines():
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _wait(
    store: Store,
    settings: Settings,
    job_ids: Sequence[str],
    console: Console,
    *,
    deadline: float = math.inf,
) -> None:
    still_open = list(job_ids)
    with ProgressView(_names(store, job_ids), console) as view:
        unreadable = Unreadable(view.say)
        while still_open:
            # Anyone may reconcile; a Redis that is away is waited for.
            with suppress(redis.RedisError):
                facts: list[JobFacts] = []
                advance(store, still_open, tell=facts.append, tell_unreadable=unreadable.note)
                view.update(facts)
                _show_waiting(view, store, settings, facts)
                still_open = unreadable.still_open(still_open, facts)
            if time.monotonic() > deadline:
                break
            time.sleep(settings.reconcile_s if len(still_open) > 100 else WAIT_S)


def _show_waiting(
    view: ProgressView, store: Store, settings: Settings, known: Iterable[JobFacts]
) -> None:
    waiting = Waiting(store, shown_broker_url=settings.shown_broker_url)
    for facts in known:
        waiting.note(facts)
    view.hint(waiting.lines())


def status(
    jobs: Annotated[list[str] | None, typer.Argument(metavar="[JOB...]")] = None,
    datasets: LocalDatasets = None,
    as_json: Json = False,
) -> None:
    """Show jobs: their states, progress, and why some failed."""
    settings, store = _look(datasets)
    if datasets is None:
        _check_seen(settings, store)
    job_ids = _find_jobs(store, jobs) if jobs else _by_age(store)
    # Nobody listens to a folder that `playmill run` worked in.
    shown = settings.shown_broker_url
    waiting = Waiting(store, shown_broker_url=shown) if datasets is None else None
    rows = outcomes(store, job_ids, settings, waiting=waiting)
    if as_json:
        states = print_json(rows)
    else:
        states = print_outline(rows, Console(), most=sys.maxsize, ids=True)
        if waiting is not None:
            _hint(waiting, Console())
    if states[None]:
        raise typer.Exit(1)


def watch() -> None:
    """Show the jobs that are open, until none is; an interrupt ends the watching alone."""
    settings, store = _connect(need_broker=False)
    console = Console(stderr=True)
    job_ids = open_jobs(store)
    if not job_ids:
        print("no open jobs")
        return
    with suppress(KeyboardInterrupt), ProgressView(_names(store, job_ids), console) as view:
        unreadable = Unreadable(view.say)
        while job_ids:
            known = unreadable.look(store, job_ids, running=broker.running_or_none())
            view.update(known)
            _show_waiting(view, store, settings, known)
            job_ids = unreadable.still_open(job_ids, known)
            time.sleep(WAIT_S)
        if unreadable:
            raise typer.Exit(1)


def _names(store: Store, job_ids: Sequence[str]) -> dict[str, str]:
    places: dict[str, str] = {}
    for job_id in job_ids:
        with suppress(OSError, ValueError):  # it cannot be read
            place = store.request(job_id).recording
            places[job_id] = f"{place.root}/{place.path}"
    return {job_id: job_id[:12] for job_id in job_ids} | names_of(places)


def _for_each(store: Store, job_ids: Iterable[str], work: Callable[[str], object]) -> None:
    """Do `work` for each job; one that cannot be read keeps the others from nothing.

    Raises:
        typer.Exit: some could not.
    """
    troubles = 0
    for job_id in job_ids:
        try:
            with store.reading(job_id):
                work(job_id)
        except JobUnreadable as error:
            print(error, file=sys.stderr)
            troubles += 1
    if troubles:
        raise typer.Exit(1)


def retry(jobs: Jobs) -> None:
    """Try failed or cancelled jobs anew."""
    _, store = _connect()
    job_ids = _find_jobs(store, jobs)

    def again(job_id: str) -> None:
        store.forget_attempts(job_id)
        print(f"{job_id[:12]}  {'goes on' if store.is_open(job_id) else 'is published already'}")

    try:
        _for_each(store, job_ids, again)
    finally:
        with _broker_errors():
            advance(store, job_ids, tell_unreadable=lambda _: None)


def cancel(
    jobs: Jobs,
    drop_parts: Annotated[
        bool,
        typer.Option("--drop-parts", help="Delete what they have extracted, if no other needs it."),
    ] = False,
) -> None:
    """Stop jobs; chunks in hand are finished, and parts are kept unless told otherwise."""
    settings, store = _connect(need_broker=False)
    if drop_parts:
        check_datasets(store.root, settings.datasets)

    def stop(job_id: str) -> None:
        if store.is_open(job_id):
            store.end(job_id, "cancelled", {"reason": "cancelled by hand"})
            print(f"{job_id[:12]}  is cancelled")
        else:
            print(f"{job_id[:12]}  has ended already")
        if drop_parts:
            print(f"{job_id[:12]}  {drop_parts_of(store, job_id, settings.datasets)}")

    _for_each(store, _find_jobs(store, jobs), stop)


def reconcile() -> None:
    """Compare what is done with what should be, and send what is missing, once."""
    _, store = _connect()
    unread: list[JobUnreadable] = []
    with _broker_errors():
        num_jobs, _ = reconcile_store(store, tell_unreadable=unread.append)
    print(plural(num_jobs, "open job"))
    for error in unread:
        print(error, file=sys.stderr)
    if unread:
        raise typer.Exit(1)


def nightly(
    once: Annotated[bool, typer.Option("--once", help="Now, whatever the schedule says.")] = False,
    within: Annotated[
        float, typer.Option(min=0, help="Hours to wait; what has not ended then counts as failed.")
    ] = 24.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Submit what is new in the inboxes, wait for it, and report: what beat does every night."""
    if not once:
        raise UsageError("--once runs it now; beat runs it at the times of PLAYMILL_NIGHTLY")
    settings, store = _connect()
    now_s = time.time()
    go_on(store, settings, now_s=now_s)
    night = begin(store, settings, nominal_s=int(now_s), now_s=now_s)
    job_ids = [request.job_id for request in night.requests]
    ended = partial(finish, store, night, datasets=settings.datasets)
    deadline = time.monotonic() + 3600 * within
    with _interruptible():
        report = ended(now_s=time.time())
        if report is None:
            _wait(store, settings, job_ids, Console(stderr=True), deadline=deadline)
            report = ended(now_s=time.time())
    if report is None:
        # Its jobs go on; whoever looks next writes the report when they have ended.
        report = report_so_far(store, night, settings, now_s=time.time())
    print(json.dumps(report.to_json()) if as_json else report.text().rstrip("\n"))
    if report.troubled or report.rows("open"):
        raise typer.Exit(1)


def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go.")] = False,
    datasets: LocalDatasets = None,
) -> None:
    """Delete parts that a published dataset holds or nobody waits for, and what the killed left."""
    settings, store = _look(datasets)
    check_datasets(store.root, settings.datasets)
    total = 0
    unread: list[JobUnreadable] = []
    found = find_garbage(store, settings.datasets, now_s=time.time(), tell_unreadable=unread.append)
    for garbage in list(found):
        total += garbage.bytes
        why = f"held by {garbage.dataset}" if garbage.dataset else "abandoned"
        print(f"{garbage.parts_key[:12]}  {garbage.bytes / 1e6:.1f} MB  {why}")
        if not dry_run:
            collect(store, garbage)
    leftovers = find_leftovers(
        store, settings.datasets, running=broker.running_or_none(), now_s=time.time()
    )
    for leftover in list(leftovers):
        total += leftover.bytes
        print(f"{leftover.path}  {leftover.bytes / 1e6:.1f} MB  left by somebody who was killed")
        if not dry_run:
            sweep(leftover)
    if not dry_run:
        forget_refusals(store.root, older_s=time.time() - STALE_S)
    print(f"{total / 1e6:.1f} MB {'would be' if dry_run else 'were'} deleted")
    for error in unread:
        print(f"{error}. Until then only parts that a dataset holds are deleted", file=sys.stderr)
    if unread:
        raise typer.Exit(1)


def worker(
    queue: Annotated[str, typer.Option(help="gpu (extracts) or cpu (ingests, consolidates).")],
    name: Annotated[str | None, typer.Option(help="Name of this worker on this host.")] = None,
    per_gpu: Annotated[
        int, typer.Option(min=1, help="Processes on each GPU; 2 keep it busy between two chunks.")
    ] = 1,
) -> NoReturn:
    """Work for a queue of PLAYMILL_BROKER_URL until stopped: TERM ends after the task in hand.

    A worker of the gpu queue takes all GPUs that it may use, one process for each.
    """
    if queue not in ("gpu", "cpu"):
        raise UsageError(f"--queue is {queue!r}; choose gpu or cpu")
    settings, _ = _connect(begins=False)
    name = name or f"{queue}{os.getpid()}"
    gpus = visible_gpus() if queue == "gpu" and settings.device != "cpu" else []
    if per_gpu > 1 and not gpus:
        raise UsageError(
            f"--per-gpu {per_gpu}: this worker has no GPU"
            " (start one more worker where several are to share the processor)"
        )
    device = "cuda" if gpus or settings.device == "cuda" else "cpu"
    if len(gpus) * per_gpu < 2:
        _become(worker_command(queue, name=name, device=device))
    names = {
        f"{name}-{gpu}" + (f"-{number}" if per_gpu > 1 else ""): gpu
        for gpu in gpus
        for number in range(per_gpu)
    }
    env = settings.to_env()
    processes = [
        Process(
            own,
            worker_command(queue, name=own, device=device),
            env | {"CUDA_VISIBLE_DEVICES": gpu},
        )
        for own, gpu in names.items()
    ]
    raise typer.Exit(supervise(processes))


def beat() -> NoReturn:
    """Run the clock that reconciles every PLAYMILL_RECONCILE_S seconds; one is enough."""
    _connect()
    _become([sys.executable, "-m", "workers.beat"])


def _become(command: list[str]) -> NoReturn:
    os.chdir(PROJECT)  # a folder with a tasks.py of its own would come before ours on the path
    os.environ["PYTHONPATH"] = python_path()
    os.execv(command[0], command)


def _connect(*, need_broker: bool = True, begins: bool = True) -> tuple[Settings, Store]:
    """Return this process's settings and store, once the broker has answered.

    Args:
        begins: a store that is new is begun, or one without an identity gets one.
    """
    settings = Settings.from_env()
    tasks_app.use(settings)
    if need_broker:
        try:
            broker.client().ping()
        except (redis.RedisError, ValueError) as error:
            # A malformed URL is quoted in the text of a ValueError, with its password.
            reason = f": {error}" if isinstance(error, redis.RedisError) else ""
            raise UsageError(
                f"no Redis answers at {settings.shown_broker_url}{reason};"
                " start it, or mend PLAYMILL_BROKER_URL"
            ) from None
        _check_store(settings)
    store = Store(settings.store)
    store.root.mkdir(parents=True, exist_ok=True)
    if need_broker and begins:
        identity = begin_store(store.root, settings.datasets)
        with _broker_errors():
            broker.note_store(identity.store)
    return settings, store


def _check_store(settings: Settings) -> None:
    """Raise UsageError for a store without identity where Redis knows of another."""
    store = Store(settings.store)
    if store.identity() is not None:
        return
    with _broker_errors():
        seen, noted = broker.look(), broker.noted_store()
        others = {listener.store for listener in presence.listeners().values()} - {None}
    if noted or others:
        reason = f"Redis knows the one with id {noted or others.pop()}"
    elif not store.has_jobs() and (seen.waiting or seen.running):
        reason = "Redis holds steps of jobs"
    else:
        return
    raise UsageError(
        f"no store at {store.root} (it has no {STORE_MARKER}), but {reason}; is the share mounted?"
        " (For a new store, give it a Redis of its own, or an empty one.)"
    )


def _check_seen(settings: Settings, store: Store) -> None:
    """Raise UsageError where another store, or another datasets folder, is seen than jobs are of.

    Whether Redis knows of another store is asked if it answers.
    """
    with suppress(redis.RedisError, BrokerLost, ValueError):
        _check_store(settings)
    check_datasets(store.root, settings.datasets)


@contextmanager
def _broker_errors() -> Iterator[None]:
    """Turn a Redis that fails us into a sentence; what was asked for is on the store."""
    try:
        yield
    except redis.RedisError as error:
        raise BrokerLost(
            f"Redis failed: {error}; what was asked for is stored, and is done once Redis"
            " answers and `playmill beat` or `playmill reconcile` runs"
        ) from error


def _look(datasets: Path | None) -> tuple[Settings, Store]:
    """Return the settings and store of PLAYMILL_STORE, or of a folder that `run` worked in."""
    if datasets is None:
        return _connect(need_broker=False)
    store = datasets.resolve() / STORE_NAME
    if not store.is_dir():
        raise UsageError(f"--datasets {datasets}: `playmill run` has not worked in it")
    settings = local_settings(datasets.resolve(), broker_url="redis://localhost", device="auto")
    tasks_app.use(settings)
    return settings, Store(store)


def _find_jobs(store: Store, beginnings: Sequence[str]) -> list[str]:
    """Return the jobs whose ids begin so; raise UsageError for none, or for several."""
    known = list(store.job_ids())
    found = []
    for beginning in beginnings:
        matches = [job_id for job_id in known if job_id.startswith(beginning)]
        if len(matches) != 1:
            some = plural(len(matches), "job begins", "jobs begin") if matches else "no job begins"
            raise UsageError(f"{some} with {beginning!r}; `playmill status` lists them")
        found += matches
    return found


def _by_age(store: Store) -> list[str]:
    times = {}
    for job_id in store.job_ids():
        try:
            times[job_id] = store.request(job_id).submitted_ns
        except FileNotFoundError:  # a folder without a request is no job
            continue
        except (OSError, ValueError):  # it comes first, with the reason
            times[job_id] = 0
    return sorted(times, key=lambda job_id: times[job_id])


def _keep_weights(store: Store, weights: Path | None) -> str | None:
    return None if weights is None else store.add_weights(weights)


def _writable_folder(path: Path) -> Path:
    """Return the datasets folder, made if absent; raise UsageError if it cannot be written."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise UsageError(f"--datasets {path}: cannot be written: {error.strerror}") from error
    return path.resolve()


@contextmanager
def _interruptible() -> Iterator[None]:
    """Treat TERM and HUP as interrupts for a block, so that they stop what was started."""

    def interrupt(_: int, __: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    signals = (signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, interrupt) for number in signals]
    try:
        yield
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)


def _stop(mill: LocalMill) -> None:
    # A second interrupt ends the wait; what is left is killed on the way out.
    with suppress(KeyboardInterrupt):
        mill.stop()


def _finish(
    rows: Iterable[Row], *, as_json: bool, console: Console, interrupted: bool = False
) -> None:
    """Print the rows and end with the status that they call for."""
    states = print_json(rows) if as_json else print_outline(rows, Console())
    if interrupted:
        console.print("interrupted; the same command goes on where this one stopped")
        raise typer.Exit(130)
    if states["failed"] or states["cancelled"] or states[None]:
        raise typer.Exit(1)

"""`playmill run`: a mill of this machine alone, for as long as the command runs."""

from __future__ import annotations

import tempfile
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from playmill.command.options import Wanted, takes_config
from playmill.errors import UsageError
from playmill.phrases import not_a_folder
from playmill.recording.discovery import discover
from playmill.recording.lone_logs import LoneLog
from playmill.roots import Roots
from playmill.store import Store
from playmill.store.identity import begin as begin_store
from tasks.submit import make_request, submit_all
from workers.commands.waiting import (
    Json,
    Paths,
    finish_with,
    interruptible,
    keep_weights,
    shown_names,
)
from workers.devices import visible_gpus
from workers.mill import STORE_NAME, LocalMill, default_workers, locked
from workers.outcome import outcomes, skipped
from workers.progress import ProgressView
from workers.unreadable import Unreadable


@takes_config(auto_device=lambda: "cuda" if visible_gpus() else "cpu")
def run(
    paths: Paths,
    datasets: Annotated[Path, typer.Option(help="Folder of datasets; made if absent.")],
    wanted: Wanted,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Extracting processes.", show_default="by GPUs, cores"),
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
    with locked(store.root), interruptible():
        config = replace(wanted.config, weights_digest=keep_weights(store, wanted.weights))
        begin_store(store.root, datasets)
        begun_ns, roots = time.time_ns(), Roots.whole_machine()
        requests = [make_request(path, config, roots, submission_ns=begun_ns) for path in found]
        job_ids = [request.job_id for request in submit_all(store, requests, datasets=datasets)]
        # Nobody works here yet: what is published by now was so before.
        there = frozenset(job_id for job_id in job_ids if not store.is_open(job_id))
        # Last, and used at once: what it makes goes when its block ends.
        mill = LocalMill(datasets, num_workers=num_workers, device=config.device_class)
        names = shown_names(store, job_ids)
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
    finish_with(rows, as_json=as_json, console=console, interrupted=interrupted, there=there)


def _writable_folder(path: Path) -> Path:
    """Return the datasets folder, made if absent; raise UsageError if it cannot be written."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except (FileExistsError, NotADirectoryError):
        raise UsageError(f"--datasets {path}: {not_a_folder(path)}") from None
    except OSError as error:
        raise UsageError(f"--datasets {path}: cannot be written: {error.strerror}") from error
    return path.resolve()


def _stop(mill: LocalMill) -> None:
    # A second interrupt ends the wait; what is left is killed on the way out.
    with suppress(KeyboardInterrupt):
        mill.stop()

"""`playmill worker` and `playmill beat`: the processes that a deployment runs."""

from __future__ import annotations

import logging
import os
import sys
from typing import Annotated, NoReturn

import typer

from playmill.errors import UsageError
from playmill.store.identity import check_datasets
from tasks.settings import Settings
from workers import logs
from workers.commands.connecting import connect
from workers.devices import PER_GPU, gpu_env, num_gpus, visible_gpus
from workers.processes import PROJECT, Process, python_path, worker_command
from workers.supervisor import supervise

log = logging.getLogger(__name__)


def worker(
    queue: Annotated[str, typer.Option(help="gpu (extracts) or cpu (ingests, consolidates).")],
    name: Annotated[str | None, typer.Option(help="Name of this worker on this host.")] = None,
    per_gpu: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Processes on each GPU: it stays busy while one of them is between two chunks.",
            show_default=str(PER_GPU),
        ),
    ] = None,
) -> NoReturn:
    """Work for a queue of PLAYMILL_BROKER_URL until stopped: TERM ends after the task in hand.

    A worker of the gpu queue takes all GPUs that it may use. One that dies is started again.
    """
    if queue not in ("gpu", "cpu"):
        raise UsageError(f"--queue is {queue!r}; choose gpu or cpu")
    settings, store = connect(begins=False)
    if queue == "cpu":
        # Those that extract need no datasets; a consolidating one would refuse all that it gets.
        check_datasets(store.root, settings.datasets)
    name = name or f"{queue}{os.getpid()}"
    gpus = visible_gpus() if queue == "gpu" and settings.device != "cpu" else []
    if (per_gpu or 1) > 1 and not gpus:
        raise UsageError(
            f"--per-gpu {per_gpu}: this worker has no GPU"
            " (start one more worker where several are to share the processor)"
        )
    if gpus:
        processes = _on_gpus(gpus, per_gpu or PER_GPU, name, settings)
    else:
        device = "cuda" if settings.device == "cuda" else "cpu"
        processes = [Process(name, worker_command(queue, name=name, device=device), {})]
    logs.configure()
    for root, folder in settings.roots.folders.items():
        if not folder.is_dir():
            log.warning(
                "root %s: there is no folder %s; is the share mounted? Recordings under it are left"
                " to other workers",
                root,
                folder,
            )
    raise typer.Exit(supervise(processes))


def _on_gpus(gpus: list[str], per_gpu: int, name: str, settings: Settings) -> list[Process]:
    """Return the processes of these GPUs; those of others may be on this machine as well."""
    names = {
        f"{name}-{gpu}" + (f"-{number}" if per_gpu > 1 else ""): gpu
        for gpu in gpus
        for number in range(per_gpu)
    }
    sharing = per_gpu * max(len(gpus), num_gpus())
    return [
        Process(
            own,
            worker_command("gpu", name=own, device="cuda"),
            settings.to_env() | gpu_env(gpu, sharing, threads=settings.decoder_threads),
        )
        for own, gpu in names.items()
    ]


def beat() -> NoReturn:
    """Run the clock that reconciles every PLAYMILL_RECONCILE_S seconds; one is enough."""
    connect()
    _become([sys.executable, "-m", "workers.beat"])


def _become(command: list[str]) -> NoReturn:
    os.chdir(PROJECT)  # a folder with a tasks.py of its own would come before ours on the path
    os.environ["PYTHONPATH"] = python_path()
    os.execv(command[0], command)

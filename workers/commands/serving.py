"""`playmill worker` and `playmill beat`: the processes that a deployment runs."""

from __future__ import annotations

import os
import sys
from typing import Annotated, NoReturn

import typer

from playmill.errors import UsageError
from playmill.store.identity import check_datasets
from workers.commands.connecting import connect
from workers.mill import visible_gpus
from workers.processes import PROJECT, Process, python_path, worker_command
from workers.supervisor import supervise


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
    settings, store = connect(begins=False)
    if queue == "cpu":
        # Those that extract need no datasets; a consolidating one would refuse all that it gets.
        check_datasets(store.root, settings.datasets)
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
    connect()
    _become([sys.executable, "-m", "workers.beat"])


def _become(command: list[str]) -> NoReturn:
    os.chdir(PROJECT)  # a folder with a tasks.py of its own would come before ours on the path
    os.environ["PYTHONPATH"] = python_path()
    os.execv(command[0], command)

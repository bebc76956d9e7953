"""What every benchmark shares: rows of one table, the machine, and a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    group: str
    """What is measured."""
    path: str
    """Which way of doing it."""
    value: str
    """With its unit."""
    ratio: float | None = None
    """To what the aim names."""
    aim: str = ""


def print_table(rows: Iterable[Row]) -> None:
    """Print `rows` as Markdown, each as it comes."""
    print("| what | path | measured | ratio | aim |")
    print("|---|---|---|---|---|")
    for row in rows:
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        print(f"| {row.group} | {row.path} | {row.value} | {ratio} | {row.aim} |", flush=True)


def peak_bytes() -> int:
    """Return the most memory that this process has had, since it became this program.

    `resource` would count what its parent had when it was started.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status has no VmHWM")


def apart(module: str, *arguments: object) -> dict[str, Any]:
    """Run a benchmark's module in a process of its own; return the JSON object that it prints."""
    result = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        check=True,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
    )
    return dict(json.loads(result.stdout))

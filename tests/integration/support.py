"""The mill as a user runs it: the real command, a real Redis, real worker processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

PROJECT = Path(__file__).resolve().parents[2]
EXAMPLES = PROJECT / "examples" / "recordings"
QUICK = ("--encoder", "mean_pixel")
"""A backbone without weights: what is tested here is the mill."""


class Playmill:
    """Runs the command in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.datasets = folder / "datasets"

    def popen(self, *arguments: object, **options: Any) -> subprocess.Popen[str]:
        """Start the command."""
        command = [sys.executable, "-m", "playmill.cli", *map(str, arguments)]
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(PROJECT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    def __call__(
        self, *arguments: object, timeout: float = 240
    ) -> subprocess.CompletedProcess[str]:
        """Run the command to its end."""
        with self.popen(*arguments) as process:
            try:
                out, err = process.communicate(timeout=timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                out, err = process.communicate()
                pytest.fail(f"no end within {timeout} s\n{out}\n{err}")
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def start_run(self, *arguments: object) -> subprocess.Popen[str]:
        """Start `playmill run ... --json` with the quick backbone."""
        return self.popen("run", *arguments, "--datasets", self.datasets, *QUICK, "--json")

    def run(self, *arguments: object) -> tuple[int, list[dict[str, Any]], str]:
        """Run `playmill run ... --json` with the quick backbone: status, rows, stderr."""
        return finished(self.start_run(*arguments))


def finished(process: subprocess.Popen[str], timeout: float = 240) -> tuple[int, Any, str]:
    """Wait for a command that prints JSON: status, value, stderr."""
    with process:
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            pytest.fail(f"no end within {timeout} s\n{out}\n{err}")
    return process.returncode, json.loads(out) if out else None, err


def descendants(process: subprocess.Popen[str], word: str) -> list[psutil.Process]:
    """Return the running descendants of a process whose command has `word` in it."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            if any(word in part for part in child.cmdline()):
                found.append(child)
        except psutil.NoSuchProcess:
            continue
    return found

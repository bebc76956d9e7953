"""Verify a file where it can be killed: damage can make HDF5 hang or crash the process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

from playmill.verify import verify

START_S = 60.0
"""Time for what does not depend on the size of the file."""
SLOWEST_BYTES_S = 10e6
"""A slower disk is taken for a hang."""


def verify_apart(path: str | os.PathLike[str], *, start_s: float = START_S) -> list[str]:
    """Return what `verify` returns for `path`, computed in a child process.

    A file on which HDF5 crashes, or is not through after start_s and 0.1 s a megabyte, has that
    problem.
    """
    size = os.path.getsize(path) if os.path.isfile(path) else 0
    limit_s = start_s + size / SLOWEST_BYTES_S
    command = [sys.executable, "-m", "playmill.command.verify_process", os.fspath(path)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=limit_s)
    except subprocess.TimeoutExpired:
        return [f"is damaged: HDF5 was not through with it after {limit_s:.0f} s"]
    if done.returncode < 0:
        return [f"is damaged: HDF5 died of it ({signal.Signals(-done.returncode).name})"]
    if done.returncode:
        error = done.stderr.decode(errors="replace").strip()
        raise RuntimeError(f"{os.fspath(path)}: verifying failed: {error}")
    return [str(problem) for problem in json.loads(done.stdout)]


if __name__ == "__main__":
    print(json.dumps(verify(sys.argv[1])))

"""Run a command that must not outlive the one who started it.

`python -m workers.lifeline COMMAND...` runs COMMAND and holds the read end of a pipe on standard
input. When the pipe closes, because its owner closed it or died by any means, the whole process
group is killed. The group is this process's own: start it in a new session.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading

_PR_SET_PDEATHSIG = 1


def _die_with_parent() -> None:
    """Ask the kernel for SIGKILL when the lifeline itself is killed (Linux; elsewhere nothing)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _kill_group_at_end_of_file() -> None:
    while os.read(0, 4096):
        pass
    os.killpg(os.getpgid(0), signal.SIGKILL)


def main(command: list[str]) -> int:
    """Run `command`; return its exit status."""
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=_die_with_parent)
    # A polite signal is for the command alone, which tells its own children what to do.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT):
        signal.signal(number, lambda received, _: child.send_signal(received))
    threading.Thread(target=_kill_group_at_end_of_file, daemon=True).start()
    status = child.wait()
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

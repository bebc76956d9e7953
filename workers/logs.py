"""Logging of worker processes: one line an event, to stderr, with recording and chunk as fields."""

from __future__ import annotations

import logging
import sys
from typing import Any

import redis
from kombu.exceptions import OperationalError

FIELDS = ("action", "job", "chunk")


NO_BUGS = (redis.RedisError, OperationalError, ConnectionError)
"""A Redis that is away: where in the libraries it was noticed tells nobody anything."""


class LineFormatter(logging.Formatter):
    """Time, level, logger, sentence, and the fields that were given."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """Append the fields to the line."""
        values = {name: getattr(record, name, None) for name in FIELDS}
        fields = " ".join(f"{name}={value}" for name, value in values.items() if value is not None)
        line, newline, rest = super().format(record).rstrip("\n").partition("\n")
        return f"{line} [{fields}]{newline}{rest}" if fields else f"{line}{newline}{rest}"

    def formatException(self, ei: Any) -> str:
        """Return the traceback, or of what is no bug the error alone."""
        error = ei[1]
        if isinstance(error, NO_BUGS):
            return f"  {type(error).__name__}: {error}"
        return super().formatException(ei)


def configure(level: int | str = logging.INFO) -> None:
    """Send everything of `level` and above to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # Celery's own word on every message is noise beside ours.
    for name in ("celery.worker.strategy", "celery.app.trace", "kombu"):
        logging.getLogger(name).setLevel(logging.WARNING)

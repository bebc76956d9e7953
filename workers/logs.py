"""Logging of worker processes: one line an event, to stderr, with recording and chunk as fields."""

from __future__ import annotations

import logging
import sys

FIELDS = ("action", "job", "chunk")


class LineFormatter(logging.Formatter):
    """Time, level, logger, sentence, and the fields that were given."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """Append the fields to the line."""
        values = {name: getattr(record, name, None) for name in FIELDS}
        fields = " ".join(f"{name}={value}" for name, value in values.items() if value is not None)
        line, newline, rest = super().format(record).partition("\n")
        return f"{line} [{fields}]{newline}{rest}" if fields else f"{line}{newline}{rest}"


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

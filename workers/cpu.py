"""The worker of the cpu queue: ingests and consolidates. `celery -A workers.cpu worker -Q cpu`."""

from __future__ import annotations

from workers.process import app, serve

__all__ = ["app"]

serve("cpu")

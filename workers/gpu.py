"""The worker of the gpu queue: extracts features. `celery -A workers.gpu worker -Q gpu`."""

from __future__ import annotations

from workers.process import app, serve

__all__ = ["app"]

serve("gpu")

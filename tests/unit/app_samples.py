"""Tasks without a queue: the settings of a deployment in a folder, for as long as a test lasts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playmill import failpoints
from playmill.roots import Roots
from playmill.store import Store
from tasks import app
from tasks.settings import Settings


@contextmanager
def deployed(folder: Path) -> Iterator[Store]:
    """Let the tasks work on a store in `folder`; give it. No failpoint stays armed."""
    before = list(app._chosen)
    app.use(
        Settings(
            broker_url="redis://localhost",
            store=folder / "store",
            datasets=folder / "datasets",
            roots=Roots.whole_machine(),
        )
    )
    try:
        yield Store(folder / "store")
    finally:
        failpoints.disarm()
        app._chosen[:] = before

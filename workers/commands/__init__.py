"""The queue's half of the `playmill` command, a module for each kind of verb."""

from __future__ import annotations

import typer

from workers.commands.local import run
from workers.commands.looking import status, watch
from workers.commands.mending import cancel, gc, reconcile, retry
from workers.commands.sending import nightly, submit
from workers.commands.serving import beat, worker


def add_to(app: typer.Typer) -> None:
    """Add the commands to the library's."""
    verbs = (run, submit, nightly, status, watch, retry, cancel, reconcile, gc, worker, beat)
    for command in verbs:
        app.command()(command)

"""Finding the store, the datasets folder and Redis that a command works with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

import redis
import typer

from playmill.errors import PlaymillError, UsageError
from playmill.phrases import not_a_folder, plural
from playmill.store import Store
from playmill.store.identity import STORE_MARKER, check_datasets
from playmill.store.identity import begin as begin_store
from tasks import app as tasks_app
from tasks import broker, presence
from tasks.settings import PREFIX, Settings
from workers.mill import STORE_NAME, local_settings

LocalDatasets = Annotated[
    Path | None, typer.Option(help="Look into a folder that `playmill run` worked in.")
]


class BrokerLost(PlaymillError):
    """Redis cannot be used; the one argument is a sentence."""


def connect(*, need_broker: bool = True, begins: bool = True) -> tuple[Settings, Store]:
    """Return this process's settings and store, once the broker has answered.

    Args:
        begins: a store that is new is begun, or one without an identity gets one.
    """
    settings = Settings.from_env()
    tasks_app.use(settings)
    if need_broker:
        try:
            broker.client().ping()
        except (redis.RedisError, ValueError) as error:
            raise UsageError(broker.why_unusable(error)) from None
        check_store(settings)
    store = Store(settings.store)
    for name, folder in (("STORE", settings.store), ("DATASETS", settings.datasets)):
        if any(place.is_file() for place in (folder, *folder.parents)):
            raise UsageError(f"{PREFIX}{name} is {folder}: {not_a_folder(folder)}")
    store.root.mkdir(parents=True, exist_ok=True)
    if need_broker and begins:
        identity = begin_store(store.root, settings.datasets)
        with broker_errors():
            broker.note_store(identity.store)
    return settings, store


def check_store(settings: Settings) -> None:
    """Raise UsageError for a store without identity where Redis knows of another."""
    store = Store(settings.store)
    if store.identity() is not None:
        return
    with broker_errors():
        seen, noted = broker.look(), broker.noted_store()
        others = {listener.store for listener in presence.listeners().values()} - {None}
    if noted or others:
        reason = f"Redis knows the one with id {noted or others.pop()}"
    elif not store.has_jobs() and (seen.waiting or seen.running):
        reason = "Redis holds steps of jobs"
    else:
        return
    raise UsageError(
        f"no store at {store.root} (it has no {STORE_MARKER}), but {reason}; is the share mounted?"
        " (For a new store, give it a Redis of its own, or an empty one.)"
    )


def check_seen(settings: Settings, store: Store) -> None:
    """Raise UsageError where another store, or another datasets folder, is seen than jobs are of.

    Whether Redis knows of another store is asked if it answers.
    """
    with suppress(redis.RedisError, BrokerLost, ValueError):
        check_store(settings)
    check_datasets(store.root, settings.datasets)


def look(datasets: Path | None) -> tuple[Settings, Store]:
    """Return the settings and store of PLAYMILL_STORE, or of a folder that `run` worked in.

    Raises:
        UsageError: `run` has not worked in it; or another store, or another datasets folder, is
            seen than jobs are of.
    """
    if datasets is None:
        settings, found = connect(need_broker=False)
        check_seen(settings, found)
        return settings, found
    store = datasets.resolve() / STORE_NAME
    if not store.is_dir():
        raise UsageError(f"--datasets {datasets}: `playmill run` has not worked in it")
    settings = local_settings(datasets.resolve(), broker_url="redis://localhost", device="auto")
    tasks_app.use(settings)
    check_datasets(store, settings.datasets)
    return settings, Store(store)


@contextmanager
def broker_errors() -> Iterator[None]:
    """Turn a Redis that fails us into a sentence; what was asked for is on the store."""
    try:
        yield
    except redis.RedisError as error:
        raise BrokerLost(
            f"Redis failed: {error}; what was asked for is stored, and is done once Redis"
            " answers and `playmill beat` or `playmill reconcile` runs"
        ) from error


def find_jobs(store: Store, beginnings: Sequence[str]) -> list[str]:
    """Return the jobs whose ids begin so; raise UsageError for none, or for several."""
    known = list(store.job_ids())
    found = []
    for beginning in beginnings:
        matches = [job_id for job_id in known if job_id.startswith(beginning)]
        if len(matches) != 1:
            some = plural(len(matches), "job begins", "jobs begin") if matches else "no job begins"
            raise UsageError(f"{some} with {beginning!r}; `playmill status` lists them")
        found += matches
    return found

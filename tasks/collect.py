"""Collect garbage: parts that a published dataset holds, and parts that nobody waits for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from playmill.errors import JobUnreadable
from playmill.store import Store

ABANDONED_S = 7 * 86400.0
"""Parts of failed and cancelled jobs are kept this long: their recording may be mended."""


@dataclass(frozen=True, slots=True)
class Garbage:
    """Parts that may go."""

    parts_key: str
    dataset: str | None
    """The dataset that holds their rows; None: nobody waits for them."""
    bytes: int


def find_garbage(
    store: Store,
    datasets: Path,
    *,
    now_s: float,
    tell_unreadable: Callable[[JobUnreadable], object] = lambda _: None,
) -> Iterator[Garbage]:
    """Yield the parts that no open job needs and that are published, or abandoned long ago.

    Args:
        tell_unreadable: called for each job that cannot be read. It may need any parts: while
            there is one, only what a dataset holds is garbage.
    """
    wanted: set[str | None] = set()
    jobs: dict[str | None, list[str]] = defaultdict(list)
    submitted_s: dict[str, float] = {}
    all_read = True
    for job_id in store.job_ids():
        try:
            with store.reading(job_id):
                parts_key = _parts_key(store, job_id)
                submitted_s[job_id] = store.needs(job_id).submitted_ns / 1e9
        except JobUnreadable as error:
            tell_unreadable(error)
            all_read = False
            continue
        jobs[parts_key].append(job_id)
        if store.is_open(job_id):
            wanted.add(parts_key)
    for parts_key in store.parts_keys():
        if parts_key in wanted or store.parts(parts_key).collected() is not None:
            continue
        mine = jobs[parts_key]
        dataset = next(filter(None, (_held_by(store, j, datasets) for j in mine)), None)
        latest_s = max((submitted_s[j] for j in mine), default=0.0)
        if dataset is not None or (all_read and now_s - latest_s > ABANDONED_S):
            yield Garbage(parts_key, dataset, store.parts(parts_key).num_bytes())


def collect(store: Store, garbage: Garbage) -> None:
    """Delete some garbage; what a dataset holds can still be synchronized anew."""
    if garbage.dataset is None:
        store.parts(garbage.parts_key).drop()
    else:
        store.parts(garbage.parts_key).collect(dataset=garbage.dataset)


def drop_parts_of(store: Store, job_id: str, datasets: Path) -> str:
    """Delete a job's parts, unless an open job needs them; return what was done, for people."""
    parts_key = _parts_key(store, job_id)
    if parts_key is None:
        return "has no parts yet"
    sharing = []
    for other in store.job_ids():
        try:
            with store.reading(other):
                shares = _parts_key(store, other) == parts_key
        except JobUnreadable:
            return f"parts kept: job {other[:12]}, which cannot be read, may share them"
        if shares and other != job_id and store.is_open(other):
            return f"parts kept: job {other[:12]}, which is open, shares them"
        sharing += [other] if shares else []
    dataset = next(filter(None, (_held_by(store, other, datasets) for other in sharing)), None)
    num_bytes = store.parts(parts_key).num_bytes()
    collect(store, Garbage(parts_key, dataset, num_bytes))
    return f"{num_bytes / 1e6:.1f} MB of parts deleted"


def _parts_key(store: Store, job_id: str) -> str | None:
    plan = store.plan(job_id)
    return None if plan is None else plan.parts_key


def _held_by(store: Store, job_id: str, datasets: Path) -> str | None:
    """Return the dataset that holds a job's features, if it is there and really does."""
    from playmill.dataset import open_dataset
    from playmill.errors import DatasetError

    try:
        published = store.ending(job_id, "published")
        if published is None:
            return None
        parts_key = _parts_key(store, job_id)
        with open_dataset(datasets / published["dataset"]) as dataset:
            held = {dataset.features(key).attrs["parts_key"] for key in dataset.feature_keys}
    except (OSError, ValueError, KeyError, DatasetError):  # the marker, or the dataset
        return None
    return str(published["dataset"]) if parts_key in held else None

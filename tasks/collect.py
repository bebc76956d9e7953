"""Collect garbage: parts that a published dataset holds, and parts that nobody waits for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from playmill.store import Store
from tasks.advance import open_jobs

ABANDONED_S = 7 * 86400.0
"""Parts of failed and cancelled jobs are kept this long: their recording may be mended."""


@dataclass(frozen=True, slots=True)
class Garbage:
    """Parts that may go."""

    parts_key: str
    dataset: str | None
    """The dataset that holds their rows; None: nobody waits for them."""
    bytes: int


def find_garbage(store: Store, datasets: Path, *, now_s: float) -> Iterator[Garbage]:
    """Yield the parts that no open job needs and that are published, or abandoned long ago."""
    wanted = {_parts_key(store, job_id) for job_id in open_jobs(store)}
    jobs: dict[str | None, list[str]] = defaultdict(list)
    for job_id in store.job_ids():
        jobs[_parts_key(store, job_id)].append(job_id)
    for parts_key in store.parts_keys():
        if parts_key in wanted or store.collected(parts_key) is not None:
            continue
        dataset = next(filter(None, (_held_by(store, j, datasets) for j in jobs[parts_key])), None)
        latest_s = max((store.request(j).submitted_ns / 1e9 for j in jobs[parts_key]), default=0.0)
        if dataset is not None or now_s - latest_s > ABANDONED_S:
            yield Garbage(parts_key, dataset, store.parts_bytes(parts_key))


def collect(store: Store, garbage: Garbage) -> None:
    """Delete some garbage; what a dataset holds can still be synchronized anew."""
    if garbage.dataset is None:
        store.drop_parts(garbage.parts_key)
    else:
        store.collect_parts(garbage.parts_key, dataset=garbage.dataset)


def drop_parts_of(store: Store, job_id: str, datasets: Path) -> str:
    """Delete a job's parts, unless an open job needs them; return what was done, for people."""
    parts_key = _parts_key(store, job_id)
    if parts_key is None:
        return "has no parts yet"
    for other in store.job_ids():
        if other != job_id and _parts_key(store, other) == parts_key and store.is_open(other):
            return f"parts kept: job {other[:12]}, which is open, shares them"
    sharing = (other for other in store.job_ids() if _parts_key(store, other) == parts_key)
    dataset = next(filter(None, (_held_by(store, other, datasets) for other in sharing)), None)
    num_bytes = store.parts_bytes(parts_key)
    collect(store, Garbage(parts_key, dataset, num_bytes))
    return f"{num_bytes / 1e6:.1f} MB of parts deleted"


def _parts_key(store: Store, job_id: str) -> str | None:
    plan = store.plan(job_id)
    return None if plan is None else plan.parts_key


def _held_by(store: Store, job_id: str, datasets: Path) -> str | None:
    """Return the dataset that holds a job's features, if it is there and really does."""
    from playmill.dataset import open_dataset
    from playmill.errors import DatasetError

    published = store.ending(job_id, "published")
    if published is None:
        return None
    parts_key = _parts_key(store, job_id)
    try:
        with open_dataset(datasets / published["dataset"]) as dataset:
            held = {dataset.features(key).attrs["parts_key"] for key in dataset.feature_keys}
    except (OSError, DatasetError):
        return None
    return str(published["dataset"]) if parts_key in held else None

"""Identity: what tells a store and its datasets folder from empty mount points, and from others.

Whoever submits gives both their markers, once. Everybody else compares: where a share is not
mounted, its folder is empty, or is another one, and nothing may be done or published there.

    <store>/identity.json        the store's own id, and the id of its datasets folder
    <datasets>/.playmill-id      the id of the datasets folder; moves and is restored with it
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path

from playmill.errors import UsageError
from playmill.markers import put_if_absent, read_json, text_of

STORE_MARKER = "identity.json"
DATASETS_MARKER = ".playmill-id"


@dataclass(frozen=True, kw_only=True, slots=True)
class Identity:
    """The ids of one store."""

    store: str
    """Of the store itself; messages carry it."""
    datasets: str
    """Of the folder that its datasets are published in."""


def read_identity(store: Path) -> Identity | None:
    """Return the identity of the store in this folder; None: it has none.

    Raises:
        OSError, ValueError, KeyError: the marker is there, and cannot be read.
    """
    value = read_json(store / STORE_MARKER)
    if value is None:
        return None
    return Identity(store=str(value["store"]), datasets=str(value["datasets"]))


def begin(store: Path, datasets: Path) -> Identity:
    """Return the identity of a store, which gets one now if it has none; and so its datasets.

    For those who submit: a worker that did so would take any folder for the store. Any number
    may do it at once: the first markers count.

    Raises:
        UsageError: `datasets` is not the folder that the store's datasets are in.
        OSError: a marker cannot be written.
    """
    known = read_identity(store)
    while known is None:
        # That of the datasets first: a crash in between leaves a marker that the next one takes.
        folder_id = _id_of(datasets) or (None if _within(store, datasets) else _mark(datasets))
        value = {"store": _new_id(), "datasets": folder_id or _new_id()}
        put_if_absent(store / STORE_MARKER, value)
        known = read_identity(store)
    check_datasets(store, datasets)
    return known


def check_datasets(store: Path, datasets: Path) -> None:
    """Do nothing, if this is the folder that the store's datasets are in.

    Raises:
        UsageError: it is not, or it is not mounted.
        OSError, ValueError, KeyError: a marker cannot be read.
    """
    known = read_identity(store)
    if known is None or _within(store, datasets):
        return
    found = _id_of(datasets)
    if found == known.datasets:
        return
    what = "is marked as another folder" if found else f"has no {DATASETS_MARKER} in it"
    raise UsageError(
        f"datasets folder {datasets} {what}: found id {found or 'none'}, expected"
        f" {known.datasets} as in {store / STORE_MARKER}. Is the share mounted, and"
        f" PLAYMILL_DATASETS right? If it is the right folder, write"
        f" {text_of({'id': known.datasets})} into {datasets / DATASETS_MARKER}"
    )


def _within(store: Path, datasets: Path) -> bool:
    """Say whether a store lies in its datasets folder: then both are mounted, or none is."""
    return store.resolve().is_relative_to(datasets.resolve())


def _id_of(datasets: Path) -> str | None:
    value = read_json(datasets / DATASETS_MARKER)
    return None if value is None else str(value["id"])


def _mark(datasets: Path) -> str | None:
    put_if_absent(datasets / DATASETS_MARKER, {"id": _new_id()})
    return _id_of(datasets)  # which may be another's, who was first


def _new_id() -> str:
    return secrets.token_hex(16)

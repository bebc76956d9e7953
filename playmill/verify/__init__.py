"""Check a dataset file against every promise of the format.

Reads every byte once, and computes again what follows from something else in the file: frame times,
assignment, actions, the alignment report. Memory does not grow with features, pictures and raw
logs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from os import PathLike
from pathlib import Path

from playmill import schema
from playmill.dataset import Dataset, open_dataset
from playmill.errors import DatasetError
from playmill.verify.form import arrays, attributes
from playmill.verify.meaning import frames, inputs, synchronization
from playmill.verify.stored import stored_bytes, stored_text, text_digest

__all__ = ["report_beside", "text_digest", "verify"]

_STAGES = (
    (attributes, arrays),
    (stored_bytes, stored_text),
    (frames, inputs),
    (synchronization,),
)
"""Each stage relies on the ones before: where those find something, it is not run."""
_UNREADABLE = (
    OSError,
    LookupError,
    ValueError,
    ArithmeticError,
    RuntimeError,
    TypeError,
    DatasetError,
)
"""What h5py raises for a damaged file, and what follows from nonsense in it."""


def verify(path: str | PathLike[str]) -> list[str]:
    """Return a sentence for each broken promise of the dataset file `path`; empty: it is sound.

    A file that is missing, or no dataset, has one problem. When arrays are missing or damaged, what
    they mean is not looked at.
    """
    try:
        dataset = open_dataset(Path(path))
    except (DatasetError, OSError) as error:
        return [error.problem if isinstance(error, DatasetError) else str(error)]
    with dataset:
        for checks in _STAGES:
            problems = [problem for check in checks for problem in _run(check, dataset)]
            if problems:
                return problems
    return []


def report_beside(path: str | PathLike[str]) -> list[str]:
    """Return what is wrong with the alignment report beside the sound dataset `path`.

    Nothing is wrong with none: a dataset may have been moved without it.
    """
    beside = Path(path).with_name(schema.REPORT_FILE_NAME)
    if not beside.exists():
        return []
    with open_dataset(path) as dataset:
        own = {"dataset_key": dataset.dataset_key, "session_id": dataset.session_id}
        expected = own | dataset.report
    try:
        same = json.loads(beside.read_bytes()) == expected
    except (OSError, ValueError, RecursionError):
        same = False
    if same:
        return []
    return [f"{beside.name} beside it is not the report that the dataset holds; delete it"]


def _run(check: Callable[[Dataset], Iterator[str]], dataset: Dataset) -> Iterator[str]:
    try:
        yield from check(dataset)
    except _UNREADABLE as error:
        what = (check.__doc__ or "").split(":")[0].lower()
        yield f"{what} cannot be read: {type(error).__name__}: {error}"

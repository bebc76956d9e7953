"""What `playmill report` does: one page of a dataset, or the index of a folder and its pages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from playmill.dataset import Dataset, open_dataset
from playmill.errors import DatasetError, UsageError
from playmill.phrases import plural
from playmill.report import document, folder, index_page, page_file, pictures, session_page
from playmill.report.pictures import NoPictures, PictureSource

STORE_NAME = ".playmill"
"""Where the local mill keeps its store in the folder of datasets."""
NOT_WANTED = "No pictures: the page was asked for without."


@dataclass(frozen=True, kw_only=True, slots=True)
class Wishes:
    """The options of the command."""

    video: Path | None = None
    """The video of the dataset."""
    store: Path | None = None
    """The mill's store; None: the local mill's, if it lies in the folder of datasets."""
    with_pictures: bool = True


def write(path: Path, output: Path, wishes: Wishes, *, say: Callable[[str], None]) -> bool:
    """Write the page of the dataset `path`, or the index of the folder; say if all was readable.

    Args:
        say: takes a line about each page that was written.
    Raises:
        UsageError: wrong usage, found before anything is written.
        DatasetError: the dataset is damaged.
        OSError: a page cannot be written.
    """
    page_file.check_output(output)
    if wishes.store is not None and not (wishes.store / "jobs").is_dir():
        raise UsageError(f"--store {wishes.store}: is no store of the mill: it has no folder jobs")
    if path.is_dir():
        return _write_index(path, output, wishes, say)
    try:
        dataset = open_dataset(path)
    except FileNotFoundError as error:
        raise UsageError(f"{path}: there is no such file or folder") from error
    except DatasetError as error:
        raise UsageError(str(error)) from error
    with dataset:
        size = _write_session(dataset, output, wishes, wishes.store or _near(path))
    say(f"{output}: {size / 1e6:.1f} MB")
    return True


def _near(path: Path) -> Path:
    return path.resolve().parent.parent / STORE_NAME


def _write_session(dataset: Dataset, output: Path, wishes: Wishes, store: Path) -> int:
    """Write one page; return its size in bytes."""
    source: PictureSource = NoPictures(NOT_WANTED)
    if wishes.with_pictures:
        source = pictures.picture_source(dataset, video=wishes.video, store=store)
    try:
        page = session_page.page(dataset, source)
    except (KeyError, OSError, ValueError, RuntimeError, TypeError) as error:
        problem = f"cannot be read: {error}. `playmill verify` says what is wrong with it"
        raise DatasetError(str(dataset.path), problem) from error
    page_file.write_page(output, page)
    return len(page.encode())


def _write_index(path: Path, output: Path, wishes: Wishes, say: Callable[[str], None]) -> bool:
    if wishes.video is not None:
        raise UsageError("--video names the video of one dataset; name that dataset, not a folder")
    files = folder.dataset_files(path)
    if not files:
        raise UsageError(f"{path}: no dataset (session_ID/data.h5) in this folder")
    store = wishes.store or path / STORE_NAME
    pages = output.with_name(f"{output.stem}-pages")
    entries: list[folder.Entry] = []
    unreadable: list[folder.Unreadable] = []
    links: dict[Path, str] = {}
    for file in files:
        found = folder.read_entry(file)
        place = pages / f"{file.parent.relative_to(path)}.html"
        if isinstance(found, folder.Entry):
            try:
                _refresh(file, place, wishes, store, say)
                links[file] = place.relative_to(output.parent).as_posix()
                entries.append(found)
                continue
            except DatasetError as error:
                found = folder.Unreadable(path=file, why=str(error))
        unreadable.append(found)
    page = index_page.page(
        path.resolve().name or str(path), entries, unreadable, folder.failures(store), links
    )
    page_file.write_page(output, page)
    say(f"{output}: {plural(len(entries), 'dataset')}, {len(unreadable)} unreadable")
    return not unreadable


def _refresh(
    file: Path, place: Path, wishes: Wishes, store: Path, say: Callable[[str], None]
) -> None:
    """Write the page of one dataset, unless the one that lies there is of the same dataset."""
    with open_dataset(file) as dataset:
        key = session_page.page_key(dataset, with_pictures=wishes.with_pictures)
        fresh = document.generator(document.SESSION_PAGE, key)
        if place.exists() and page_file.made_as(place) == fresh:
            return
        place.parent.mkdir(parents=True, exist_ok=True)
        page_file.check_output(place)
        size = _write_session(dataset, place, wishes, store)
    say(f"{place}: {size / 1e6:.1f} MB")

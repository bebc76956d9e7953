"""DataStorage: write a dataset as schema.py says, and publish it whole.

Knows neither video nor log: it is given arrays. How a file comes into place is `publication`.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from playmill import failpoints, schema
from playmill.dataset import Dataset, open_dataset
from playmill.errors import DatasetError, SessionConflict, Superseded
from playmill.publishing.content import DatasetContent, FeatureBlocks, ImageBlocks
from playmill.publishing.dataset_writer import (
    open_spool,
    seal,
    write_features,
    write_images,
    write_labels,
)
from playmill.publishing.publication import Temporary, collect_stale, locked, write_text_whole
from playmill.publishing.synced_content import from_synced_data
from playmill.reading.row_reader import blocks
from playmill.verify import verify

if TYPE_CHECKING:
    from playmill.synchronizer import SyncedData

__all__ = ["DataStorage", "DatasetContent", "FeatureBlocks", "ImageBlocks", "session_folder"]

logger = logging.getLogger(__name__)

_SAFE_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")


def session_folder(session_id: str) -> str:
    """Return the name of the folder of session `session_id` inside the datasets folder.

    An id that is no safe folder name becomes a slug plus 8 hex digits of its sha256.
    """
    if _SAFE_ID.fullmatch(session_id) and not session_id.endswith("."):
        return f"session_{session_id}"
    slug = re.sub(r"[^A-Za-z0-9._-]+", "-", session_id).strip("-.")[:80] or "id"
    digest = hashlib.sha256(session_id.encode("utf-8", "surrogatepass")).hexdigest()
    return f"session_{slug}-{digest[:8]}"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Label:
    """What a dataset says of itself."""

    dataset_key: str
    video: dict[str, Any]


def _existing(target: Path) -> _Label | None:
    """Read what holds the target's name; None: nothing.

    Raises:
        DatasetError: something does that is no dataset.
    """
    try:
        with open_dataset(target) as dataset:
            video = dataset.provenance.get("video")
            if not isinstance(video, dict) or not {"name", "digest"} <= set(video):
                raise DatasetError(str(target), "does not say which video it is of")
            return _Label(dataset_key=dataset.dataset_key, video=video)
    except FileNotFoundError:
        return None


def is_published(
    datasets: Path, *, session_id: str, dataset_key: str, video: Mapping[str, Any]
) -> bool:
    """Say whether a datasets folder holds this dataset already; changes nothing.

    Args:
        video: its name and digest.
    Raises:
        SessionConflict: the name is taken by the dataset of another video.
        DatasetError: the name is taken by something that is no dataset.
    """
    target = datasets / session_folder(session_id) / schema.FILE_NAME
    label = _Label(dataset_key=dataset_key, video=dict(video))
    return _holds(target, label, session_id=session_id)


def _check(path: Path, target: Path) -> None:
    problems = verify(path)
    if problems:
        more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
        raise DatasetError(str(target), "not published: " + "; ".join(problems[:3]) + more)


class DataStorage:
    """The datasets folder, for writing."""

    def __init__(self, base_path: Path) -> None:
        self.base_path = Path(base_path)
        self.base_path.mkdir(parents=True, exist_ok=True)
        self._session: tuple[str, dict[str, Any]] | None = None
        self._items: list[SyncedData] = []

    def path(self, session_id: str) -> Path:
        """Return where the dataset of `session_id` is, or will be."""
        return self.base_path / session_folder(session_id) / schema.FILE_NAME

    def write(
        self,
        content: DatasetContent,
        *,
        features: Iterable[FeatureBlocks] = (),
        images: ImageBlocks | None = None,
        claim: Callable[[], bool] = lambda: True,
    ) -> Path:
        """Write and publish one dataset; return its path.

        A file with the same dataset_key stays as it is. A file of the same video with another key
        is replaced, and the features of other encoders in it are carried over.

        Args:
            content: everything but features and pictures.
            features: one entry an encoder; blocks are read once, never more than one held.
            images: read once, as features are; None: no pictures are stored.
            claim: called before the target changes, once more under the folder's lock if it is
                replaced; False: it belongs to somebody else by now.
        Raises:
            Superseded: `claim` said no; nothing has changed.
            SessionConflict: the name is taken by the dataset of another video.
            DatasetError: the content breaks a promise of the format, or the name is taken by
                something that is no dataset.
            OSError: writing failed (disk full, ...); nothing has changed then.
        """
        session_id = content.session_id
        label = _Label(dataset_key=content.dataset_key, video=content.provenance["video"])
        target = self.path(session_id)
        if _holds(target, label, session_id=session_id):
            collect_stale(target)  # who published it may have died a moment later
            self._published(target)
            return target
        with Temporary(target) as temporary:
            with temporary.spool() as spool, open_spool(spool, "w") as file:
                failpoints.reached("publish:file-created")
                write_labels(file, content)
                del content  # checking takes as much memory again
                failpoints.reached("publish:labels-written")
                for entry in features:
                    write_features(file, entry, session_id=session_id)
                failpoints.reached("publish:features-written")
                if images is not None:
                    write_images(file, images, session_id=session_id)
                seal(file)
            failpoints.reached("publish:file-closed")
            if not target.exists():
                with temporary.flushing():
                    _check(temporary.path, target)
                _claim(claim, target)
                if temporary.publish_new():
                    self._published(target)
                    return target
            with locked(target.parent):
                if not _holds(target, label, session_id=session_id):
                    _claim(claim, target)
                    _carry_over(temporary, target, session_id=session_id)
                    _check(temporary.path, target)
                    temporary.replace_target()
        self._published(target)
        return target

    def _published(self, target: Path) -> None:
        """Leave beside a published dataset what belongs there, and nothing that it has outlived."""
        _report_beside(target)
        failed = _failed_path(target)
        if failed.exists():
            failed.unlink(missing_ok=True)
            with suppress(OSError):  # others' reports lie in it
                failed.parent.rmdir()

    # ---- what is not published ------------------------------------------------------------------

    def failed_path(self, session_id: str) -> Path:
        """Return where `keep_failed` keeps the alignment report of `session_id`."""
        return _failed_path(self.path(session_id))

    def keep_failed(self, content: DatasetContent, *, recording: str, why: str) -> Path:
        """Keep the alignment report of a recording that must not be published; return its path.

        It lies there until a dataset of the session is published, or the next one fails.

        Args:
            recording: its path.
            why: the error.
        """
        path = self.failed_path(content.session_id)
        text = _report_text(
            content.session_id,
            content.dataset_key,
            {**content.report, "recording": recording, "error": why},
        )
        while True:
            path.parent.mkdir(exist_ok=True)
            # Whoever publishes another recording removes the folder while it is empty.
            with suppress(FileNotFoundError):
                write_text_whole(path, text)
                return path

    # ---- the one-item form ----------------------------------------------------------------------

    def start_session(self, session_id: str, metadata: dict[str, Any]) -> str:
        """Begin collecting the frames of one session; return its id."""
        self._session, self._items = (session_id, metadata), []
        return session_id

    def save_synced_data(self, data: list[SyncedData]) -> None:
        """Add frames to the session, in any order.

        Raises:
            ValueError: no session was started.
        """
        if self._session is None:
            raise ValueError("No active session")
        self._items.extend(data)

    def end_session(self) -> Path:
        """Write and publish the session's dataset; return its path. Raises as `write` does.

        Raises:
            ValueError: no session was started, or it has no frame.
        """
        if self._session is None:
            raise ValueError("No active session")
        content, features = from_synced_data(*self._session, self._items)
        path = self.write(content, features=[features])
        self._session, self._items = None, []
        return path

    def __enter__(self) -> DataStorage:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None and self._session is not None:
            self.end_session()
        self._session, self._items = None, []


def _report_beside(target: Path) -> None:
    """Write the alignment report of the published file beside it, for those who read no HDF5.

    It is taken from the file, so that whoever comes last writes what the file says.
    """
    with open_dataset(target) as dataset:
        if not dataset.report:  # frames given one by one
            return
    with locked(target.parent), open_dataset(target) as dataset:
        text = _report_text(dataset.session_id, dataset.dataset_key, dataset.report)
        write_text_whole(target.with_name(schema.REPORT_FILE_NAME), text)


def _report_text(session_id: str, dataset_key: str, report: Mapping[str, Any]) -> str:
    value = {"dataset_key": dataset_key, "session_id": session_id, **report}
    return json.dumps(value, indent=1, sort_keys=True) + "\n"


def _failed_path(target: Path) -> Path:
    """Return where the report of a recording lies that has not become `target`."""
    name = f"{target.parent.name}.{schema.REPORT_FILE_NAME}"
    return target.parent.parent / schema.FAILED_FOLDER / name


def _claim(claim: Callable[[], bool], target: Path) -> None:
    if not claim():
        raise Superseded(str(target))


def _holds(target: Path, label: _Label, *, session_id: str) -> bool:
    """Say whether `target` is the dataset of `label`'s key already; refuse another video's."""
    existing = _existing(target)
    if existing is None:
        return False
    mine, theirs = label.video, existing.video
    if theirs["digest"] != mine["digest"]:
        raise SessionConflict(
            str(target),
            f"session {session_id!r}",
            f"the dataset of another video, {theirs['name']} (sha256 {theirs['digest'][:16]}...)",
            f"none, or that of {mine['name']} (sha256 {mine['digest'][:16]}...)",
            "Give one of the two recordings another session_id, or another datasets folder.",
        )
    return existing.dataset_key == label.dataset_key


def _carry_over(temporary: Temporary, target: Path, *, session_id: str) -> None:
    """Copy into `temporary` the features that only `target` has, as far as they are sound."""
    if not target.exists():
        return
    with (
        open_dataset(target) as old,
        temporary.spool() as spool,
        open_spool(spool, "r+") as file,
    ):
        if not _same_frames(old, file["/frames/pts"][...]):
            return
        for key in sorted(set(old.feature_keys) - set(file["/features"])):
            try:
                write_features(file, stored_features(old.features(key), key), session_id=session_id)
            except (OSError, LookupError, RuntimeError, ValueError) as error:
                spool.raise_error()
                if key in file["/features"]:
                    del file["/features"][key]
                logger.warning("%s: features %s are damaged and left out: %s", target, key, error)


def _same_frames(old: Dataset, pts: NDArray[np.int64]) -> bool:
    try:
        return np.array_equal(old.pts, pts)
    except DatasetError as error:
        logger.warning("%s; its features are left out", error)
        return False


def stored_features(node: Any, key: str) -> FeatureBlocks:
    """Return the features in `node`, an array of a dataset that stays open, for writing anew."""
    return FeatureBlocks(
        key=key,
        dim=node.shape[1],
        attrs={name: str(node.attrs[name]) for name in schema.FEATURE_ATTRS},
        blocks=blocks(node),
    )
